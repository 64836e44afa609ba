#!/usr/bin/env python3
"""Checks a `stitchpack` binary, and the fixtures, against the reference reader.

    check.py [--vectors DIR]                            the fixtures (default: ../vectors)
    check.py --binary PATH --random N [--seed S]        N random pairs of checkpoints

For each pair the binary makes a pack with random options. The reference reads it, computes by itself what it must hold
(numbers.md), applies it, and compares every byte; then merges of several packs; then the same content in another
encoding, coders and classes included, and damaged and forged packs, on which both readers must agree.
"""
import argparse, collections, itertools, json, math, os, random, shutil, struct, subprocess, sys, tempfile, time
import zstandard
from reader import (BF16, BY_NAME, CODEBOOK, DEAD, DTYPES, F16, F32, INT4, INT8, KIND_BITS, KIND_FLOAT, KINDS, SCALED, SIGN,
                    STEP, Coder, Cursor, Own, Pack, SpecError, Table, base_units, by_class, code_bits, digest, f32, gap_table, load,
                    needs_base, row_count, sized, u64, unit_classes, units_of)
from stitch import RULES, Checkpoint, bind, check_recipe, checkpoint_digest, dequantize, merge, model_file, result_digest

EXITS = {3: "malformed", 4: "integrity", 5: "wrong-base", 6: "refused", 8: "unsupported"}

class Failed(Exception):
    """A disagreement."""

def must(ok, text):
    if not ok:
        raise Failed(text)

# ---------------------------------------------------------------- random checkpoints

NAMES = ["a", "A", "a.weight", "a.b", "lm_head.weight", "embed.weight", "модель.ω", "a b", "x/../y", 'q"u\\o', "😀",
         "z" * 120, "__metadata", "~", "Ā", "layers.0.q", "layers.0.k", "layers.10.q", "layers.2.q", "-", "{}", "e\u0301",
         "\u00e9", "\uffff", "\U00010000", "bias", "norm"]

def pack_units(dtype, units):
    return b"".join(u.to_bytes(dtype.unit, "little") for u in units)

def random_shape(rng, dtype):
    if rng.random() < 0.08:
        return rng.choice([(0,), (3, 0), (0, 4), (0, 0)])
    if rng.random() < 0.1 and dtype.bits >= 8:
        return ()
    if rng.random() < 0.01 and dtype.bits in (8, 16):  # several blocks of the writer
        return rng.choice([(600, 500), (270001,), (2, 131073)])
    if rng.random() < 0.12 and dtype.bits >= 8:  # enough for the writer to learn classes from
        return rng.choice([(40, 64), (64, 50), (9, 300), (2, 30, 40), (1500,), (20, 4, 3, 9)])
    shape = tuple(rng.randint(1, 14) for _ in range(rng.choice([1, 1, 2, 2, 2, 3, 4])))
    if rng.random() < 0.2:
        shape = (rng.randint(15, 400),) + shape[1:2]
    return shape if dtype.bits >= 8 else shape + (4,)

def random_value(rng, dtype, wild):
    """A unit of a float dtype."""
    if wild and rng.random() < 0.3:
        return rng.getrandbits(dtype.unit_bits)
    kind = rng.random()
    if kind < 0.4:
        return dtype.encode(rng.randint(-8, 8) / 8)
    if kind < 0.45:
        return dtype.encode(-0.0)
    return dtype.encode(rng.gauss(0, 1) * (rng.choice([1, 1, 1, 1e-3, 30]) if wild else 1))

def random_tensor(rng, dtype, shape, wild):
    count = math.prod(shape) * dtype.bits // 8 // dtype.unit
    if not dtype.float:
        return rng.randbytes(count * dtype.unit) if dtype.name != "BOOL" else bytes(rng.choices([0, 1], k=count))
    if count > 5000:
        some = [random_value(rng, dtype, wild) for _ in range(500)]
        return pack_units(dtype, rng.choices(some, k=count))
    return pack_units(dtype, [random_value(rng, dtype, wild) for _ in range(count)])

def random_base(rng):
    tensors, floats = {}, [d for d in DTYPES.values() if d.float]
    some = floats if rng.random() < 0.5 else list(DTYPES.values()) + floats * 2
    for name in rng.sample(NAMES, rng.choice([0, 1, 2, 3, 5, 8])):
        dtype = rng.choice(some)
        twins = [t for t in tensors.values() if len(t[1]) > 1]
        if twins and rng.random() < 0.2:
            tensors[name] = rng.choice(twins)
        else:
            shape = random_shape(rng, dtype)
            tensors[name] = (dtype, shape, random_tensor(rng, dtype, shape, rng.random() < 0.5))
    return tensors

