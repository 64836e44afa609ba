#!/usr/bin/env python3
"""make_seeds.py STITCHPACK: writes the seeds of every fuzz target to fuzz/seeds, from packs that the command makes.

Needs Python 3 and the packages zstandard and blake3. Packs are stored with a plain manifest, so that a change of a byte reaches the
parser; the targets make the digests right themselves.
"""
import json, os, random, struct, subprocess, sys, tempfile
import zstandard

HERE = os.path.dirname(os.path.abspath(__file__))
SEEDS = os.path.join(HERE, "seeds")
sys.path.insert(0, os.path.join(HERE, "../spec/reference"))
from reader import Pack
RUNS = {
    "exact": ["--exact"],
    "sign": ["--density", "5%"],
    "codebook": ["--density", "30%", "--values", "codebook"],
    "int8row": ["--density", "100%", "--values", "int8", "--groups", "row"],
    "int4": ["--density", "50%", "--values", "int4", "--meta", "a=b"],
    "bf16": ["--density", "10%", "--values", "bf16"],
    "f16": ["--density", "10%", "--values", "f16"],
    "empty": ["--density", "0"],
}


def write(path, tensors):
    header, at, data = {}, 0, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at, data = at + len(raw), data + raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    return text.rstrip()


def seed(target, name, data):
    os.makedirs(os.path.join(SEEDS, target), exist_ok=True)
    with open(os.path.join(SEEDS, target, name), "wb") as f:
        f.write(data)


def floats(n):
    return b"".join(struct.pack("<f", random.gauss(0, 1)) for _ in range(n))


def halves(n):
    whole = floats(n)
    return b"".join(whole[i * 4 + 2 : i * 4 + 4] for i in range(n))


def models(folder):
    a = floats(300)
    b = bytearray(a)
    for i in random.sample(range(300), 40):
        (x,) = struct.unpack_from("<f", a, i * 4)
        struct.pack_into("<f", b, i * 4, x + random.gauss(0, 0.1))
    twin = halves(32)
    base = {
        "a.weight": ("F32", [15, 20], a),
        "b.bias": ("BF16", [64], halves(64)),
        "ids": ("I64", [3], struct.pack("<3q", 1, 2, 3)),
        "m": ("BOOL", [5], b"\0\1\0\1\1"),
        "tied.x": ("BF16", [4, 8], twin),
        "tied.y": ("BF16", [4, 8], twin),
    }
    moved = halves(32)
    tuned = dict(base, **{
        "a.weight": ("F32", [15, 20], bytes(b)),
        "b.bias": ("BF16", [64], halves(64)),
        "ids": ("I64", [3], struct.pack("<3q", 1, 5, 3)),
        "tied.x": ("BF16", [4, 8], moved),
        "tied.y": ("BF16", [4, 8], moved),
    })
    seed("checkpoint", "base", write(folder + "/base.safetensors", base))
    write(folder + "/tuned.safetensors", tuned)
    seed("checkpoint", "new", write(folder + "/new.safetensors", dict(tuned, new=("F16", [4], bytes(range(8))))))


def pack_seeds(name, data):
    """A pack with a plain manifest."""
    stored, raw = struct.unpack_from("<II", data, 64)
    manifest, body = data[-stored:], data[104:-stored]
    if stored != raw:
        manifest = zstandard.ZstdDecompressor().decompress(manifest, max_output_size=raw)
    header = bytearray(data[:104])
    struct.pack_into("<QII", header, 56, 104 + len(body) + raw, raw, raw)
    seed("open", name, bytes(header) + body + manifest)
    seed("manifest", name, manifest)


def packs(command, folder):
    env = dict(os.environ, STITCHPACK_CACHE=folder + "/cache")
    runs = {name: ("tuned", args) for name, args in RUNS.items()}
    runs["carried"] = ("new", ["--exact", "--new-tensors", "carry"])
    for name, (tuned, args) in runs.items():
        path = f"{folder}/{name}.stitch"
        inputs = [folder + "/base.safetensors", f"{folder}/{tuned}.safetensors"]
        subprocess.run([command, "create", *inputs, "-o", path, "-q", *args], env=env, check=True, stdout=subprocess.DEVNULL)
        with open(path, "rb") as f:
            data = f.read()
        pack_seeds(name, data)


