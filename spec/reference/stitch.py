#!/usr/bin/env python3
"""Checkpoints, binding and merging, slow and obvious, in exact f32 and f64 arithmetic ("numbers.md"). See `reader.py`."""
import json, math, os
from reader import (BY_NAME, CODEBOOK, KIND_BITS, KIND_FLOAT, SIGN, STEP, check_name, digest, f32, limit, load, need,
                    plain_name, run, sized, tensor_size, u64, units_of)

# ---------------------------------------------------------------- checkpoints

class Checkpoint:
    """A safetensors file or a folder. `files` holds (header, metadata, [names in the order of the data]),
    `tensors` maps each name to (dtype, shape, bytes)."""
    def __init__(self, path):
        self.files, self.tensors = [], {}
        if not os.path.isdir(path):
            self.read_file(path)
            return
        names = sorted(n for n in os.listdir(path) if os.path.isfile(os.path.join(path, n)))
        indexes = [n for n in names if n.endswith(".safetensors.index.json")]
        weights, listed = [n for n in names if n.endswith(".safetensors")], {}
        if indexes:  # CKP-3, CKP-4
            index = indexes[0] if "model.safetensors.index.json" not in indexes else "model.safetensors.index.json"
            with open(os.path.join(path, index), "rb") as f:
                listed = parse_json(f.read(), "CKP-4")
            listed = listed.get("weight_map") if isinstance(listed, dict) else None
            need(isinstance(listed, dict), "CKP-4", "index")
            need(all(isinstance(n, str) and plain_name(n) for n in listed.values()), "CKP-4", "a file name")
            weights = sorted(set(listed.values()))
        elif "model.safetensors" in weights:
            weights = ["model.safetensors"]
        need(indexes or len(weights) == 1, "CKP-3", "which file?")
        for name in weights:
            self.read_file(os.path.join(path, name))
            here = self.files[-1][2]
            need(all(t in here for t, f in listed.items() if f == name), "CKP-4", "a tensor is not where the index says")

    def read_file(self, path):
        """CKP-1, CKP-5."""
        with open(path, "rb") as f:
            data = f.read()
        need(len(data) >= 8, "CKP-1", "too short")
        end = 8 + int.from_bytes(data[:8], "little")
        limit("header_bytes", end - 8)
        need(end <= len(data) and data[8:9] == b"{", "CKP-1", "header")
        header = parse_json(data[8:end], "CKP-1")
        metadata = header.pop("__metadata__", None)
        need(metadata is None or isinstance(metadata, dict), "CKP-1", "metadata")
        need(all(isinstance(v, str) for v in (metadata or {}).values()), "CKP-1", "metadata")
        limit("tensors", len(header))
        try:
            entries = sorted(header.items(), key=lambda e: e[1]["data_offsets"])  # empty ones stay in the header's order
            entries = [(n, BY_NAME[e["dtype"]], tuple(e["shape"]), *e["data_offsets"]) for n, e in entries]
        except (KeyError, TypeError, ValueError) as error:
            need(False, "CKP-1", str(error))
        at = 0
        for name, dtype, shape, start, stop in entries:
            need(all(type(n) is int and 0 <= n < 2**64 for n in (*shape, start, stop)), "CKP-1", "numbers")
            check_name(name)
            need(start == at and stop - start == tensor_size(dtype, shape), "CKP-1", f"place of {name}")
            need(name not in self.tensors, "CKP-5", f"{name} twice")
            at, self.tensors[name] = stop, (dtype, shape, data[end + start:end + stop])
        need(at == len(data) - end, "CKP-1", "data without a tensor")
        self.files.append((data[8:end], metadata, [e[0] for e in entries]))

    def digest(self):
        return checkpoint_digest(self.tensors)

def parse_json(data, rule):
    def no_twins(pairs):
        need(len(dict(pairs)) == len(pairs), rule, "a key stands twice")
        return dict(pairs)
    def no_constant(name):
        raise ValueError(name)
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=no_twins, parse_constant=no_constant)
    except ValueError as error:
        need(False, rule, str(error))

def checkpoint_digest(tensors):
    """ "Base identity", BAS-1."""
    parts = []
    for name in sorted(tensors, key=str.encode):
        dtype, shape, data = tensors[name]
        parts += [sized(name), bytes([dtype.code]), u64(len(shape)), *map(u64, shape), digest("tensor", data)]
    return digest("checkpoint", b"".join(parts))

