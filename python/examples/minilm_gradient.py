#!/usr/bin/env python3
"""Loss and gradient of a six-layer BERT encoder (all-MiniLM-L6-v2) in numpy, for learning a pack from a few rows.

The loss is the Kullback-Leibler divergence of the model's outputs from the fine-tuned model's, so that rows need no labels.

    minilm_gradient.py DATA FINE_TUNED TASK

checks the gradient against finite differences. DATA is a folder with tasks/TASK.npz: few_ids (rows of token ids), few_len,
head_weight and head_bias. FINE_TUNED is the fine-tuned encoder, a .safetensors file. Needs numpy and nothing else.
"""

import json
import sys
from pathlib import Path

import numpy as np

LAYERS, HEADS, WIDTH = 6, 12, 384
EMBEDDINGS = "embeddings."


class Gradient:
    """Called with the numbers of a batch and the parameters by name, gives the loss and its gradients by name."""

    def __init__(self, data, fine_tuned, task, rows=48):
        arrays = np.load(Path(data) / "tasks" / f"{task}.npz")
        self.weight, self.bias = arrays["head_weight"], arrays["head_bias"]
        self.ids, self.lengths = arrays["few_ids"], arrays["few_len"].astype(int)
        self.rows = min(rows, len(self.lengths))
        self.wanted = self.shares(read(fine_tuned), Batch(self.ids, self.lengths))

    def __call__(self, seed, step, parameters):
        """`parameters` are arrays of float32 in the shapes of the checkpoint."""
        chosen = self.chosen(seed, step)
        batch = Batch(self.ids[chosen], self.lengths[chosen])
        pooled, cache = forward(parameters, batch)
        wanted = self.wanted[chosen][batch.order]
        found = softmax(pooled @ self.weight.T + self.bias)
        gradients = {name: np.zeros_like(value) for name, value in parameters.items()}
        backward(parameters, gradients, batch, cache, (found - wanted) @ self.weight / np.float32(len(chosen)))
        return float((wanted * np.log((wanted + 1e-9) / (found + 1e-9))).sum(1).mean()), gradients

    def chosen(self, seed, step):
        """The rows of a batch: all rows in a random order, then all in another, and so on."""
        n = len(self.lengths)
        places = range(step * self.rows, (step + 1) * self.rows)
        return np.array([np.random.default_rng((seed, p // n)).permutation(n)[p % n] for p in places])

    def shares(self, parameters, batch):
        out = np.empty((len(batch.lengths), len(self.bias)), np.float32)
        out[batch.order] = softmax(forward(parameters, batch)[0] @ self.weight.T + self.bias)
        return out


class Batch:
    """Rows sorted by length and put one after another without padding."""

    def __init__(self, ids, lengths):
        self.order = np.argsort(lengths, kind="stable")
        self.lengths = lengths[self.order]
        self.tokens = np.concatenate([ids[i, :n] for i, n in zip(self.order, self.lengths)]).astype(np.int64)
        self.places = np.concatenate([np.arange(n) for n in self.lengths])
        self.groups, start, row = [], 0, 0
        for n in np.unique(self.lengths):
            count = int((self.lengths == n).sum())
            self.groups.append((slice(row, row + count), slice(start, start + count * n), count, int(n)))
            row, start = row + count, start + count * n


def read(path):
    """The float tensors of a safetensors file as float32."""
    raw = Path(path).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    out = {}
    for name, entry in json.loads(raw[8 : 8 + size]).items():
        if name == "__metadata__" or entry["dtype"] not in ("BF16", "F16", "F32"):
            continue
        begin, end = entry["data_offsets"]
        part = raw[8 + size + begin : 8 + size + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(part, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(part, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype(np.float32)
        out[name] = values.reshape(entry["shape"])
    return out


def softmax(scores):
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def gelu(x):
    """GELU and its derivative; erf by Abramowitz and Stegun 7.1.26, off by less than 1.5e-7."""
    f = np.float32
    a = np.abs(x) * f(0.70710678)
    t, e = f(1) / (f(1) + f(0.3275911) * a), np.exp(-a * a)
    series = ((((f(1.061405429) * t - f(1.453152027)) * t + f(1.421413741)) * t - f(0.284496736)) * t + f(0.254829592)) * t
    half = f(0.5) * (f(1) + np.sign(x) * (f(1) - series * e))
    return x * half, half + x * e * f(0.39894228)


def normalize(x, p, name):
    x = x - x.mean(-1, keepdims=True)
    rate = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(1e-12))
    x = x * rate
    return x * p[name + ".weight"] + p[name + ".bias"], (x, rate)


def normalize_back(d, cache, p, g, name):
    x, rate = cache
    g[name + ".weight"] += (d * x).sum(0)
    g[name + ".bias"] += d.sum(0)
    d = d * p[name + ".weight"]
    return rate * (d - d.mean(-1, keepdims=True) - x * (d * x).mean(-1, keepdims=True))


def linear(x, p, name):
    return x @ p[name + ".weight"].T + p[name + ".bias"]


def linear_back(d, x, p, g, name):
    g[name + ".weight"] += d.T @ x
    g[name + ".bias"] += d.sum(0)
    return d @ p[name + ".weight"]


def split(x, count, n):
    return np.ascontiguousarray(x.reshape(count, n, HEADS, -1).transpose(0, 2, 1, 3))


def join(x, count, n):
    return x.transpose(0, 2, 1, 3).reshape(count * n, WIDTH)


def swap(x):
    return x.transpose(0, 1, 3, 2)


def forward(p, batch):
    """Mean-pooled outputs in the order of the batch, and what going back needs."""
    x = p[EMBEDDINGS + "word_embeddings.weight"][batch.tokens]
    x = x + p[EMBEDDINGS + "position_embeddings.weight"][batch.places] + p[EMBEDDINGS + "token_type_embeddings.weight"][0]
    x, first = normalize(x, p, EMBEDDINGS + "LayerNorm")
    caches, scale = [], np.float32((WIDTH // HEADS) ** -0.5)
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}."
        query, key, value = (linear(x, p, layer + "attention.self." + part) for part in ("query", "key", "value"))
        mixed, heads = np.empty_like(query), []
        for _, at, count, n in batch.groups:
            q, k, v = (split(part[at], count, n) for part in (query, key, value))
            a = softmax(q @ swap(k) * scale)
            mixed[at] = join(a @ v, count, n)
            heads.append((q, k, v, a))
        y, norm = normalize(x + linear(mixed, p, layer + "attention.output.dense"), p, layer + "attention.output.LayerNorm")
        wide, slope = gelu(linear(y, p, layer + "intermediate.dense"))
        z, last = normalize(y + linear(wide, p, layer + "output.dense"), p, layer + "output.LayerNorm")
        caches.append((x, heads, mixed, norm, y, slope, wide, last))
        x = z
    pooled = np.empty((len(batch.lengths), WIDTH), np.float32)
    for rows, at, count, n in batch.groups:
        pooled[rows] = x[at].reshape(count, n, WIDTH).mean(1)
    return pooled, (first, caches)


def backward(p, g, batch, cache, d_pooled):
    """Adds the gradients to `g`, from those of the pooled outputs."""
    first, caches = cache
    d, scale = np.empty((len(batch.tokens), WIDTH), np.float32), np.float32((WIDTH // HEADS) ** -0.5)
    for rows, at, _, n in batch.groups:
        d[at] = np.repeat(d_pooled[rows] / np.float32(n), n, axis=0)
    for i in reversed(range(LAYERS)):
        layer = f"encoder.layer.{i}."
        x, heads, mixed, norm, y, slope, wide, last = caches[i]
        d = normalize_back(d, last, p, g, layer + "output.LayerNorm")
        d_wide = linear_back(d, wide, p, g, layer + "output.dense") * slope
        d = d + linear_back(d_wide, y, p, g, layer + "intermediate.dense")
        d = normalize_back(d, norm, p, g, layer + "attention.output.LayerNorm")
        d_mixed = linear_back(d, mixed, p, g, layer + "attention.output.dense")
        d_query, d_key, d_value = (np.empty_like(d_mixed) for _ in range(3))
        for (_, at, count, n), (q, k, v, a) in zip(batch.groups, heads):
            d_out = split(d_mixed[at], count, n)
            d_value[at] = join(swap(a) @ d_out, count, n)
            d_a = d_out @ swap(v)
            d_scores = a * (d_a - (d_a * a).sum(-1, keepdims=True)) * scale
            d_query[at], d_key[at] = join(d_scores @ k, count, n), join(swap(d_scores) @ q, count, n)
        for part, d_part in (("query", d_query), ("key", d_key), ("value", d_value)):
            d = d + linear_back(d_part, x, p, g, layer + "attention.self." + part)
    d = normalize_back(d, first, p, g, EMBEDDINGS + "LayerNorm")
    np.add.at(g[EMBEDDINGS + "word_embeddings.weight"], batch.tokens, d)
    np.add.at(g[EMBEDDINGS + "position_embeddings.weight"], batch.places, d)
    g[EMBEDDINGS + "token_type_embeddings.weight"][0] += d.sum(0)


def check(data, fine_tuned, task):
    """Compares slopes with differences of the loss, along the gradient of each tensor, a little off the fine-tuned model."""
    gradient, tuned = Gradient(data, fine_tuned, task), read(fine_tuned)
    random = np.random.default_rng(0)
    at = {name: v + np.float32(0.02 * v.std()) * random.standard_normal(v.shape, np.float32) for name, v in tuned.items()}
    loss, slopes = gradient(0, 0, at)
    print(f"loss {loss:.6f}")
    for name, slope in slopes.items():
        norm = float(np.linalg.norm(slope))
        if norm < 1e-3:
            continue
        step = slope / np.float32(norm) * np.float32(1e-2)
        ahead, behind = (gradient(0, 0, {**at, name: at[name] + sign * step})[0] for sign in (1, -1))
        print(f"{name:60} {norm:.5f} {(ahead - behind) / 2e-2:.5f}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    check(*sys.argv[1:])