def masks():
    def mask(codec, kept, length, stored):
        return bytes([codec]) + struct.pack("<I", kept)[:3] + struct.pack("<I", length - 1)[:3] + stored

    pack = zstandard.ZstdCompressor().compress
    seed("mask", "bitmap", mask(2, 3, 20, bytes([0b10000001, 0, 1])))
    seed("mask", "gaps", mask(3, 3, 1000, bytes([0, 5, 255, 10])))
    seed("mask", "all", mask(1, 9, 9, b""))
    seed("mask", "gaps_zstd", mask(5, 200, 60000, pack(bytes([0] * 100 + [255] * 20 + [1] * 100))))
    seed("mask", "bitmap_zstd", mask(4, 800, 8000, pack(b"\xff" * 100 + b"\0" * 900)))


def values():
    for kind, width in enumerate([16, 32, 16, 16, 8, 4, 1, 4]):
        n = 9
        length = (n * width + 7) // 8
        packed = bytes([1] * (length - 1) + [0]) if width < 8 else bytes([1] * length)
        head = bytes([kind, 3]) + struct.pack("<H", n) + b"\0"
        seed("values", f"stored{kind + 1}", b"\0" + head + packed)
        seed("values", f"zstd{kind + 1}", b"\1" + head + zstandard.ZstdCompressor().compress(packed))


def base_of(seed, units, unit):
    """As in src/fuzz.rs."""
    whole = bytearray(((i * (seed * 2 + 1) * 0x9E3779B1) & 0xFFFFFFFF) >> 24 for i in range(units * unit))
    if seed & 1:
        whole[unit - 1 :: unit] = b"\x3c" * units
    else:
        whole[unit - 1 :: unit] = bytes(0x20 | b & 0x1F for b in whole[unit - 1 :: unit])
    return bytes(whole)


# Target classes: dtype and its code, bytes of a unit, seed of the base, shape, arguments, one in how many units changes.
CLASSES = {
    "step_bf16": ("BF16", 4, 2, 2, (96, 80), ["--exact"], 2),
    "step_f32": ("F32", 2, 4, 2, (64, 80), ["--exact"], 2),
    "step_f8": ("F8_E4M3", 5, 1, 2, (64, 64), ["--exact"], 2),
    "step_f16_fast": ("F16", 3, 2, 3, (30, 64), ["--exact", "--effort", "fast"], 4),
    "step_u8": ("U8", 14, 1, 5, (50, 64), ["--exact"], 5),
    "step_i64": ("I64", 21, 8, 7, (30, 64), ["--exact"], 5),
    "sign": ("F32", 2, 4, 1, (64, 64), ["--density", "10%"], 1),
    "int8": ("F32", 2, 4, 3, (32, 40), ["--density", "40%", "--values", "int8"], 1),
    "int4": ("BF16", 4, 2, 3, (32, 64), ["--density", "20%", "--values", "int4"], 1),
    "codebook": ("BF16", 4, 2, 3, (32, 64), ["--density", "97%", "--values", "codebook"], 1),
    "f32": ("F32", 2, 4, 3, (32, 40), ["--density", "30%", "--values", "f32"], 1),
    "bf16": ("F32", 2, 4, 5, (32, 64), ["--density", "20%", "--values", "bf16"], 1),
}