def bind(pack, base, whole=True):
    """BAS-2; BAS-3 where the whole of the base is not digested."""
    for r in pack.rows:
        if r.own.base is not None:
            there = base.tensors.get(r.name)
            need(there and there[:2] == (r.dtype, r.shape) and digest("tensor", there[2]) == r.own.base,
                 "BAS-2", f"tensor {r.name}", "wrong-base")
    whole = whole or set(base.tensors) <= {r.name for r in pack.rows if r.own.base is not None}
    need(not whole or base.digest() == pack.base, "BAS-2", "checkpoint", "wrong-base")

# ---------------------------------------------------------------- stitching

RULES = ("average", "weighted-average", "sum", "elect", "max", "priority", "refuse")

def dequantize(o, position, code):
    """VAL-4: δ of a lossy delta, in real arithmetic."""
    R = o.dtype.R
    if o.kind in KIND_FLOAT:
        return R(KIND_FLOAT[o.kind].decode(code))
    if o.kind == CODEBOOK:
        return R(o.levels[code])
    scale = R(o.scales[position // o.row_len if o.groups else 0])
    if o.kind == SIGN:
        return R((-1.0 if code else 1.0) * scale)
    half = 1 << (KIND_BITS[o.kind] - 1)
    return R(float(code - 2 * half if code >= half else code) * scale)

def total(R, terms):
    """STI-4: a sum adds from left to right, beginning with the first term."""
    f = terms[0]
    for t in terms[1:]:
        f = R(f + t)
    return f

def overlap(R, rule, named):
    """STI-4: f from the (d, w) of A, in the order of naming."""
    need(rule != "refuse" or len(named) == 1, "STI-4", "overlap under refuse", "refused")
    if rule in ("priority", "refuse"):
        return named[0][0]
    d = sorted((d for d, _ in named), key=lambda x: (math.isnan(x), x, math.copysign(1, x)))
    f = total(R, d)
    if math.isnan(f):
        return f
    if rule == "max":
        return max(reversed(d), key=abs)  # of equal ones the last
    if rule == "average":
        return R(f / R(float(len(d))))
    if rule == "weighted-average":
        w = total(R, [R(w) for w in sorted(w for _, w in named)])
        return R(f / w) if w != 0 else f
    if rule == "elect":
        d = [x for x in d if (x < 0 if f < 0 else x > 0)]
        return R(total(R, d) / R(float(len(d)))) if d else 0.0
    return f

def merge(base, packs, rule=None, lam=1.0, gain="auto", gains=None, whole=True):
    """The tensors of a merge of [(pack, weight)] on a base, each (dtype, shape, bytes). `gains`, a pack's and those of its
    tensors by name, one pair a pack, is for recipes (GAI-2); `rule` None is the default, not given explicitly (STI-9)."""
    limit("packs", len(packs))
    need(all(math.isfinite(x) for x in [lam] + [w for _, w in packs]), "STI-8", "not finite", "refused")
    need(len({p.id for p, _ in packs}) == len(packs), "STI-8", "a pack twice", "refused")
    for pack, _ in packs:
        bind(pack, base, whole)
    lam, play = f32(lam), []
    for i, (pack, w) in enumerate(packs):
        g, own = gains[i] if gains else (pack.gain if gain in ("auto", "stored") else 1.0 if gain == "none" else gain, {})
        if f32(w) != 0:
            play.append((pack, f32(w), f32(g), {name: f32(x) for name, x in own.items()}))
    need(rule or len({p.all_steps for p, *_ in play}) < 2, "STI-9", "packs of steps and lossy packs", "refused")
    rule, touched, result, overflows = rule or "average", {}, dict(base.tensors), []
    for pack, w, g, own in play:
        holder = {id(r.own): r.name for r in pack.rows if r.owner}
        for r in pack.rows:
            its = own.get(holder[id(r.own)], g)
            touched.setdefault(r.name, []).append((r, w, 1.0 if r.own.kind == STEP else its))
    for name in sorted(touched, key=str.encode):
        parts, dtype = touched[name], touched[name][0][0].dtype
        if not dtype.float or any(r.own.base is None for r, _, _ in parts):  # STI-5
            need(len(parts) == 1 and parts[0][1] == 1 and lam == 1, "STI-5", name, "refused")
        shape, size = parts[0][0].shape, parts[0][0].bytes
        carried = parts[0][0].own.base is None
        units = units_of(dtype, bytes(size) if carried else base.tensors[name][2])
        kept = {}
        for r, w, g in parts:
            for position, code in zip(r.own.positions, r.own.codes):
                kept.setdefault(position, []).append((r.own, w, g, code))
        for position, here in kept.items():
            new = stitch(dtype, units[position], position, here, rule, lam)
            if new is None:
                overflows.append(name)
            else:
                units[position] = new
        result[name] = (dtype, shape, b"".join(u.to_bytes(dtype.unit, "little") for u in units))
    need(not overflows, "STI-7", f"{len(overflows)} elements, first in {overflows[:1]}", "refused")
    return result

def stitch(dtype, unit, position, here, rule, lam):
    """STI-1 to STI-7 for one unit; None where it overflows."""
    R, named = dtype.R, []
    if len(here) == 1 and here[0][0].kind == STEP and here[0][1] == 1 and lam == 1:
        return dtype.step(unit, here[0][3])  # STI-5, STI-6
    base = dtype.decode(unit)
    for own, w, g, code in here:
        if own.kind == STEP:
            delta = R(R(dtype.decode(dtype.step(unit, code))) - R(base))
        else:
            delta = dequantize(own, position, code)
        named.append((R(R(R(w) * R(g)) * delta), w))
    f = overlap(R, rule, named)
    if not math.isfinite(base):
        return unit  # STI-3
    new = dtype.encode(R(R(base) + R(R(lam) * f)))
    return new if dtype.finite(new) else None  # STI-7

def result_digest(pack, base):
    """RES-1."""
    merged = merge(base, [(pack, 1.0)])
    return checkpoint_digest({r.name: merged[r.name] for r in pack.rows})

def model_file(base, merged):
    """OUT-1, CKP-2: the bytes of a merged model as one file."""
    order = [n for _, _, names in base.files for n in names]
    header, metadata, _ = base.files[0] if base.files else (b"", None, [])
    if len(base.files) != 1 or any(n not in base.tensors or merged[n][:2] != base.tensors[n][:2] for n in merged):
        order += sorted((n for n in merged if n not in base.tensors), key=str.encode)
        entries, at = {}, 0
        if metadata is not None:
            entries["__metadata__"] = {k: metadata[k] for k in sorted(metadata, key=str.encode)}
        for n in order:
            dtype, shape, data = merged[n]
            entries[n] = dict(dtype=dtype.name, shape=list(shape), data_offsets=[at, at + len(data)])
            at += len(data)
        header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
    return u64(len(header)) + header + b"".join(merged[n][2] for n in order)

def check_recipe(data, base, packs):
    """REC-1, REC-2: recomputes what `stitch.json` describes from packs by id, and compares."""
    r = parse_json(data, "REC-1")
    def members(o, names):
        need(isinstance(o, dict) and set(o) == set(names.split()), "REC-1", "members")
    need(isinstance(r, dict) and type(r.get("stitch_recipe")) is int, "REC-1", "version")
    need(r["stitch_recipe"] <= 2, "REC-1", "version", "unsupported")
    members(r, "stitch_recipe base packs overlap lambda result")
    need(r["stitch_recipe"] >= 1 and isinstance(r["packs"], list), "REC-1", "values")
    need(r["overlap"] in RULES, "REC-1", "overlap rule", "unsupported")
    by_id, named, gains = {p.id.hex(): p for p in packs}, [], []
    for p in r["packs"]:
        own = p.pop("tensor_gains", None) if isinstance(p, dict) else None
        members(p, "file id weight gain")
        need(p["id"] in by_id, "REC-1", "a pack is not at hand")
        named.append((by_id[p["id"]], p["weight"]))
        if own is not None:
            need(isinstance(own, dict) and own, "REC-2", "gains of tensors")
            need(set(own) <= {x.name for x in by_id[p["id"]].rows if x.owner}, "REC-2", "a gain for a tensor that the pack has not")
        gains.append((p["gain"], own or {}))
    need(r["stitch_recipe"] == (2 if any(own for _, own in gains) else 1), "REC-2", "version")
    need(all(0 < f32(x) < math.inf for g, own in gains for x in (g, *own.values())), "REC-1", "a gain")
    need(base.digest().hex() == r["base"], "REC-1", "another base", "wrong-base")
    merged = merge(base, named, r["overlap"], r["lambda"], gains=gains)
    need(checkpoint_digest(merged).hex() == r["result"], "REC-1", "another result", "integrity")
    return merged

def main(base, out, rule, lam, *packs):
    """stitch.py BASE OUT.safetensors RULE LAMBDA PACK@WEIGHT..."""
    base, packs = Checkpoint(base), [p.rpartition("@") for p in packs]
    merged = merge(base, [(load(p, base.tensors), float(w)) for p, _, w in packs], rule, float(lam))
    with open(out, "wb") as f:
        f.write(model_file(base, merged))
    print(f"result {checkpoint_digest(merged).hex()}")

if __name__ == "__main__":
    run(main)