def change(rng, tensor, wild):
    """Another tensor of the same dtype and shape. Unless wild, no infinity or NaN comes or goes."""
    dtype, shape, data = tensor
    how, units = rng.random(), units_of(dtype, data)
    if how < 0.15:
        return tensor
    if how < 0.2 and wild:
        return dtype, shape, rng.randbytes(len(data))
    share, row = rng.choice([0.02, 0.3, 1]), max(1, len(units) // (shape[0] if shape and shape[0] else 1))
    for i in range(len(units)):
        if rng.random() >= share or how < 0.4 and i // row % 2:
            continue
        if not dtype.float:
            units[i] = rng.choice([units[i] ^ 1, rng.getrandbits(dtype.unit_bits), units[i]])
            units[i] &= 1 if dtype.name == "BOOL" else -1
        elif wild:
            units[i] = rng.choice([random_value(rng, dtype, True), units[i] ^ dtype.sign, dtype.step(units[i], 1)])
        elif dtype.finite(units[i]):
            x = dtype.decode(units[i])
            new = dtype.encode(x + rng.choice([0.125, -0.125, 0.25, rng.gauss(0, 0.1), -2 * x, abs(x) * 0.01]))
            if dtype.finite(new) and math.isfinite(dtype.R(dtype.decode(new) - x)):
                units[i] = new
    return dtype, shape, pack_units(dtype, units)

def random_fine(rng, base, wild):
    fine, memo = {}, {}
    if rng.random() < 0.5:  # the same tensors
        for name, tensor in base.items():
            key = (tensor[0].code, tensor[1], tensor[2])
            fine[name] = memo[key] = memo[key] if key in memo and rng.random() < 0.8 else change(rng, tensor, wild)
        return fine
    for name, tensor in base.items():
        if rng.random() < 0.03:
            continue
        key = (tensor[0].code, tensor[1], tensor[2])
        fine[name] = memo[key] if key in memo and rng.random() < 0.8 else change(rng, tensor, wild)
        memo[key] = fine[name]
        if rng.random() < 0.03:
            fine[name] = (tensor[0], tensor[1] + (1,), tensor[2])
        if rng.random() < 0.03:
            dtype = rng.choice(list(DTYPES.values()))
            if dtype.bits >= 8 and tensor[0].bits >= 8:
                fine[name] = (dtype, tensor[1], random_tensor(rng, dtype, tensor[1], False))
    if rng.random() < 0.15:
        dtype = rng.choice(list(DTYPES.values()))
        shape = random_shape(rng, dtype)
        for name in rng.sample(["new.weight", "AAA", "new.ω"], rng.randint(1, 2)):
            fine[name] = (dtype, shape, random_tensor(rng, dtype, shape, True))
    return fine

def write_checkpoint(rng, path, tensors):
    """One file, or sometimes a folder with an index; in any order."""
    names, shards = list(tensors), 1
    rng.shuffle(names)
    folder = rng.random() < 0.12
    if folder:
        os.mkdir(path)
        shards = rng.choice([1, 2, 3])
    else:
        path += ".safetensors"
    shards = shards if names else 1  # an index names at least one tensor (CKP-4)
    index = {}
    for i in range(shards):
        header, at, data = {}, 0, b""
        if rng.random() < 0.4:
            header["__metadata__"] = {"format": "pt", "b\n\"\x7f": "é", "a": ""} if rng.random() < 0.5 else {}
        for n in names[i::shards]:
            dtype, shape, raw = tensors[n]
            header[n] = dict(dtype=dtype.name, shape=list(shape), data_offsets=[at, at + len(raw)])
            at, data = at + len(raw), data + raw
            index[n] = f"model-{i}.safetensors"
        text = json.dumps(header, ensure_ascii=rng.random() < 0.5).encode()
        text += b" " * (-len(text) % 8)
        name = "model.safetensors" if shards == 1 else f"model-{i}.safetensors"
        with open(os.path.join(path, name) if folder else path, "wb") as f:
            f.write(u64(len(text)) + text + data)
    if folder and shards > 1:
        with open(os.path.join(path, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {}, "weight_map": index}, f)
    if folder:
        with open(os.path.join(path, "tokenizer.json"), "w") as f:
            f.write(json.dumps(rng.randint(0, 2)) * rng.choice([0, 1, 900]))
        with open(os.path.join(path, "config.json"), "w") as f:
            f.write("{}")
    return path

# ---------------------------------------------------------------- what a pack must hold (numbers.md)

class Refuse(Exception):
    """The specification wants this refused."""

def block_sum(blocks):
    """numbers.md, "Gain": each block is summed by itself, then the blocks, in f64."""
    total = 0.0
    for block in blocks:
        part = 0.0
        for x in block:
            part += x
        total += part
    return total

def sum_over(per_tensor):
    """Sums over {name: [(position, number)]}: blocks of 2^18 units in each tensor, in order of name and position."""
    blocks = []
    for name in sorted(per_tensor, key=str.encode):
        for _, group in itertools.groupby(per_tensor[name], lambda e: e[0] >> 18):
            blocks.append([x for _, x in group])
    return block_sum(blocks)

def glob_match(glob, name):
    """The globs of this test are a text with at most one `*` at its end or its start."""
    return name.startswith(glob[:-1]) if glob.endswith("*") else name.endswith(glob[1:]) if glob[0] == "*" else name == glob

class Model:
    """What `create` must make of base, fine-tuned model and options."""
    def __init__(self, base, fine, o):
        self.o, self.exact = o, o["exact"]
        self.rows, self.shared, self.carried = {}, {}, set()   # name -> {position: code}; name -> name
        self.complete = self.exact
        wanted = [n for n in sorted(set(base) | set(fine), key=str.encode) if self.matches(n)]
        if len(wanted) < len(set(base) | set(fine)):
            self.complete = False
        for g in o["include"] + o["exclude"]:
            if not any(glob_match(g, n) for n in set(base) | set(fine)):
                raise Refuse("a glob that matches nothing")
        both = {}
        for n in wanted:
            if n not in fine:
                if o["new_tensors"] == "refuse":
                    raise Refuse("missing tensor " + n)
                self.complete = False
            elif n not in base or base[n][1] != fine[n][1]:
                if o["new_tensors"] == "refuse":
                    raise Refuse("new tensor " + n)
                if o["new_tensors"] == "skip":
                    self.complete = False
                    continue
                self.carried.add(n)
                dtype = fine[n][0]
                self.rows[n] = (STEP, {i: dtype.order(u) % (1 << dtype.unit_bits)
                                       for i, u in enumerate(units_of(dtype, fine[n][2]))})
            else:
                both[n] = (base[n], self.cast(base[n], fine[n]))
        if not both and not self.carried and o["include"] + o["exclude"]:
            raise Refuse("globs that leave nothing")
        self.find_duplicates(both)
        self.t, self.bits_changed = {}, {}
        for n, (b, f) in both.items():
            dtype, pairs = b[0], list(zip(units_of(b[0], b[2]), units_of(b[0], f[2])))
            if n in self.shared:
                continue
            if self.exact or not dtype.float:
                steps = {i: (dtype.order(y) - dtype.order(x)) % (1 << dtype.unit_bits)
                         for i, (x, y) in enumerate(pairs) if x != y}
                if steps:
                    self.rows[n] = (STEP, steps)
            else:  # TSK-1
                self.t[n] = [0.0 if x == y else dtype.R(dtype.decode(y) - dtype.decode(x)) for x, y in pairs]
        if not self.exact:
            for n, t in self.t.items():
                if not all(map(math.isfinite, t)):
                    raise Refuse("TSK-1 " + n)
            self.localize(both)
            self.quantize(both)
        self.shared = {n: first for n, first in self.shared.items() if first in self.rows}

    def matches(self, name):
        o = self.o
        return (not o["include"] or any(glob_match(g, name) for g in o["include"])) and \
            not any(glob_match(g, name) for g in o["exclude"])

    def cast(self, base, fine):
        if base[0] is fine[0]:
            return fine
        if not (self.o["cast"] and base[0].float and fine[0].float):
            raise Refuse("another dtype")
        self.complete = False
        units = []
        for u in units_of(fine[0], fine[2]):
            x = fine[0].decode(u)
            units.append(base[0].encode(x))
            if math.isfinite(x) and not base[0].finite(units[-1]):
                raise Refuse("a cast overflows")
        return base[0], fine[1], pack_units(base[0], units)

    def find_duplicates(self, both):
        """LOC-4."""
        first = {}
        for n, (b, f) in both.items():
            if len(b[1]) >= 2 and len(b[2]):
                key = (b[0].code, b[1], b[2], f[2])
                if key in first:
                    self.shared[n] = first[key]
                else:
                    first[key] = n

    def localize(self, both):
        """LOC-1 to LOC-4."""
        o, self.kept = self.o, {}
        self.candidates = sum(len(t) for t in self.t.values())
        if o["mask"] is not None:
            for n, t in self.t.items():
                mask = units_of(*o["mask"][n][::2]) if n in o["mask"] else []
                self.kept[n] = [i for i, m in enumerate(mask) if m and t[i] != 0]
            return
        numerator, denominator = o["density"]
        for group in [[n] for n in self.t] if o["scope"] == "tensor" else [list(self.t)]:
            for n in group:
                self.kept[n] = []
            if numerator == denominator:
                for n in group:
                    self.kept[n] = list(range(len(self.t[n])))
                continue
            keys = []
            for n in group:
                score = None
                if o["scores"] is not None:
                    dtype, _, data = o["scores"][n]
                    score = [dtype.decode(u) for u in units_of(dtype, data)]
                keys += [(-(abs(t) if score is None else score[i]), n.encode(), i, n)
                         for i, t in enumerate(self.t[n]) if t != 0]
            keys.sort()
            k = numerator * sum(len(self.t[n]) for n in group) // denominator
            for _, _, i, n in keys[:k]:
                self.kept[n].append(i)
            for n in group:
                self.kept[n].sort()

    def quantize(self, both):
        """VAL-3, VAL-6, GAI-1 (codes of a codebook wait for its levels)."""
        self.owns = {}
        kind = self.kind = {v: k for k, v in KINDS.items()}[self.o["values"]]
        self.scales, self.q = {}, {}
        for n, kept in self.kept.items():
            if not kept:
                continue
            dtype, shape, data = both[n][0]
            t, units, codes = self.t[n], len(self.t[n]), {}
            row = units // shape[0] if len(shape) > 1 and self.o["groups"] == "row" else units
            scales = self.scales[n] = []
            for first in range(0, units, row) if kind in SCALED else []:
                group = [abs(t[i]) for i in kept if first <= i < first + row]
                if not group:
                    scales.append(0.0)
                elif kind == SIGN:
                    scales.append(f32(block_sum([group]) / len(group)))
                else:
                    scales.append(f32(f32(max(group)) / (127.0 if kind == INT8 else 7.0)))
            if not all(map(math.isfinite, scales)):
                raise Refuse("a scale overflows")
            for i in kept:
                if kind in KIND_FLOAT:
                    codes[i] = KIND_FLOAT[kind].encode(t[i])
                    if not KIND_FLOAT[kind].finite(codes[i]):
                        raise Refuse("VAL-6")
                elif kind == SIGN:
                    codes[i] = int(t[i] < 0)
                elif kind != CODEBOOK:
                    top, scale = (127 if kind == INT8 else 7), scales[i // row]
                    c = 0 if scale == 0 else max(-top, min(top, round(t[i] / scale)))  # round() goes to even
                    codes[i] = c % (1 << KIND_BITS[kind])
            self.rows[n] = (kind, codes)
            if kind == CODEBOOK:
                if any(math.isinf(f32(t[i])) for i in kept):
                    raise Refuse("a level overflows (TAB-5)")
                continue
            o = self.owns[n] = Own()
            o.dtype, o.kind, o.scales, o.groups, o.row_len = dtype, kind, scales, self.o["groups"] == "row", row
            o.positions, o.codes = zip(*sorted(codes.items()))

    def overflows(self, both):
        """Whether the pack alone would overflow (STI-7), where the levels of a codebook need not be known."""
        for n, o in self.owns.items():
            units, R, gain = units_of(o.dtype, both[n][2]), o.dtype.R, self.gain(self.owns)
            for p, c in zip(o.positions, o.codes):
                base = o.dtype.decode(units[p])
                new = o.dtype.encode(R(R(base) + R(R(gain) * dequantize(o, p, c))))
                if math.isfinite(base) and not o.dtype.finite(new):
                    return True
        return False

    def gain(self, own):
        """GAI-1, from the decoded codes of {name: delta}."""
        rule = self.o["rescale"] or ("none" if self.kind in KIND_FLOAT else "energy")
        if rule == "none":
            return 1.0
        if rule not in ("energy", "l1"):
            return f32(float(rule))
        power = (lambda x: x * x) if rule == "energy" else abs
        top = sum_over({n: [(i, power(x)) for i, x in enumerate(t)] for n, t in self.t.items()})
        low = sum_over({n: [(p, power(dequantize(o, p, c))) for p, c in zip(o.positions, o.codes)] for n, o in own.items()})
        if low == 0 or not math.isfinite(top) or not math.isfinite(low):
            return 1.0
        g = f32(math.sqrt(top / low) if rule == "energy" else top / low)
        return g if math.isfinite(g) and g > 0 else 1.0

    def energy(self):
        top = sum_over({n: [(i, x * x) for i, x in enumerate(t)] for n, t in self.t.items()})
        kept = sum_over({n: [(i, self.t[n][i] ** 2) for i in kept] for n, kept in self.kept.items()})
        return kept / top if top else 1.0

def compare_pack(pack, model, base, fine):
    """A pack that the binary made against the model."""
    rows = {r.name: r for r in pack.rows}
    touched = set(model.rows) | set(model.shared)
    must(set(rows) == touched, f"touched {sorted(rows)}, not {sorted(touched)}")
    must(pack.all_steps == model.exact, "all_steps")
    must(pack.exact == model.complete, f"exact is {pack.exact}")
    for n, r in rows.items():
        first = model.shared.get(n, n)
        must(r.owner == (first == n) and r.own is rows[first].own, f"{n} shares a delta: {not r.owner}")
        must((r.own.base is None) == (n in model.carried), f"{n} carried")
        if not r.owner:
            continue
        kind, codes = model.rows[n]
        must(r.own.kind == kind, f"{n}: kind {r.own.kind}")
        if kind == CODEBOOK:
            t, levels = model.t[n], r.own.levels
            codes = {i: min(range(16), key=lambda j: (abs(levels[j] - t[i]), j)) for i in model.kept[n]}
        must(r.own.positions == sorted(codes), f"{n}: positions {difference(r.own.positions, codes)}")
        wrong = [(p, c, codes[p]) for p, c in zip(r.own.positions, r.own.codes) if c != codes[p]]
        must(not wrong, f"{n}: {len(wrong)} codes, first (position, is, must be) {wrong[:1]} {r.dtype.name} {KINDS[kind]}")
        if kind in SCALED:
            scales = list(r.own.scales)
            must(scales == model.scales[n], f"{n}: scales {scales[:3]}, not {model.scales[n][:3]}")
    if not model.exact:
        gain = model.gain({r.name: r.own for r in pack.rows if r.name in model.t and r.owner})
        must(pack.gain == gain, f"gain {pack.gain!r}, not {gain!r}")
        must(pack.origin["energy"] == model.energy(), f"energy {pack.origin['energy']!r}, not {model.energy()!r}")
        there = pack.origin["candidates"]
        must(there == model.candidates, f"candidates {there}, not {model.candidates}")
        if model.o["mask"] is None:
            a, b = pack.origin["density"], model.o["density"]
            must(a[0] * b[1] == a[1] * b[0], f"density {a}, not {b}")
    must(pack.notes == sorted(model.o["meta"].items(), key=lambda e: e[0].encode()), "notes")

def difference(a, b):
    return f"too many {sorted(set(a) - set(b))[:3]}, missing {sorted(set(b) - set(a))[:3]}"

# ---------------------------------------------------------------- forging packs

DENSITIES = [("5%", (5, 100)), ("0.05", (5, 100)), ("0.5", (5, 10)), ("1", (1, 1)), ("100%", (100, 100)), ("0", (0, 1)),
             ("1.000", (1000, 1000)), ("33.3%", (333, 1000)), ("0.07", (7, 100)), ("90%", (90, 100)), ("0.50", (50, 100)),
             ("0.3333333333333", (3333333333333, 10**13))]

def zstd(rng, data):
    return zstandard.ZstdCompressor(level=rng.choice([1, 3, 19]), write_checksum=rng.random() < 0.3).compress(data)

def signed(code, bits):
    return code - (1 << bits) if code >> (bits - 1) else code

def fold(code, bits):
    s = signed(code, bits)
    return 2 * s if s >= 0 else -2 * s - 1

class NoRoom(Exception):
    """A coder cannot say this."""

class RunWriter:
    """Writes coded runs (ENT-4, ENT-5)."""
    def __init__(self):
        self.entries, self.bits = [], []
    def entry(self, table, entry):
        if table.frequencies[entry] == 0:
            raise NoRoom
        self.entries.append((table.starts[entry], table.frequencies[entry]))
    def symbol(self, table, symbol):
        self.entry(table, symbol - table.first + 1 if table.has(symbol) else 0)
        if not table.has(symbol):
            self.raw(symbol, 9)
    def raw(self, value, n):
        self.bits.append(format(value, f"0{n}b")[::-1] if n else "")
    def data(self, n):
        states, words, bits = [65536] * n, [], "".join(self.bits)
        for j in reversed(range(len(self.entries))):
            (start, f), x = self.entries[j], states[j % n]
            if x >= f << 20:
                words.append(x % 65536)
                x >>= 16
            states[j % n] = (x // f << 12) + x % f + start
        raw = int(bits[::-1] or "0", 2).to_bytes((len(bits) + 7) // 8, "big")
        return struct.pack(f"<{n}I", *states) + struct.pack(f"<{len(words)}H", *reversed(words)) + raw

def symbol_parts(o, code):
    """The symbol of a code, its raw bits and how many they are ("Codes by class")."""
    bits = code_bits(o)
    if o.kind == STEP:
        s = signed(code, bits)
        l = max(abs(s).bit_length() - 3, 0)
        return (4 * l + (abs(s) >> l), 2 * (abs(s) & ((1 << l) - 1)) + (s < 0), l + 1) if s else (0, 0, 0)
    if o.kind in KIND_FLOAT:
        f, magnitude = KIND_FLOAT[o.kind], code & (KIND_FLOAT[o.kind].sign - 1)
        low = magnitude & ((1 << f.mantissa) - 1)
        return magnitude >> f.mantissa, 2 * low + (code >= f.sign), f.mantissa + 1
    if o.kind == SIGN:
        raise NoRoom
    return (code if o.kind == CODEBOOK else signed(code, bits) + (127 if o.kind == INT8 else 7)), 0, 0

def random_table(rng, symbols):
    """A stored table with room for most of these symbols."""
    first, last = min(symbols), max(symbols)
    first, last = max(0, first + rng.choice([0, 0, 0, 1, -1, -9])), last + rng.choice([0, 0, 0, -1, 1, 9])
    last = max(min(last, first + 254, 511), first := min(first, 511))
    weights = [rng.choice([0, 1, 8, 9, 60, 100, 127, 128, rng.randint(0, 128)]) for _ in range(last - first + 1)]
    weights[0], weights[-1] = weights[0] or 1, weights[-1] or 5
    return struct.pack("<HH", last - first + 2, first) + bytes([rng.choice([1, 1, 1, 0, 128]), *weights])

def random_coder(rng, o, borrowable):
    """Bytes of a coder for a delta: any, so that little is as a sensible writer would choose it."""
    uses_base = o.base is not None and o.dtype.float and rng.random() < 0.6
    size_of = lambda axis: math.prod(o.shape[axis:]) * o.dtype.bits // (8 * o.dtype.unit)
    axis = rng.choice([a for a in range(len(o.shape) + 1) if size_of(a) >= max(1, min(8, size_of(0)))] or [0])
    size = size_of(axis)
    by_exponent = 2 * (1 << o.dtype.exponent - 1) if uses_base and o.dtype.name != "F64" else 250 if uses_base else 0
    origin = by_exponent + rng.choice([0, 8, 16, 30, rng.randint(-60, 60), rng.randint(-1024, 1000) - by_exponent])
    if borrowable and rng.random() < 0.4:
        row, model = rng.choice(borrowable)
        flags, body = 4, struct.pack("<I", row)
    else:
        n, parts = rng.choice([1, 1, 2, 5, 33, 64, rng.randint(1, 64)]), rng.choice([0, 4, 4, 7, 7, rng.randint(0, 7)])
        body, before = bytes([n, parts]) + bytes(rng.choices(range(128), k=n)) + bytes(rng.choices(range(256), k=n)), None
        if rng.random() < 0.5:
            body = bytes([n, parts]) + bytes(rng.choices(range(50, 90), k=n)) + body[2 + n:]
        for part in (1, 2):
            body += random_table(rng, rng.choice([[0, 33], [0, 33], [17], [1, 33], [10, 20]])) if parts & part else b""
        symbols = [symbol_parts(o, c)[0] for c in o.codes] or [1] if o.kind != SIGN else [0, 7]
        for i in range(n if parts & 4 else 0):
            table = random_table(rng, symbols)
            body += b"\0\0" if i and (table == before or rng.random() < 0.6) else table
            before = table if body.endswith(table) else before
        flags, model = 0, None
    flags |= uses_base
    head = lambda flags: struct.pack("<BBh", flags, axis, origin)
    coder = Coder(Cursor(head(flags) + body, "CLS-2"), o, lambda _: model)
    table = coder.model.columns
    if table is not None and 1 <= size <= 2**18 and rng.random() < 0.7:
        levels = [s for s in range(34) if table.has(s)] if rng.random() < 0.9 or not table.frequencies[0] else range(34)
        some, run = rng.choices([s for s in levels if s or rng.random() < 0.3] or list(levels) or [17], k=6), RunWriter()
        try:
            for _ in range(size):
                run.symbol(table, rng.choice(some))
            flags, body = flags | 2, body + run.data(1)
        except NoRoom:
            pass
    coder = Coder(Cursor(head(flags) + body, "CLS-2"), o, lambda _: model)
    return head(flags) + body, coder

def random_levels(rng, o, k, positions):
    """Levels for the rows of a block; dead ones only where nothing is kept."""
    size, table, out = o.coder.row_len, o.coder.model.rows, []
    kept = {(k.first + p) // size for p in positions} if size else {}
    for row in range(row_count(o, k)):
        may = [s for s in range(34) if (s or k.first // size + row not in kept) and (table.has(s) or table.frequencies[0])]
        if not may:
            raise NoRoom
        symbol = rng.choice(may[:1] * rng.randint(0, 9) + may)
        out.append(symbol - 17 if symbol else DEAD)
    return out

def write_mask_by_class(o, classes, levels, positions):
    """CLS-5."""
    run, model, kept = RunWriter(), o.coder.model, set(positions)
    for level in levels if levels is not None else []:
        run.symbol(model.rows, 0 if level is DEAD else level + 17)
    for c in range(model.classes):
        members, none = [i for i, of in enumerate(classes) if of == c], 4088 - 16 * model.occupied[c]
        occupied = any(i in kept for i in members)
        run.entry(Table([none, 4096 - none]), int(occupied))
        if not occupied:
            continue
        inverted, shift, table = gap_table(model.odds[c])
        hits = [j for j, i in enumerate(members) if (i in kept) != inverted]
        last, at = len(table.frequencies) - 1, 0
        def high(h):
            for _ in range(h // last):
                run.entry(table, last)
            run.entry(table, h % last)
        for j in hits:
            high(j - at >> shift)
            run.raw((j - at) % (1 << shift), shift)
            at = j + 1
        high(-(-(len(members) - at) >> shift))
    if any(classes[p] is None for p in positions):
        raise NoRoom
    return run.data(1)

def write_codes_by_class(o, classes, positions, codes):
    """CLS-6."""
    run = RunWriter()
    for p, code in zip(positions, codes):
        if classes[p] is None or not o.coder.model.values:
            raise NoRoom
        symbol, raw, n = symbol_parts(o, code)
        run.symbol(o.coder.model.values[classes[p]], symbol)
        run.raw(raw, n)
    return run.data(2)

def write_steps_of_all(o, classes, levels, positions, codes):
    """CLS-7: mask and codes."""
    rows, run, steps = RunWriter(), RunWriter(), dict(zip(positions, codes))
    if any(classes[p] is None for p in positions) or not o.coder.model.values:
        raise NoRoom
    for level in levels if levels is not None else []:
        rows.symbol(o.coder.model.rows, 0 if level is DEAD else level + 17)
    for unit, c in enumerate(classes):
        if c is not None:
            symbol, raw, n = symbol_parts(o, steps.get(unit, 0))
            run.symbol(o.coder.model.values[c], symbol)
            run.raw(raw, n)
    return rows.data(1) if o.coder.model.rows is not None else b"", run.data(4)

def rice(positions, s):
    """MSK-6."""
    lows, highs, at, last = 0, 0, 0, -1
    for i, p in enumerate(positions):
        gap, last = p - last - 1, p
        lows |= (gap & ((1 << s) - 1)) << (s * i)
        highs |= 1 << (at + (gap >> s))
        at += (gap >> s) + 1
    return bytes([s]) + lows.to_bytes((s * len(positions) + 7) // 8, "little") + highs.to_bytes((at + 7) // 8, "little")

class Forge:
    """Writes the content of a pack anew: other blocks, codecs, sections and frames. `tamper` maps a part ("header",
    "manifest", "table", "payload", "file") to a function that changes its bytes before digests are taken."""
    def __init__(self, seed, pack, base):
        self.seed, self.pack, self.base, self.content = seed, pack, base, pack.content
        self.tamper, self.fields, self.split_anywhere, self.codecs = {}, {}, False, collections.Counter()

    def encode_block(self, rng, o, first, size, positions, codes):
        k = len(positions)
        if k == 0:
            return (0, 0, 0, 0, 0), b""
        mask, packed = self.plain_mask(rng, size, positions), self.plain_codes(rng, o, codes)
        if o.coder is not None and rng.random() < 0.9:
            mask, packed = self.by_class(rng, o, first, size, positions, codes, mask, packed)
        return (mask[0], packed[0], k, len(mask[1]), len(packed[1])), mask[1] + packed[1]

    def by_class(self, rng, o, first, size, positions, codes, mask, packed):
        """Mask and codes, one of them or both by class where the coder can."""
        at, levels, by_class = Own(), None, mask
        at.first, at.units, at.mask_codec, at.code_codec = first, size, 6, 2
        base = base_units(o, at, self.base) if needs_base(o, at) else None
        try:
            if o.coder.model.rows is not None:
                levels = random_levels(rng, o, at, positions)
            classes = unit_classes(o, at, levels, base)
            by_class = 6, write_mask_by_class(o, classes, levels, positions)
        except NoRoom:
            if o.coder.model.rows is not None:
                return mask, packed
            classes = unit_classes(o, at, None, base)
        if o.kind == STEP and o.base is not None and rng.random() < 0.3:
            try:
                all_levels, all_codes = write_steps_of_all(o, classes, levels, positions, codes)
                return (7, all_levels), (3, all_codes)
            except NoRoom:
                pass
        try:
            if rng.random() < 0.8:
                packed = 2, write_codes_by_class(o, classes, positions, codes)
                return (by_class if o.coder.model.rows is not None or rng.random() < 0.7 else mask), packed
        except NoRoom:
            pass
        return by_class, packed

    def plain_mask(self, rng, size, positions):
        if len(positions) == size:
            return 1, b""
        if rng.random() < 0.3:
            return 8, rice(positions, rng.choice([0, 1, 6, 13, 14, 15, 20, 31]) if rng.random() < 0.5 else rng.randint(2, 8))
        codec, bitmap, gaps, last = rng.randint(2, 5), bytearray((size + 7) // 8), b"", -1
        for p in positions:
            bitmap[p // 8] |= 1 << p % 8
            gaps += b"\xff" * ((p - last - 1) // 255) + bytes([(p - last - 1) % 255])
            last = p
        mask = bytes(bitmap) if codec in (2, 4) else gaps
        return codec, zstd(rng, mask) if codec > 3 else mask

    def plain_codes(self, rng, o, codes):
        bits, k = code_bits(o), len(codes)
        if bits < 8:
            packed = sum(c << bits * i for i, c in enumerate(codes)).to_bytes((bits * k + 7) // 8, "little")
        else:
            codes = [fold(c, bits) for c in codes] if o.kind == STEP else codes
            packed = b"".join(bytes(c >> 8 * plane & 255 for c in codes) for plane in range(bits // 8))
        code_codec = rng.randint(0, 1)
        return code_codec, zstd(rng, packed) if code_codec else packed

    def sections(self, rng, parts, what):
        """Cuts a stream, sometimes where SEC-4 forbids it."""
        cut, out = [b""], []
        for part in parts:
            if cut[-1] and rng.random() < 0.3:
                cut.append(b"")
            if self.split_anywhere and len(part) > 1 and rng.random() < 0.3:
                at = rng.randrange(1, len(part))
                cut[-1], part = cut[-1] + part[:at], part[at:]
                cut.append(b"")
            cut[-1] += part
        for raw in cut:
            raw = self.tamper.get(what, lambda x: x)(raw)
            stored = zstd(rng, raw) if what == "table" and rng.random() < 0.7 else raw
            if raw:
                out.append((stored if len(raw) > len(stored) >= len(raw) / 256 else raw, raw))
        return out

    def data(self):
        rng, p, f = random.Random(self.seed), self.pack, self.fields
        log2 = f.get("block_log2", rng.choice([10, 10, 11, 18, 20]))
        tables, blocks, lens, borrowable, with_coders = [], [], {}, [], rng.random() < 0.7
        for number, o in ((i, r.own) for i, r in enumerate(p.rows) if r.owner):
            rows, size, coder, before = [], 1 << log2, b"", o.coder
            o.coder = None
            if with_coders and rng.random() < 0.8:
                coder, o.coder = random_coder(rng, o, borrowable)
            kept = collections.defaultdict(list)
            for position, code in zip(o.positions, o.codes):
                kept[position // size].append((position % size, code))
            for i in range(-(-o.units // size)):
                here = kept[i]
                first, units = i * size, min(size, o.units - i * size)
                row, data = self.encode_block(rng, o, first, units, [p for p, _ in here], [c for _, c in here])
                rows.append(row)
                blocks.append(data)
            if not any(by_class(row[0], row[1]) for row in rows):
                coder = b""
            elif coder and not o.coder.borrows:
                borrowable.append((number, o.coder.model))
            table = b"".join(struct.pack(f"<{len(rows)}{c}", *[r[j] for r in rows]) for j, c in enumerate("BBIII"))
            table += b"".join(struct.pack("<f", x) for x in (*o.scales, *o.levels))
            tables.append(table + coder)
            table, o.coder = tables[-1], before
            for row in rows:
                self.codecs[row[0], row[1]] += 1
            lens[id(o)] = len(table), sum(r[3] + r[4] for r in rows)
        payload, table = self.sections(rng, blocks, "payload"), self.sections(rng, tables, "table")
        files = []
        for _, s in p.files:
            raw = self.tamper.get("file", lambda x: x)(s.raw)
            stored = zstd(rng, raw)
            files.append((stored if len(raw) > len(stored) >= len(raw) / 256 else raw, raw))
        def text(s): return sized(s)
        def option(d): return b"\0" if d is None else b"\1" + d
        def section(s): return u64(len(s[0])) + u64(len(s[1])) + digest("section", s[0])
        def every(xs, write): return u64(len(xs)) + b"".join(map(write, xs))
        g, r = p.origin, p.rows
        first = {id(x.own): i for i, x in reversed(list(enumerate(r)))}
        def row(x):
            o, head = x.own, text(x.name) + bytes([x.dtype.code]) + every(x.shape, u64)
            if not x.owner:
                return head + struct.pack("<II", 1, first[id(o)])
            table_len, payload_len = lens[id(o)]
            return head + struct.pack("<I", 0) + option(o.base) + bytes([o.kind, o.groups]) + \
                u64(o.kept) + u64(table_len) + u64(payload_len)
        manifest = text(p.tool) + p.base + self.content + option(p.result) + bytes([p.all_steps, p.exact]) + \
            struct.pack("<f", p.gain) + bytes([log2]) + text(g["localizer"]) + text(g["scope"]) + u64(g["density"][0]) + \
            u64(g["density"][1]) + u64(g["candidates"]) + text(g["rescale"]) + struct.pack("<d", g["energy"]) + \
            every(g["include"], text) + every(g["exclude"], text) + every(p.notes, lambda e: text(e[0]) + text(e[1])) + \
            every(r, row) + every(payload, section) + every(table, section) + \
            every(list(zip(p.files, files)), lambda e: text(e[0][0]) + section(e[1]))
        manifest = self.tamper.get("manifest", lambda x: x)(manifest)
        stored = zstd(rng, manifest) if rng.random() < 0.5 else manifest
        stored = stored if len(stored) < len(manifest) else manifest
        body = b"".join(s[0] for s in payload + table + files)
        head = struct.pack("<IHHIIQII", 104, 1, 0, 0, 0, 104 + len(body) + len(stored), len(stored), len(manifest))
        head = self.tamper.get("header", lambda x: x)(head) + digest("manifest", stored)
        magic = b"\x89STP\r\n\x1a\n"
        return magic + digest("header", magic + head) + head + body + stored

def mutation(rng):
    """A function that changes some bytes, the same each time it is called."""
    seed = rng.random()
    def mutate(data):
        r, data = random.Random(seed), bytearray(data)
        for _ in range(r.choice([1, 1, 1, 2])):
            if not data:
                break
            i, how = r.randrange(len(data)), r.randrange(8)
            if how < 2:
                data[i] ^= 1 << r.randrange(8)
            elif how == 2:
                data[i] = r.choice([0, 1, 127, 128, 255])
            elif how < 6:
                data[i] = (data[i] + r.choice([1, -1])) % 256
            elif how == 6 and r.random() < 0.3:
                del data[i]
            elif how == 7 and r.random() < 0.3:
                data.insert(i, r.choice([0, 1, 255]))
        return bytes(data)
    return mutate

# ---------------------------------------------------------------- the run

class Run:
    def __init__(self, binary, seed, folder, keep):
        self.binary, self.seed, self.folder, self.keep = binary, seed, folder, keep
        self.passed = self.failed = 0
        self.counts, self.soft = collections.Counter(), collections.Counter()
        self.env = dict(os.environ, STITCHPACK_CACHE=os.path.join(folder, "cache"))

    def call(self, *args):
        done = subprocess.run([self.binary, *args, "--json"], capture_output=True, env=self.env, timeout=120)
        must(done.returncode in (0, 2, 3, 4, 5, 6, 7, 8), f"exit {done.returncode}: {args} {done.stderr[-400:]}")
        return done.returncode, (json.loads(done.stdout) if done.stdout.strip() else {})

    def one(self, number, want):
        """One base, one to four fine-tuned models; at most `want` pairs."""
        rng = random.Random(f"{self.seed}/{number}")
        here = self.here = os.path.join(self.folder, str(number))
        os.mkdir(here)
        self.number = number
        base_path = write_checkpoint(rng, os.path.join(here, "base"), random_base(rng))
        base = Checkpoint(base_path)
        packs, pairs = [], min(want, rng.randint(1, 4))
        for i in range(pairs):
            self.guard(lambda: self.pair(rng, base_path, base, i, packs), f"pair {i}")
        rng = random.Random(f"{self.seed}/{number}/merge")
        for i in range(2 if packs else 0):
            self.guard(lambda: self.merges(rng, base_path, base, packs, i), f"merge {i}")
        for i in range(6 if packs else 0):
            r = random.Random(f"{self.seed}/{number}/mutate/{i}")
            self.guard(lambda: self.mutate(r, base_path, base, rng.choice(packs), i), f"mutation {i}")
        if not self.keep:
            shutil.rmtree(here)
        return pairs

    def guard(self, work, what):
        try:
            work()
            self.passed += 1
        except (Failed, SpecError, AssertionError, ArithmeticError, LookupError, ValueError, TypeError) as error:
            self.failed += 1
            self.keep = True
            print(f"FAILED {self.seed}/{self.number} {what}: {type(error).__name__} {error}", flush=True)

    def options(self, rng, base, fine):
        o = dict(exact=rng.random() < 0.2, density=(1, 100), values="sign", scope="global", groups="tensor", rescale=None,
                 include=[], exclude=[], mask=None, scores=None, new_tensors="refuse", cast=rng.random() < 0.3, meta={})
        args = ["--cast"] if o["cast"] else []
        floats = {n: t for n, t in base.items() if t[0].float and n in fine and fine[n][1] == t[1]}
        if o["exact"]:
            args.append("--exact")
        else:
            how = rng.random()
            if how < 0.75:
                text, o["density"] = rng.choice(DENSITIES)
                args += ["--density", text]
                if rng.random() < 0.4:
                    o["scope"] = "tensor"
                    args += ["--scope", "tensor"]
                if rng.random() < 0.25:
                    o["scores"] = {n: self.score(rng, t) for n, t in floats.items()}
                    args += ["--scores", o["scores"]]
            elif how < 0.9:
                o["mask"] = {n: self.mask(rng, t) for n, t in floats.items() if rng.random() < 0.9}
                args += ["--mask", o["mask"]]
            else:
                args += ["--density", "1%"]
            if rng.random() < 0.85:
                o["values"] = rng.choice(["f32", "f16", "bf16", "int8", "int4", "sign", "codebook"])
                args += ["--values", o["values"]]
            if rng.random() < 0.5 and o["values"] in ("int8", "int4", "sign"):
                o["groups"] = "row"
                args += ["--groups", "row"]
            if rng.random() < 0.6:
                o["rescale"] = rng.choice(["none", "energy", "l1", "0.37", "2"])
                args += ["--rescale", o["rescale"]]
        globs = ["a*", "layers.*", "*weight", "*q", "norm", "*ω", "z*", "*"]
        globs = [g for g in globs if any(glob_match(g, n) for n in base)]
        globs = globs + ["bias"] if rng.random() < 0.05 else globs
        for way in ("include", "exclude"):
            if globs and rng.random() < 0.15:
                o[way] = rng.sample(globs, rng.randint(1, min(3, len(globs))))
                args += [x for g in o[way] for x in ("--" + way, g)]
        if rng.random() < 0.75:
            o["new_tensors"] = rng.choice(["carry", "carry", "skip"])
            args += ["--new-tensors", o["new_tensors"]]
        for key in rng.sample(["task", "b", "ω", "a b"], rng.choice([0, 0, 1, 3])):
            o["meta"][key] = rng.choice(["", "x=y", "née\n"])
            args += ["--meta", f"{key}={o['meta'][key]}"]
        return o, args

    def score(self, rng, tensor):
        dtype = rng.choice([F32, F16, BF16, BY_NAME["F64"]])
        return dtype, tensor[1], pack_units(dtype, [dtype.encode(rng.choice([0.0, -0.0, -1.0, rng.gauss(0, 1), math.inf]))
                                                    for _ in range(len(tensor[2]) // tensor[0].unit)])

    def mask(self, rng, tensor):
        count = len(tensor[2]) // tensor[0].unit
        return BY_NAME[rng.choice(["BOOL", "U8"])], tensor[1], bytes(rng.choices([0, 0, 1], k=count))

    def pair(self, rng, base_path, base, i, packs):
        wild = rng.random() < 0.4
        fine_tensors = random_fine(rng, base.tensors, wild)
        fine_path = write_checkpoint(rng, os.path.join(self.here, f"fine{i}"), fine_tensors)
        fine = Checkpoint(fine_path)
        o, args = self.options(rng, base.tensors, fine.tensors)
        if wild and not o["exact"] and rng.random() < 0.9:
            o["exact"], args = True, ["--exact"] + [a for a in args if a == "--cast"]
            o.update(include=[], exclude=[], mask=None, scores=None, new_tensors="refuse", meta={})
        if rng.random() < 0.6:
            args += ["--effort", rng.choice(["fast", "default", "small"])]
        for j, a in enumerate(args):
            if isinstance(a, dict):
                args[j] = write_checkpoint(rng, os.path.join(self.here, f"side{i}-{j}"), a)
        path = os.path.join(self.here, f"{i}.stitch")
        self.args = ["create", base_path, fine_path, "-o", path, *args]
        with open(os.path.join(self.here, f"create{i}"), "w") as f:
            f.write(repr(self.args))
        code, out = self.call(*self.args)
        try:
            model = Model(base.tensors, fine.tensors, o)
            if not o["exact"] and model.overflows(base.tensors):
                raise Refuse("the pack alone would overflow")
            if code == 6 and o["values"] == "codebook" and "with gain" in json.dumps(out):
                self.counts["create refused as a codebook alone would overflow (not checked)"] += 1
                return
        except Refuse as error:
            self.counts["create refused"] += 1
            must(code in (2, 6), f"create must refuse ({error}) but exits {code}")
            return
        must(code == 0, f"create exits {code}: {out}")
        pack, alone = load(path, base.tensors), load(path)
        bind(pack, base)
        compare_pack(pack, model, base.tensors, fine.tensors)
        self.counts["packs"] += 1
        self.counts["packs coded by class"] += any(o.coder is not None for o in pack.owns)
        self.counts["packs that need the base"] += not alone.decoded
        self.counts["exact" if pack.all_steps else o["values"]] += 1
        try:
            result = result_digest(pack, base)
        except SpecError as error:
            must(error.rule == "STI-7", str(error))
            result = None
        must(pack.result == result, f"result {pack.result and pack.result.hex()}, not {result and result.hex()}")
        if pack.exact:
            merged = merge(base, [(pack, 1.0)])
            must(merged == fine.tensors, "exact but another result")
        packs.append((path, pack))
        self.apply(rng, base_path, base, [(path, pack, 1.0)], None, 1.0, "auto", f"alone{i}")
        if not model.exact and o["mask"] is None:
            n, d = o["density"]
            lowest = (n // math.gcd(n, d), d // math.gcd(n, d))
            must(pack.origin["density"] == lowest, f"density {pack.origin['density']}, not {lowest}")

    def apply(self, rng, base_path, base, named, rule, lam, gain, name):
        """Both apply; the same answer and the same bytes."""
        folder = rng.random() < 0.15
        out = os.path.join(self.here, name + ("" if folder else ".safetensors"))
        args = ["apply", base_path, "-o", out, f"--lambda={lam!r}", f"--gain={gain}"]
        args += ["--overlap", rule] if rule else []
        check = rng.choice(["full", "touched", "cached"])
        args += ["--base-check", check]
        args += [path if w == 1 and rng.random() < 0.5 else f"{path}@{w!r}" for path, _, w in named]
        code, answer = self.call(*args)
        try:
            merged, error = merge(base, [(p, w) for _, p, w in named], rule, lam, gain, whole=check != "touched"), None
        except SpecError as e:
            error = e
        if error:
            self.counts["apply refused by " + error.rule] += 1
            expected = (2, 6) if error.rule in ("STI-8", "STI-9") else (error.exit_code,)
            must(code in expected, f"apply must fail ({error}) but exits {code}: {args} {answer}")
            if code != error.exit_code:
                self.soft[f"{error.rule} exits {code}"] += 1
            return
        must(code == 0, f"apply exits {code}: {args} {answer}")
        self.counts["applied"] += 1
        there = Checkpoint(out)
        for n in sorted(set(merged) | set(there.tensors)):
            must(n in merged and n in there.tensors, f"{args}: tensor {n}")
            if merged[n] != there.tensors[n]:
                dtype, a, b = merged[n][0], units_of(merged[n][0], merged[n][2]), units_of(merged[n][0], there.tensors[n][2])
                wrong = [(i, f"{y:x}", f"{x:x}") for i, (x, y) in enumerate(zip(a, b)) if x != y]
                must(False, f"{args}: {n} {dtype.name}: {len(wrong)} units, first (position, is, must be) {wrong[:1]}")
        recipe = answer["recipe"]
        if check == "touched" and any(p.base != base.digest() for _, p, _ in named):
            return  # what base such a recipe names is left open
        if folder:
            with open(os.path.join(out, "stitch.json"), "rb") as f:
                check_recipe(f.read(), base, [p for _, p, _ in named])
        else:
            with open(out, "rb") as f:
                data = f.read()
            must(data == model_file(base, merged), f"{args}: header {data[:400]!r}, not {model_file(base, merged)[:400]!r}")
            must(recipe["result"] == checkpoint_digest(merged).hex(), "result in the recipe")
            check_recipe(json.dumps(recipe).encode(), base, [p for _, p, _ in named])
        self.by_tensor(rng, base_path, base, named, recipe, name)

    def by_tensor(self, rng, base_path, base, named, recipe, name):
        """The same merge with gains for some tensors (REC-2): the command makes what is computed here."""
        gains = []
        for entry, (_, pack, _) in zip(recipe["packs"], named):
            own = {r.name: f32(rng.uniform(0.1, 3)) for r in pack.rows if r.owner and rng.random() < 0.3}
            entry.update({"tensor_gains": own} if own else {})
            gains.append((entry["gain"], own))
        if not any(own for _, own in gains):
            return
        try:
            merged = merge(base, [(p, w) for _, p, w in named], recipe["overlap"], recipe["lambda"], gains=gains)
        except SpecError:
            return
        recipe.update(stitch_recipe=2, result=checkpoint_digest(merged).hex())
        check_recipe(json.dumps(recipe).encode(), base, [p for _, p, _ in named])
        path = os.path.join(self.here, name + ".json")
        with open(path, "w") as f:
            json.dump(recipe, f)
        paths = [path for path, _, _ in named]
        code, answer = self.call("apply", base_path, *paths, "--recipe", path, "-o", path + ".safetensors")
        must(code == 0, f"a recipe with gains of tensors exits {code}: {recipe} {answer}")
        self.counts["applied by a recipe with gains of tensors"] += 1

    def merges(self, rng, base_path, base, packs, i):
        named = rng.sample(packs, min(len(packs), rng.randint(2, 4)))
        named = [(path, p, f32(rng.choice([1.0, 1.0, 1.0, 0.0, 0.5, -1.0, 0.1, rng.uniform(-2, 2), 1e-40, 3e20])))
                 for path, p in named]
        rule = rng.choice(RULES + (None,))
        lam = f32(rng.choice([1.0, 1.0, 1.0, 0.5, 0.0, -0.7, rng.uniform(0, 2)]))
        gain = rng.choice(["auto", "stored", "none", f32(1.3)])
        self.apply(rng, base_path, base, named, rule, lam, gain, f"merge{i}")

    def mutate(self, rng, base_path, base, named, i):
        path, pack = named
        forge, how = Forge(rng.random(), pack, base.tensors), i
        out = os.path.join(self.here, f"mutated{i}.stitch")
        if how == 0:  # nothing but another encoding
            data = forge.data()
        elif how == 1:
            with open(path, "rb") as f:
                data = f.read()
            data = rng.choice([mutation(rng), mutation(rng), lambda d: d[:rng.randrange(len(d))], lambda d: d + b"\0"])(data)
        else:
            forge.split_anywhere = rng.random() < 0.1
            parts = ["manifest", "table", "table", "table", "payload", "payload", "payload", "file", "header"]
            for part in rng.sample(parts, rng.choice([1, 1, 2])):
                forge.tamper[part] = mutation(rng)
            data = forge.data()
        mine, new = self.verdict(data, base)
        if mine and mine.rule == "CID-1" and how != 1:
            must(self.theirs(out, data, "--base", base_path)[0] in ("malformed", "wrong-base"), "CID-1 is not seen")
            forge.content = bytes.fromhex(str(mine)[-64:])
            data = forge.data()
            mine, new = self.verdict(data, base)
        self.counts["mutated: blocks by class"] += sum(n for (m, c), n in forge.codecs.items() if by_class(m, c))
        self.without_base(out, data, mine)
        theirs, rule = self.theirs(out, data, "--base", base_path)
        kind = "accepted" if mine is None else "refused" if mine.kind == "limit" else mine.kind
        self.counts["mutated: " + kind] += 1
        must((mine is None) == (theirs == "accepted"), f"{out}: {mine or 'accepted'}, but the binary says {theirs} {rule}")
        if kind != theirs or kind == "malformed" and rule != mine.rule:
            self.soft[f"{kind} by {mine.rule}, the binary says {theirs} by {rule}"] += 1
            self.keep = self.keep or kind != theirs
        if mine is None:
            if how == 0:
                must(new.content == pack.content, "content id of another encoding")
            self.apply(rng, base_path, base, [(out, new, 1.0)], None, 1.0, "auto", f"mutated{i}")

    def without_base(self, out, data, with_base):
        """Both without a base: the same answer where all is decoded. Where not, no reader may refuse what is right."""
        mine, new = self.verdict(data)
        theirs, rule = self.theirs(out, data)
        must(mine is None or with_base is not None, f"{out}: {mine} only without the base")
        must(theirs == "accepted" or mine is not None, f"{out}: accepted, but the binary says {theirs} {rule} (without a base)")
        if mine is not None and theirs == "accepted":
            self.soft[f"{mine.rule} is not seen by the binary without a base"] += 1
            must(with_base is not None, f"{out}: {mine}, but the binary accepts it without a base")
        self.counts["mutated: accepted, not decoded without a base"] += mine is None and not new.decoded

    def verdict(self, data, base=None):
        try:
            pack = Pack(data, base and base.tensors)
            if base:
                bind(pack, base)
            return None, pack
        except SpecError as error:
            return error, None

    def theirs(self, path, data, *more):
        with open(path, "wb") as f:
            f.write(data)
        code, answer = self.call("verify", path, *more)
        error = answer.get("error", {})
        return EXITS.get(code, "accepted" if code == 0 else str(code)), error.get("rule")

# ---------------------------------------------------------------- fixtures

def check_vectors(folder):
    """valid/NAME/ with a pack, its base and outcome and what is expected of it; corrupt/NAME.stitch with NAME.json."""
    passed = failed = 0
    def guard(name, work):
        nonlocal passed, failed
        try:
            work()
            passed += 1
        except Exception as error:  # a fixture must not end the run
            failed += 1
            print(f"FAILED {name}: {type(error).__name__} {error}")
    for name in sorted(os.listdir(os.path.join(folder, "valid"))):
        guard(name, lambda: check_valid(os.path.join(folder, "valid", name)))
    for name in sorted(os.listdir(os.path.join(folder, "corrupt"))):
        if name.endswith(".stitch"):
            guard(name, lambda: check_corrupt(os.path.join(folder, "corrupt", name)))
    return passed, failed

def check_valid(folder):
    """Ids, content, base and result, the facts that are known here by name, and the outcome of applying."""
    def at(name):
        return os.path.join(folder, name)
    base = Checkpoint(at("base.safetensors"))
    pack, alone, expected = load(at("pack.stitch"), base.tensors), load(at("pack.stitch")), {}
    must(alone.decoded or any(o.coder is not None and o.coder.uses_base for o in alone.owns), "not decoded for no reason")
    if os.path.exists(at("expected.json")):
        with open(at("expected.json")) as f:
            expected = json.load(f)
    bind(pack, base)
    result = result_digest(pack, base) if pack.result else None
    must(pack.result == result, "result")
    merged = merge(base, [(pack, 1.0)])
    facts = dict(id=pack.id.hex(), content_id=pack.content.hex(), base=pack.base.hex(),
                 recorded_result=result and result.hex(), result=checkpoint_digest(merged).hex(), all_steps=pack.all_steps, exact=pack.exact,
                 gain=struct.pack(">f", pack.gain).hex(), files={name: s.raw.hex() for name, s in pack.files},
                 tensors={r.name: tensor_facts(r) for r in pack.rows})
    for name, there in expected.items():
        if name == "tensors":
            must(set(there) == set(facts[name]), "touched tensors")
            for n, t in there.items():
                for what, value in t.items():
                    fact = facts[name][n].get(what, value)
                    must(fact == value, f"{n}: {what} is {fact}, expected {value}")
        else:
            must(facts.get(name, there) == there, f"{name} is {facts.get(name)}, expected {there}")
    if os.path.exists(at("out.safetensors")):
        must(merged == Checkpoint(at("out.safetensors")).tensors, "another outcome")

def tensor_facts(row):
    """What `expected.json` says of a tensor."""
    def bits(x):
        return f"{struct.unpack('<I', struct.pack('<f', x))[0]:x}"
    o = row.own
    runs = [(s, o.row_len if o.groups else o.units) for s in map(bits, o.scales)]
    runs = [[s, sum(n for _, n in run)] for s, run in itertools.groupby(runs, lambda e: e[0])]
    return dict(dtype=row.dtype.name, shape=list(row.shape), kind=KINDS[o.kind], carried=o.base is None,
                positions=o.positions, codes=[f"{c:x}" for c in o.codes], scales=runs, levels=[bits(x) for x in o.levels])

def check_corrupt(path):
    """Both the rule and the exit code. A pack that needs its base has it beside it, NAME.safetensors."""
    with open(path[:-len("stitch")] + "json") as f:
        expected = json.load(f)
    base = path[:-len("stitch")] + "safetensors"
    try:
        load(path, Checkpoint(base).tensors if os.path.exists(base) else None)
    except SpecError as error:
        must(error.exit_code == expected["exit_code"], f"{error}, expected {expected}")
        must(expected.get("rule") in (None, error.rule), f"{error}, expected {expected}")
        return
    must(False, f"accepted, expected {expected}")

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "vectors"))
    parser.add_argument("--binary")
    parser.add_argument("--random", type=int, default=0, metavar="N")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", type=int, help="only the case of this number; its files are kept")
    args = parser.parse_args()
    started, passed, failed = time.time(), 0, 0
    if args.random or args.only is not None:
        folder = tempfile.mkdtemp(prefix="stitch-check-")
        run = Run(args.binary, args.seed, folder, args.only is not None)
        done, number = 0, 0
        while done < args.random or args.only is not None and number == 0:
            run.keep = args.only is not None
            done += run.one(args.only, 4) if run.keep else run.one(number, args.random - done)
            number += 1
        passed, failed = run.passed, run.failed
        print(f"{done} pairs: " + ", ".join(f"{n} {what}" for what, n in sorted(run.counts.items())))
        for what, n in sorted((+run.soft).items()):
            print(f"noted {n} times: {what}")
        if os.listdir(folder):
            print("files of these cases are in", folder)
        else:
            shutil.rmtree(folder)
    elif os.path.isdir(args.vectors):
        passed, failed = check_vectors(args.vectors)
    else:
        parser.error("no fixtures here; give --vectors, or --binary and --random")
    print(f"{time.time() - started:.1f} s")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)

if __name__ == "__main__":
    main()