def classes(command, folder):
    env = dict(os.environ, STITCHPACK_CACHE=folder + "/cache")
    for name, (dtype, code, unit, base_seed, shape, args, every) in CLASSES.items():
        units = shape[0] * shape[1]
        base = base_of(base_seed, units, unit)
        tuned = bytearray(base)
        for i in random.sample(range(units), units // every):
            # Loud rows and columns differ from quiet ones, and, where exponents are far apart, small numbers from large ones.
            small = base_seed & 1 or not base[i * unit + unit - 1] & 0x18
            if small and (i // shape[-1] % 3 or random.random() < 0.3):
                at = i * unit + max(0, unit - 2 - (i % shape[-1] % 5 == 0))
                tuned[at] = (tuned[at] + random.choice([1, 2, 3, 255, 254])) & 255
        paths = [folder + "/class-base.safetensors", folder + "/class-tuned.safetensors", folder + "/class.stitch"]
        write(paths[0], {"t": (dtype, list(shape), base)})
        write(paths[1], {"t": (dtype, list(shape), bytes(tuned))})
        run = [command, "create", *paths[:2], "-o", paths[2], "-q", "--force", *args]
        subprocess.run(run, env=env, check=True, stdout=subprocess.DEVNULL)
        with open(paths[2], "rb") as f:
            data = f.read()
        pack = Pack(data)
        if name in ("int8", "step_bf16"):
            pack_seeds("class_" + name, data)
        (own,), table = pack.owns, pack.tables[0].raw
        mask_codec, value_codec = table[:2]
        assert mask_codec == 6, f"{name}: mask codec {mask_codec}"
        (mask_len,) = struct.unpack_from("<I", table, 6)
        coder, payload = table[own.columns_len :], pack.payloads[0].raw
        ways = 0 if value_codec == 2 else 1
        if value_codec == 1:
            payload = payload[:mask_len]
        head = struct.pack("<4B5H", code - 1, own.kind - 1, ways, base_seed, *shape, 0, len(coder), mask_len)
        seed("classes", name, head + coder + payload)


def adapter(name, config, tensors):
    """As in tests/common/adapters.rs."""
    header, at, data = {}, 0, b""
    for key, (dtype, shape, raw) in tensors.items():
        header["base_model.model." + key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at, data = at + len(raw), data + raw
    config, header = json.dumps(config).encode(), json.dumps(header).encode()
    seed("adapter", name, struct.pack("<HH", len(config), len(header)) + config + header + data)


def adapters():
    def pair(module, rank, rows, columns, embedding=False):
        a, b = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
        a, b = f"{module}.{a}", f"{module}.{b}"
        return {a: ("F32", [rank, columns], floats(rank * columns)), b: ("BF16", [rows, rank], halves(rows * rank))}

    def sparse(module, cells, code="q", dtype="I64"):
        rows, columns = zip(*cells)
        raw = struct.pack(f"<{2 * len(cells)}{code}", *rows, *columns)
        return {f"{module}.shira_indices": (dtype, [2, len(cells)], raw), f"{module}.shira_weight": ("F32", [len(cells)], floats(len(cells)))}

    lora = {"peft_type": "LORA", "r": 2, "lora_alpha": 4}
    adapter("lora", lora, pair("model.layers.0.proj", 2, 6, 4))
    adapter("rslora", dict(lora, use_rslora=True, fan_in_fan_out=True), pair("layers.0.square", 2, 5, 5))
    patterns = {"rank_pattern": {"long": 3, "^small": 1}, "alpha_pattern": {"long": 0.5}}
    adapter("patterns", dict(lora, **patterns), {**pair("long", 3, 2, 300), **pair("small", 1, 4, 4)})
    adapter("embedding", lora, pair("model.embed", 2, 3, 7, embedding=True))
    whole = {"model.layers.0.proj.base_layer.bias": ("BF16", [6], halves(6)), "head.weight": ("F32", [2, 2], floats(4))}
    adapter("whole", dict(lora, bias="all"), {**whole, **pair("layers.1.proj", 2, 6, 4)})
    adapter("empty", lora, {**pair("no_rows", 2, 0, 4), **pair("no_columns", 2, 4, 0)})
    adapter("several", lora, pair("proj", 2, 6, 4))
    adapter("dora", dict(lora, use_dora=True), pair("long", 2, 2, 300))
    shira = {"peft_type": "SHIRA", "r": 2}
    adapter("shira", shira, sparse("long", [(0, 5), (1, 299), (0, 4)]))
    adapter("shira_i32", shira, {**sparse("small", [(0, 0), (3, 3)], "i", "I32"), **sparse("model.embed", [(6, 2)], "f", "F32")})


def main():
    random.seed(1)
    with tempfile.TemporaryDirectory() as folder:
        models(folder)
        packs(sys.argv[1], folder)
        classes(sys.argv[1], folder)
    masks()
    values()
    adapters()
    for k in range(4):
        seed("apply", str(k), bytes([k * 37 + i for i in range(8)] + [k, k, k]))


main()
