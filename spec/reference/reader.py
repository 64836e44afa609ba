#!/usr/bin/env python3
"""A slow, obvious reader of stitch packs, written from the pages of this specification alone.

It reads a pack strictly and decodes every delta; `stitch.py` binds packs to a base and computes merges. Both are meant
to be read beside `format.md` and `numbers.md` and to judge other readers, not to be fast. Ids such as HDR-1 name rules.

Needs Python 3.9 or later with `blake3` and `zstandard`.
"""
import functools, math, struct, sys
import blake3, zstandard

EXIT = {"malformed": 3, "integrity": 4, "wrong-base": 5, "refused": 6, "limit": 6, "unsupported": 8}

class SpecError(Exception):
    """A broken rule: its id and the kind of answer (README.md, "How to read it")."""
    def __init__(self, rule, kind, text=""):
        super().__init__(f"{rule} {kind}: {text}")
        self.rule, self.kind, self.exit_code = rule, kind, EXIT[kind]

def need(ok, rule, text="", kind="malformed"):
    if not ok:
        raise SpecError(rule, kind, text)

LIMITS = dict(manifest_bytes=134217728, header_bytes=100000000, tensors=262144, name_bytes=512, rank=8,
              elements=2**40, section_bytes=67108864, notes=1024, notes_bytes=1048576, files=1024, packs=4096)

def limit(name, value):
    """LIM-1."""
    need(value <= LIMITS[name], "LIM-1", f"{name}: {value}", "limit")

def digest(role, data):
    """DIG-1: BLAKE3 in key derivation mode."""
    return blake3.blake3(data, derive_key_context="stitchpack 1 " + role).digest()

# ---------------------------------------------------------------- dtypes and floats

class Dtype:
    """A row of the tables "Tensors" (format.md) and "Floats" (numbers.md)."""
    def __init__(self, code, name, bits, unit, exponent=0, mantissa=0, bias=0, style=""):
        self.code, self.name, self.bits, self.unit = code, name, bits, unit
        self.exponent, self.mantissa, self.bias, self.style, self.float = exponent, mantissa, bias, style, style != ""
        self.unit_bits, self.sign = 8 * unit, 1 << (8 * unit - 1)
        top = 1 << (exponent + mantissa)  # the first magnitude past the end
        if style == "ieee":
            self.infinity = top - (1 << mantissa)
            self.largest, self.nan = self.infinity - 1, self.infinity + (1 << mantissa >> 1)
        elif style == "e4m3":
            self.infinity, self.largest, self.nan = None, 0x7E, 0x7F
        elif style == "fnuz":
            self.infinity, self.largest, self.nan = None, 0x7F, 0x80

    def decode(self, u):
        """FLT-1: the number of a float unit, exactly."""
        m = u & (self.sign - 1)
        if self.style == "fnuz" and u == 0x80 or self.style == "e4m3" and m == 0x7F:
            return math.nan
        if self.style == "ieee" and m >= self.infinity:
            value = math.inf if m == self.infinity else math.nan
        else:
            e, f = m >> self.mantissa, m & ((1 << self.mantissa) - 1)
            value = math.ldexp(f, 1 - self.bias - self.mantissa) if e == 0 else \
                math.ldexp(f + (1 << self.mantissa), e - self.bias - self.mantissa)
        return -value if u & self.sign else value

    def encode(self, x):
        """FLT-1: the nearest unit, ties to the even code, rounded once, in integers."""
        if math.isnan(x):
            return self.nan
        sign = self.sign if math.copysign(1, x) < 0 else 0
        if math.isinf(x):
            m = self.largest + 1
        else:
            f, e = math.frexp(abs(x))
            n, e = int(f * 2**53), e - 53  # |x| = n * 2^e
            q = max(e + 52, 1 - self.bias) - self.mantissa if n else 1 - self.bias - self.mantissa
            if q <= e:
                r = n << (e - q)
            else:
                r, rest, half = n >> (q - e), n & ((1 << (q - e)) - 1), 1 << (q - e - 1)
                r += rest > half or (rest == half and r & 1)
            m = r + ((q - (1 - self.bias - self.mantissa)) << self.mantissa)
        if m > self.largest:
            if self.infinity is None:
                return self.nan | (sign if self.style == "e4m3" else 0)
            m = self.infinity
        return 0 if self.style == "fnuz" and m == 0 else sign | m

    def finite(self, u):
        return math.isfinite(self.decode(u))

    def order(self, u):
        """STP-1, modulo 2^b; the same operation leads back."""
        return u ^ (self.sign - 1) if self.float and u & self.sign else u

    def step(self, u, step):
        """STP-1: the unit that lies `step` further."""
        return self.order((self.order(u) + step) % (1 << self.unit_bits))

    def R(self, x):
        """numbers.md: to real arithmetic. A single + - * / of f32 done in f64 and then rounded to f32 is correctly
        rounded, as 53 >= 2 * 24 + 2 (also for subnormal results, where sums and products are exact in f64)."""
        return x if self.name == "F64" else f32(x)

def f32(x):
    """The nearest binary32, ties to even; what is too large becomes infinity."""
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)

DTYPES = {d.code: d for d in (
    Dtype(1, "F64", 64, 8, 11, 52, 1023, "ieee"), Dtype(2, "F32", 32, 4, 8, 23, 127, "ieee"),
    Dtype(3, "F16", 16, 2, 5, 10, 15, "ieee"), Dtype(4, "BF16", 16, 2, 8, 7, 127, "ieee"),
    Dtype(5, "F8_E4M3", 8, 1, 4, 3, 7, "e4m3"), Dtype(6, "F8_E5M2", 8, 1, 5, 2, 15, "ieee"),
    Dtype(7, "F8_E4M3FNUZ", 8, 1, 4, 3, 8, "fnuz"), Dtype(8, "F8_E5M2FNUZ", 8, 1, 5, 2, 16, "fnuz"),
    Dtype(9, "F8_E8M0", 8, 1), Dtype(10, "F6_E2M3", 6, 1), Dtype(11, "F6_E3M2", 6, 1), Dtype(12, "F4", 4, 1),
    Dtype(13, "BOOL", 8, 1), Dtype(14, "U8", 8, 1), Dtype(15, "I8", 8, 1), Dtype(16, "U16", 16, 2),
    Dtype(17, "I16", 16, 2), Dtype(18, "U32", 32, 4), Dtype(19, "I32", 32, 4), Dtype(20, "U64", 64, 8),
    Dtype(21, "I64", 64, 8), Dtype(22, "C64", 64, 1))}
BY_NAME = {d.name: d for d in DTYPES.values()}
F32, F16, BF16 = BY_NAME["F32"], BY_NAME["F16"], BY_NAME["BF16"]

STEP, INT8, INT4, SIGN, CODEBOOK = 1, 5, 6, 7, 8
KINDS = {1: "step", 2: "f32", 3: "f16", 4: "bf16", 5: "int8", 6: "int4", 7: "sign", 8: "codebook"}
KIND_BITS = {2: 32, 3: 16, 4: 16, 5: 8, 6: 4, 7: 1, 8: 4}
KIND_FLOAT = {2: F32, 3: F16, 4: BF16}
SCALED = (INT8, INT4, SIGN)

def check_name(name):
    """TEN-1."""
    need(name != "", "TEN-1", "empty name")
    for c in map(ord, name):
        bad = c < 0x20 or 0x7F <= c <= 0x9F or 0x200B <= c <= 0x200F or 0x2028 <= c <= 0x202E or \
            0x2060 <= c <= 0x2069 or c == 0xFEFF
        need(not bad, "TEN-1", f"control U+{c:04X}")
    limit("name_bytes", len(name.encode()))

def tensor_size(dtype, shape):
    """TEN-2, TEN-3: the bytes of a tensor."""
    limit("rank", len(shape))
    elements = 1
    for n in shape:
        elements *= n
        need(elements < 2**64, "TEN-3", "elements overflow")
    bits = elements * dtype.bits
    need(bits < 2**64, "TEN-3", "bits overflow")
    need(bits % 8 == 0, "TEN-3", "part of a byte")
    limit("elements", elements)
    return bits // 8

def units_of(dtype, data):
    """DTY-2: the units of a tensor as numbers."""
    return [int.from_bytes(data[i:i + dtype.unit], "little") for i in range(0, len(data), dtype.unit)]

# ---------------------------------------------------------------- zstd

def unzstd(data, size, most=None):
    """ZST-1: one frame that decodes to `size` bytes, or for gaps (MSK-5) to any number up to `most`."""
    def ok(condition, text):
        need(condition, "ZST-1", text)
    ok(data[:4] == b"\x28\xB5\x2F\xFD" and len(data) >= 6, "no frame")
    flags = data[4]
    at = 5 + (0 if flags & 0x20 else 1)
    width = (0, 1, 2, 4)[flags & 3]
    ok(int.from_bytes(data[at:at + width], "little") == 0, "a dictionary")
    at += width
    width = (1 if flags & 0x20 else 0, 2, 4, 8)[flags >> 6]
    ok(width > 0 and len(data) >= at + width, "no content size")
    content = int.from_bytes(data[at:at + width], "little") + (256 if width == 2 else 0)
    if most is None:
        ok(content == size, f"content size {content}, not {size}")
    else:
        need(content <= most, "MSK-5", f"gaps of {content} bytes")
    try:
        out = zstandard.ZstdDecompressor(max_window_size=2**31).decompress(
            data, max_output_size=max(content, 1), read_across_frames=False, allow_extra_data=False)
    except zstandard.ZstdError as error:
        ok(False, str(error))
    ok(len(out) == content, "another length")
    return out

# ---------------------------------------------------------------- manifest

class Cursor:
    """The grid of "Manifest"; whatever is read this strictly encodes to the same bytes (MAN-2). Also of "Classes"."""
    def __init__(self, data, rule="MAN-2"):
        self.data, self.at, self.rule = data, 0, rule
    def take(self, n):
        need(n <= len(self.data) - self.at, self.rule, "cut off")
        self.at += n
        return self.data[self.at - n:self.at]
    def u8(self): return self.take(1)[0]
    def u16(self): return int.from_bytes(self.take(2), "little")
    def u32(self): return int.from_bytes(self.take(4), "little")
    def u64(self): return int.from_bytes(self.take(8), "little")
    def f32(self): return struct.unpack("<f", self.take(4))[0]
    def f64(self): return struct.unpack("<d", self.take(8))[0]
    def digest(self): return self.take(32)
    def flag(self):
        tag = self.u8()
        need(tag <= 1, "MAN-2", f"tag {tag}")
        return tag == 1
    def option(self, read): return read() if self.flag() else None
    def pair(self, a, b): return a(), b()
    def text(self):
        try:
            return self.take(self.u64()).decode("utf-8")
        except UnicodeDecodeError:
            need(False, "MAN-2", "no UTF-8")
    def list(self, read):
        count = self.u64()
        need(count <= len(self.data) - self.at, "MAN-2", "the manifest ends early")
        return [read() for _ in range(count)]

class Own:
    """A delta: `positions` in the tensor and the `codes` there, with `scales` and `levels`."""

class Row:
    """A touched tensor: name, dtype, shape, and its delta `own`, which rows may share."""

class Section:
    def __init__(self, c):
        self.len, self.raw_len, self.digest = c.u64(), c.u64(), c.digest()

class Pack:
    """A pack read and checked in full; raises SpecError. `base` maps the names of the base's tensors to (dtype, shape,
    bytes). Without it a delta that needs it (CLS-1) has no positions and no codes, and `decoded` is False."""
    def __init__(self, data, base=None):
        manifest = self.read_header(data)
        self.read_manifest(Cursor(manifest))
        self.check_manifest()
        self.read_sections(data, base)
        self.decoded = all(o.positions is not None for o in self.owns)
        if self.decoded:
            content = self.content_id()
            need(content == self.content, "CID-1", f"the content id is {content.hex()}")

    def read_header(self, data):
        """HDR-1 to HDR-8, MAN-1, MAN-6; the decoded manifest."""
        need(data[:8] == b"\x89STP\r\n\x1a\n", "HDR-1", "no magic")
        need(len(data) >= 104, "HDR-3", "too short")
        length = int.from_bytes(data[40:44], "little")
        need(104 <= length <= 4096 and length <= len(data), "HDR-3", f"header length {length}")
        self.id = data[8:40]
        need(digest("header", data[:8] + data[40:length]) == self.id, "HDR-2", "pack id", "integrity")
        self.major, self.minor, incompatible, _compatible, file_len, stored, raw = struct.unpack_from("<HHIIQII", data, 44)
        need(self.major != 0, "HDR-4", "major 0")
        need(self.major == 1, "HDR-4", f"major {self.major}", "unsupported")
        need(length == 104, "HDR-3", f"header length {length}")
        need(incompatible == 0, "HDR-5", f"bits {incompatible:x}", "unsupported")
        need(file_len == len(data), "HDR-7", f"{file_len}, not {len(data)}")
        need(1 <= stored <= file_len - 104 and raw >= stored, "HDR-8", f"manifest of {stored}, {raw}")
        limit("manifest_bytes", raw)
        self.manifest_at = file_len - stored
        manifest = data[self.manifest_at:]
        need(digest("manifest", manifest) == data[72:104], "DIG-2", "manifest", "integrity")
        need(raw <= 256 * stored, "MAN-6", f"manifest of {stored}, {raw}")
        return manifest if stored == raw else unzstd(manifest, raw)

    def read_manifest(self, c):
        """MAN-2: all fields, before any is judged."""
        self.tool, self.base, self.content = c.text(), c.digest(), c.digest()
        self.result, self.all_steps, self.exact = c.option(c.digest), c.flag(), c.flag()
        self.gain, self.block_log2 = c.f32(), c.u8()
        self.origin = dict(localizer=c.text(), scope=c.text(), density=(c.u64(), c.u64()), candidates=c.u64(),
                           rescale=c.text(), energy=c.f64(), include=c.list(c.text), exclude=c.list(c.text))
        self.notes = c.list(lambda: c.pair(c.text, c.text))
        self.rows = c.list(lambda: self.read_row(c))
        self.payloads, self.tables = c.list(lambda: Section(c)), c.list(lambda: Section(c))
        self.files = c.list(lambda: c.pair(c.text, lambda: Section(c)))
        need(c.at == len(c.data), "MAN-2", "bytes after the manifest")

    def read_row(self, c):
        row = Row()
        row.name, row.code, row.shape, tag = c.text(), c.u8(), tuple(c.list(c.u64)), c.u32()
        need(tag <= 1, "MAN-2", f"delta tag {tag}")
        row.earlier, row.own, row.owner = c.u32() if tag else None, Own(), tag == 0
        if row.owner:
            o = row.own
            o.base, o.kind, o.groups = c.option(c.digest), c.u8(), c.u8()
            o.kept, o.table_len, o.payload_len = c.u64(), c.u64(), c.u64()
        return row

    def check_manifest(self):
        """MAN-3 to MAN-7 and the rules of the rows."""
        need(math.isfinite(self.gain) and self.gain > 0, "MAN-3", f"gain {self.gain}")
        need(10 <= self.block_log2 <= 20, "MAN-4", f"block_log2 {self.block_log2}")
        limit("notes", len(self.notes))
        limit("notes_bytes", sum(len(k.encode()) + len(v.encode()) for k, v in self.notes))
        ascending([k for k, _ in self.notes], "MAN-5")
        need(self.gain == 1 or not self.all_steps, "MAN-7", "steps with a gain")
        need(self.all_steps or not self.exact, "MAN-7", "exact without all_steps")
        limit("tensors", len(self.rows))
        ascending([r.name for r in self.rows], "TEN-4")
        for i, row in enumerate(self.rows):
            self.check_row(i, row)
        self.owns = [r.own for r in self.rows if r.owner]
        limit("files", len(self.files))
        ascending([name for name, _ in self.files], "FIL-1")
        for name, _ in self.files:
            check_file_name(name)

    def check_row(self, i, row):
        """TEN-1 to TEN-9, DTY-1, DTY-3, VAL-1, TAB-1."""
        check_name(row.name)
        need(row.code in DTYPES, "DTY-1", f"dtype {row.code}", "unsupported")
        row.dtype = DTYPES[row.code]
        row.bytes = tensor_size(row.dtype, row.shape)
        if not row.owner:
            need(row.earlier < i, "TEN-5", f"row {row.earlier} does not come before")
            first = self.rows[row.earlier]
            need(first.owner, "TEN-5", "that row shares a delta itself")
            need((first.dtype, first.shape) == (row.dtype, row.shape), "TEN-5", "another dtype or shape")
            row.own = first.own
            return
        o = row.own
        o.name, o.dtype, o.shape, o.units = row.name, row.dtype, row.shape, row.bytes // row.dtype.unit
        need(o.kind in KINDS, "VAL-1", f"kind {o.kind}", "unsupported")
        need(o.groups <= 1, "TEN-7", f"groups {o.groups}", "unsupported")
        need(o.groups == 0 or o.kind in SCALED, "TEN-7", "groups without scales")
        need(o.kept == o.units if o.base is None else 1 <= o.kept <= o.units, "TEN-8", f"keeps {o.kept} of {o.units}")
        need(o.kind == STEP or not self.all_steps and o.base is not None and o.dtype.float, "TEN-9", "a lossy delta")  # DTY-3
        o.row_len = o.units // row.shape[0] if len(row.shape) > 1 and o.units else o.units
        o.n_scales = 0 if o.kind not in SCALED else 1 if o.groups == 0 else o.units // o.row_len
        o.n_blocks = -(-o.units // (1 << self.block_log2))
        levels = 16 if o.kind == CODEBOOK else 0
        o.columns_len = 14 * o.n_blocks + 4 * o.n_scales + 4 * levels
        need(o.columns_len <= o.table_len <= o.columns_len + 2**20, "TAB-1", f"a table of {o.table_len}")

    # ------------------------------------------------------------ sections

    def read_sections(self, data, base):
        """SEC-1 to SEC-5, DIG-2; then every table, mask and code."""
        for sections, what in ((self.payloads, "payload_len"), (self.tables, "table_len")):
            need(sum(s.raw_len for s in sections) == sum(getattr(o, what) for o in self.owns), "SEC-1", what)
        files = [s for _, s in self.files]
        for s in self.payloads:
            need(s.len == s.raw_len >= 1, "SEC-2", "payload section")
        for s in self.tables:
            need(1 <= s.len <= s.raw_len <= 256 * s.len, "SEC-2", "table section")
        for s in files:
            need(s.len <= s.raw_len <= 256 * s.len, "SEC-2", "file section")
        at = 104
        for s in self.payloads + self.tables + files:
            limit("section_bytes", s.raw_len)
            s.at, at = at, at + s.len
        need(at == self.manifest_at, "SEC-3", f"sections end at {at}, the manifest begins at {self.manifest_at}")
        for s in self.payloads + self.tables + files:
            stored = data[s.at:s.at + s.len]
            need(digest("section", stored) == s.digest, "DIG-2", f"section at {s.at}", "integrity")
            s.raw = stored if s.len == s.raw_len else unzstd(stored, s.raw_len)
        tables, payloads = Stream(self.tables), Stream(self.payloads)
        for i, row in enumerate(self.rows):
            if row.owner:
                table = tables.take(row.own.table_len)
                self.read_table(row.own, table)
                row.own.coder = self.read_coder(i, row.own, table[row.own.columns_len:])
        for o in self.owns:
            o.positions, o.codes, missing = [], [], False
            for block in o.blocks:
                stored = payloads.take(block.mask_len + block.codes_len)
                if needs_base(o, block) and base is None:
                    missing = True
                else:
                    read_block(o, block, stored, base_units(o, block, base) if needs_base(o, block) else None)
            if missing:
                o.positions = o.codes = None

    def read_coder(self, i, o, data):
        """TAB-1, CLS-1, CLS-2; None where there is none."""
        def model_of(row):
            need(row < i and self.rows[row].owner, "CLS-2", f"the model of row {row}")
            other = self.rows[row].own.coder
            need(other is not None and not other.borrows, "CLS-2", f"row {row} has no model")
            return other.model
        coder = Coder(Cursor(data, "CLS-2"), o, model_of) if data else None
        need(coder is None or not coder.uses_base or o.base is not None, "CLS-1", "the base of a carried tensor")
        used = any(by_class(k.mask_codec, k.code_codec) for k in o.blocks)
        need(coder is None or used, "CLS-1", "no block is coded by class")
        return coder

    def read_table(self, o, t):
        """TAB-1 to TAB-5, MSK-3."""
        b, size = o.n_blocks, 1 << self.block_log2
        columns = struct.unpack_from(f"<{b}B{b}B{b}I{b}I{b}I", t)
        o.blocks = []
        for i in range(b):
            k = Own()
            k.mask_codec, k.code_codec, k.kept, k.mask_len, k.codes_len = columns[i::b]
            k.first, k.units = i * size, min(size, o.units - i * size)
            need(k.kept <= k.units, "TAB-2", f"block keeps {k.kept} of {k.units}")
            need(k.kept or not any(columns[i::b]), "TAB-2", "a block that keeps none but is not 0")
            o.blocks.append(k)
        need(sum(k.kept for k in o.blocks) == o.kept, "TAB-3", "kept")
        need(sum(k.mask_len + k.codes_len for k in o.blocks) == o.payload_len, "TAB-3", "payload_len")
        o.scales = struct.unpack_from(f"<{o.n_scales}f", t, 14 * b)
        o.levels = struct.unpack_from("<16f", t, 14 * b + 4 * o.n_scales) if o.kind == CODEBOOK else ()
        for s in o.scales:
            need(math.isfinite(s) and math.copysign(1, s) > 0, "TAB-4", f"scale {s}")
        for i, level in enumerate(o.levels):
            need(math.isfinite(level) and (level != 0 or math.copysign(1, level) > 0), "TAB-5", f"level {level}")
            need(i == 0 or o.levels[i - 1] <= level, "TAB-5", "levels descend")

    def content_id(self):
        """CID-1."""
        for o in self.owns:
            o.digest = delta_digest(o)
        parts = [self.base, struct.pack("<f", self.gain), u64(len(self.rows))]
        for r in self.rows:
            parts += [sized(r.name), r.own.digest]
        parts.append(u64(len(self.files)))
        for name, s in self.files:
            parts += [sized(name), digest("file", s.raw)]
        return digest("content", b"".join(parts))

class Stream:
    """SEC-4, SEC-5: parts are taken in order, each from one section."""
    def __init__(self, sections):
        self.sections, self.i, self.at = [s.raw for s in sections], 0, 0
    def take(self, n):
        if n == 0:
            return b""
        while self.at == len(self.sections[self.i]):
            self.i, self.at = self.i + 1, 0
        need(self.at + n <= len(self.sections[self.i]), "SEC-4", "a part that lies in two sections")
        self.at += n
        return self.sections[self.i][self.at - n:self.at]

def u64(n): return n.to_bytes(8, "little")
def sized(text): return u64(len(text.encode())) + text.encode()

def ascending(names, rule):
    keys = [n.encode() for n in names]
    need(all(a < b for a, b in zip(keys, keys[1:])), rule, "not ascending")

def plain_name(name):
    return 1 <= len(name) <= 255 and name.isascii() and all(c.isalnum() or c in "._-" for c in name) and name[0] != "."

def check_file_name(name):
    """FIL-1."""
    ends = ".safetensors .index.json .bin .pt .pth .ckpt .gguf .h5 .msgpack .onnx .pkl .npz .tflite .py"
    need(plain_name(name) and name != "stitch.json" and not name.endswith(tuple(ends.split())), "FIL-1", repr(name))

def by_class(mask_codec, code_codec):
    """CLS-1: whether a block is coded by class."""
    return mask_codec in (6, 7) or code_codec >= 2

def read_block(o, k, data, base):
    """A mask of k positions and k codes; `base` are the base's units of the block, where it is coded by them."""
    if k.kept == 0:
        return
    need(k.mask_codec <= 8, "MSK-1", f"mask codec {k.mask_codec}", "unsupported")
    need(k.code_codec <= 3, "VAL-2", f"value codec {k.code_codec}", "unsupported")
    if k.kept == k.units:
        need(k.mask_codec in (6, 7) or k.mask_codec == 1 and k.mask_len == 0, "MSK-3", "all are kept")
    else:
        need(k.mask_codec not in (0, 1), "MSK-3", "not all are kept")
    need(not by_class(k.mask_codec, k.code_codec) or o.coder is not None, "CLS-1", "there is no coder")
    mask, stored, classes = data[:k.mask_len], data[k.mask_len:], None
    if k.mask_codec == 7 or k.code_codec == 3:
        need(k.mask_codec == 7 and k.code_codec == 3 and o.kind == STEP and o.base is not None, "CLS-7", "a mask in the codes")
        steps = read_steps_of_all(o, k, mask, stored, base)
        need(sum(s != 0 for s in steps) == k.kept, "MSK-2", f"not {k.kept} steps other than 0")
        o.positions += [k.first + p for p, s in enumerate(steps) if s]
        o.codes += [s for s in steps if s]
        return
    if k.mask_codec == 6:
        positions, classes = read_mask_by_class(o, k, mask, base)
        need(len(positions) == k.kept, "MSK-2", f"{len(positions)} positions, not {k.kept}")
    else:
        positions = read_mask(k.mask_codec, mask, k.units, k.kept)
        if k.code_codec == 2:
            need(o.coder.model.rows is None, "CLS-6", "the levels of rows are not there")
            classes = unit_classes(o, k, None, base)
    codes = read_codes_by_class(o, stored, [classes[p] for p in positions]) if k.code_codec == 2 else \
        unpack_codes(o, k, unzstd(stored, (k.kept * code_bits(o) + 7) // 8) if k.code_codec == 1 else stored)
    if o.kind == STEP:
        need(o.base is None or all(codes), "VAL-2", "a step of 0")
    elif o.kind in KIND_FLOAT:
        need(all(KIND_FLOAT[o.kind].finite(c) for c in codes), "VAL-2", "infinity or NaN")
    elif o.kind in (INT8, INT4):
        need(1 << (code_bits(o) - 1) not in codes, "VAL-2", "the code that never is")
    o.positions += [k.first + p for p in positions]
    o.codes += codes

def code_bits(o):
    return o.dtype.unit_bits if o.kind == STEP else KIND_BITS[o.kind]

def unpack_codes(o, k, packed):
    """ "Codes", VAL-2."""
    bits = code_bits(o)
    need(len(packed) == (k.kept * bits + 7) // 8, "VAL-2", "length of codes")
    if bits < 8:
        every = int.from_bytes(packed, "little")
        need(every >> (bits * k.kept) == 0, "VAL-2", "unused bits")
        return [packed[i * bits // 8] >> (i * bits % 8) & ((1 << bits) - 1) for i in range(k.kept)]
    codes = [sum(packed[p * k.kept + i] << (8 * p) for p in range(bits // 8)) for i in range(k.kept)]
    if o.kind == STEP:  # unfold
        codes = [c >> 1 if c % 2 == 0 else (-(c >> 1) - 1) % (1 << bits) for c in codes]
    return codes

def read_mask(codec, data, n, k):
    """MSK-2 to MSK-6: the positions."""
    if codec == 1:
        return list(range(n))
    if codec == 8:
        return read_rice(data, n, k)
    if codec in (4, 5):
        data = unzstd(data, (n + 7) // 8) if codec == 4 else unzstd(data, None, k + n // 255)
    if codec in (2, 4):
        need(len(data) == (n + 7) // 8, "MSK-4", "length")
        positions = [8 * i + b for i, byte in enumerate(data) for b in range(8) if byte >> b & 1]
        need(len(positions) == k and positions[-1] < n, "MSK-4", "bits")
        return positions
    positions, at = [], 0
    need(len(data) > 0 and data[-1] != 255, "MSK-5", "ends in a gap")
    for byte in data:
        at += byte
        if byte != 255:
            positions.append(at)
            at += 1
    need(len(positions) == k and positions[-1] < n, "MSK-2", "positions")
    return positions

def read_rice(data, n, k):
    """MSK-6."""
    need(len(data) > 0 and data[0] <= 31, "MSK-6", "number of low bits")
    s = data[0]
    highs = 1 + (k * s + 7) // 8
    need(len(data) > highs and data[-1] != 0, "MSK-6", "length")
    lows = int.from_bytes(data[1:highs], "little")
    need(lows >> (k * s) == 0, "MSK-6", "a bit after the low bits")
    positions, at, high = [], 0, 0
    for bit in (byte >> b & 1 for byte in data[highs:] for b in range(8)):
        if bit:
            at += (high << s) + (lows >> (s * len(positions)) & ((1 << s) - 1))
            positions.append(at)
            at, high = at + 1, 0
        else:
            high += 1
    need(len(positions) == k and positions[-1] < n, "MSK-2", "positions")
    return positions

# ---------------------------------------------------------------- entropy coding

class Table:
    """Entries with frequencies that add up to 4,096; `first` is the symbol of entry 1 where the table is stored."""
    def __init__(self, frequencies, first=None):
        self.frequencies, self.first = frequencies, first
        self.starts = [sum(frequencies[:i]) for i in range(len(frequencies))]
        self.entry_of_slot = [e for e, f in enumerate(frequencies) for _ in range(f)]
    def has(self, symbol):
        entry = symbol - self.first + 1
        return 1 <= entry < len(self.frequencies) and self.frequencies[entry] > 0

def weight(s):
    """ENT-1."""
    return (8 + (s - 1) % 8) << (s - 1) // 8 if s else 0

def frequencies(weights):
    """ENT-2."""
    present, total = sum(w > 0 for w in weights), sum(weights)
    out = [1 + w * (4096 - present) // total if w else 0 for w in weights]
    out[weights.index(max(weights))] += 4096 - sum(out)
    return out

def stored_table(c):
    """ENT-3."""
    c.rule = "ENT-3"
    n, first = c.u16(), c.u16()
    weights = c.take(n)
    need(2 <= n <= 256 and first + n <= 513, "ENT-3", f"{n} entries from {first}")
    need(max(weights) <= 128 and weights[1] and weights[-1], "ENT-3", "weights")
    table = Table(frequencies([weight(s) for s in weights]), first)
    table.stored = first, weights
    return table

class CodedRun:
    """ENT-4, ENT-5."""
    def __init__(self, data, n):
        need(len(data) >= 4 * n, "ENT-4", "no states")
        self.data, self.states = data, list(struct.unpack_from(f"<{n}I", data))
        need(min(self.states) >= 65536, "ENT-4", "a small state")
        self.at, self.entries, self.bits = 4 * n, 0, 0

    def entry(self, table):
        j = self.entries % len(self.states)
        x = self.states[j]
        slot = x % 4096
        entry = table.entry_of_slot[slot]
        x = table.frequencies[entry] * (x // 4096) + slot - table.starts[entry]
        if x < 65536:
            need(self.at + 2 <= len(self.data), "ENT-4", "no more words")
            x = 65536 * x + int.from_bytes(self.data[self.at:self.at + 2], "little")
            self.at += 2
        self.states[j], self.entries = x, self.entries + 1
        return entry

    def symbol(self, table):
        entry = self.entry(table)
        if entry:
            return table.first + entry - 1
        symbol = self.raw(9)
        need(not table.has(symbol), "ENT-4", "an escape for nothing")
        return symbol

    def raw(self, n):
        first, self.bits, size = self.bits, self.bits + n, len(self.data)
        need((self.bits + 7) // 8 <= size, "ENT-5", "no more raw bits")
        part = self.data[size - (self.bits + 7) // 8:size - first // 8]
        return int.from_bytes(part, "big") >> first % 8 & ((1 << n) - 1)

    def finish(self):
        need(all(x == 65536 for x in self.states), "ENT-4", "the last state")
        size = (self.bits + 7) // 8
        need(len(self.data) - self.at == size, "ENT-5", "another number of raw bits")
        need(self.bits % 8 == 0 or self.data[self.at] >> self.bits % 8 == 0, "ENT-5", "unused bits")

@functools.lru_cache(None)
def gap_table(c):
    """ENT-6: whether gaps are inverted, `shift`, and the table, whose last entry is `last`."""
    v = abs(c - 80)
    up = -(-v // 4)
    odds = ((65536, 77936, 92682, 110218)[up * 4 - v] << 16) >> up
    rest = 2**64 // (odds + 2**32)
    shift = max(v // 4 - 3, 0)
    for _ in range(shift):
        rest = rest * rest >> 32
    tail, weights = 2**32, []
    while len(weights) < 63 and tail >= 2**20:
        following = tail * rest >> 32
        weights.append(tail - following)
        tail = following
    return c > 80, shift, Table(frequencies(weights + [max(tail, 1)]))

# ---------------------------------------------------------------- classes

class Model:
    """CLS-3."""
    def __init__(self, c):
        c.rule = "CLS-3"
        self.classes, parts = c.u8(), c.u8()
        need(1 <= self.classes <= 64 and parts <= 7, "CLS-3", f"{self.classes} classes, parts {parts}")
        self.odds, self.occupied = c.take(self.classes), c.take(self.classes)
        need(max(self.odds) <= 127, "CLS-3", "odds")
        self.rows = stored_table(c) if parts & 1 else None
        self.columns = stored_table(c) if parts & 2 else None
        self.values = []
        for i in range(self.classes if parts & 4 else 0):
            if c.data[c.at:c.at + 2] == b"\0\0":
                c.at += 2
                need(i > 0, "CLS-3", "no table before the first")
                self.values.append(self.values[-1])
            else:
                table = stored_table(c)
                need(i == 0 or table.stored != self.values[-1].stored, "CLS-3", "the table of before once more")
                self.values.append(table)

class Coder:
    """CLS-2."""
    def __init__(self, c, o, model_of):
        flags, self.axis = c.u8(), c.u8()
        self.origin = int.from_bytes(c.take(2), "little", signed=True)
        need(flags <= 7 and self.axis <= len(o.shape), "CLS-2", f"flags {flags}, axis {self.axis}")
        self.uses_base, self.borrows = flags & 1 == 1, flags & 4 == 4
        need(o.dtype.float or not self.uses_base, "CLS-2", "no exponents")
        self.model = model_of(c.u32()) if self.borrows else Model(c)
        self.row_len = math.prod(o.shape[self.axis:]) * o.dtype.bits // (8 * o.dtype.unit)
        units = math.prod(o.shape) * o.dtype.bits // (8 * o.dtype.unit)
        need(self.model.rows is None or self.row_len >= min(8, units), "CLS-2", f"levels for rows of {self.row_len}")
        self.columns = None  # level 0
        if flags & 2:
            need(1 <= self.row_len <= 2**18, "CLS-2", f"{self.row_len} columns")
            need(self.model.columns is not None, "CLS-2", "no table of columns")
            run = CodedRun(c.data[c.at:], 1)
            self.columns = [level(run.symbol(self.model.columns), "CLS-2") for _ in range(self.row_len)]
            run.finish()
        else:
            need(c.at == len(c.data), "CLS-2", "bytes after the coder")
        need(-1024 <= self.origin <= 1024, "CLS-2", f"origin {self.origin}")

DEAD = None

def level(symbol, rule):
    """CLS-2."""
    need(symbol <= 33, rule, f"level {symbol}")
    return symbol - 17 if symbol else DEAD

def needs_base(o, k):
    """CLS-1."""
    return o.coder is not None and o.coder.uses_base and by_class(k.mask_codec, k.code_codec)

def base_units(o, k, base):
    """The base's units of a block, of the right base (BAS-2)."""
    there = base.get(o.name)
    need(there and there[:2] == (o.dtype, o.shape) and digest("tensor", there[2]) == o.base, "BAS-2", o.name, "wrong-base")
    return units_of(o.dtype, there[2][k.first * o.dtype.unit:(k.first + k.units) * o.dtype.unit])

def exponent(dtype, unit):
    """CLS-4: e."""
    e = unit >> dtype.mantissa & ((1 << dtype.exponent) - 1)
    return min(max(e - 896, 0), 255) if dtype.name == "F64" else e

def row_count(o, k):
    """Rows that have units in a block."""
    size = o.coder.row_len
    return (k.first + k.units - 1) // size - k.first // size + 1 if size else 0

def unit_classes(o, k, rows, base):
    """CLS-4: the class of every unit of a block, None for those without one. `rows` are the levels of its rows."""
    coder, out = o.coder, []
    if coder.row_len == 0:
        return [None] * k.units
    for i in range(k.units):
        row, column = divmod(k.first + i, coder.row_len)
        by_row = rows[row - k.first // coder.row_len] if rows is not None else 0
        by_column = coder.columns[column] if coder.columns is not None else 0
        if by_row is DEAD or by_column is DEAD:
            out.append(None)
            continue
        e = exponent(o.dtype, base[i]) if coder.uses_base else 0
        out.append(min(max(coder.origin + by_row - 2 * e + by_column, 0), coder.model.classes - 1))
    return out

def read_mask_by_class(o, k, data, base):
    """CLS-5: the positions, and the class of every unit."""
    run, model, rows = CodedRun(data, 1), o.coder.model, None
    if model.rows is not None:
        rows = [level(run.symbol(model.rows), "CLS-5") for _ in range(row_count(o, k))]
    classes, positions = unit_classes(o, k, rows, base), []
    for c in range(model.classes):
        none = 4088 - 16 * model.occupied[c]
        if run.entry(Table([none, 4096 - none])) == 0:
            continue
        members = [i for i, of in enumerate(classes) if of == c]
        (inverted, shift, table), hits, at = gap_table(model.odds[c]), [], 0
        while True:
            left, high = len(members) - at, read_high(run, table, (len(members) - at + (1 << shift) - 1) >> shift)
            if high << shift >= left:
                break
            at += (high << shift) + run.raw(shift)
            need(at < len(members), "CLS-5", "a gap past the end")
            hits.append(members[at])
            at += 1
        kept = sorted(set(members) - set(hits)) if inverted else hits
        need(kept, "CLS-5", "a class that keeps none")
        positions += kept
    run.finish()
    return sorted(positions), classes

def read_high(run, table, end):
    """A high part, which is at most that of the end."""
    high, last = 0, len(table.frequencies) - 1
    while True:
        entry = run.entry(table)
        high += entry
        need(high <= end, "CLS-5", "a late end")
        if entry != last:
            return high

def read_codes_by_class(o, data, classes):
    """CLS-6: a code for each of the kept units, whose classes are given."""
    model, codes = o.coder.model, []
    need(o.kind != SIGN, "CLS-6", "signs")
    need(model.values, "CLS-6", "no tables of values")
    run = CodedRun(data, 2)
    for c in classes:
        need(c is not None, "CLS-6", "a unit without a class")
        codes.append(read_code(o, run, run.symbol(model.values[c])))
    run.finish()
    return codes

def read_steps_of_all(o, k, mask, data, base):
    """CLS-7: the step of every unit, 0 for those without a class."""
    model, rows = o.coder.model, None
    if model.rows is not None:
        run = CodedRun(mask, 1)
        rows = [level(run.symbol(model.rows), "CLS-5") for _ in range(row_count(o, k))]
        run.finish()
    else:
        need(mask == b"", "CLS-7", "a mask where there are no levels")
    classes = unit_classes(o, k, rows, base)
    need(model.values, "CLS-6", "no tables of values")
    run = CodedRun(data, 4)
    steps = [0 if c is None else read_code(o, run, run.symbol(model.values[c])) for c in classes]
    run.finish()
    return steps

def read_code(o, run, s):
    """The code of a symbol and raw bits ("Codes by class")."""
    bits, text = code_bits(o), f"symbol {s} of {KINDS[o.kind]}"
    if o.kind == STEP:
        l = s // 4 - 1 if s >= 4 else 0
        raw = run.raw(l + 1) if s else 0
        magnitude = ((4 + s % 4 if s >= 4 else s) << l) + (raw >> 1)
        need(magnitude <= (1 << bits - 1) - 1 + (raw & 1), "CLS-6", text)
        return (-magnitude if raw & 1 else magnitude) % (1 << bits)
    if o.kind in KIND_FLOAT:
        f = KIND_FLOAT[o.kind]
        raw = run.raw(f.mantissa + 1)
        need(s < 1 << f.exponent, "CLS-6", text)
        return (raw & 1) * f.sign + (s << f.mantissa) + (raw >> 1)
    offset = {INT8: 127, INT4: 7, CODEBOOK: 0}[o.kind]
    need(s <= {INT8: 254, INT4: 14, CODEBOOK: 15}[o.kind], "CLS-6", text)
    return (s - offset) % (1 << bits)

# ---------------------------------------------------------------- content id

def delta_digest(o):
    """CID-2."""
    size = o.dtype.unit if o.kind == STEP else (KIND_BITS[o.kind] + 7) // 8
    parts = [bytes([o.dtype.code, o.kind, o.base is not None]), o.base or bytes(32), u64(len(o.shape))]
    parts += [u64(n) for n in o.shape] + [u64(len(o.scales))]
    parts += [struct.pack("<f", x) for x in (*o.scales, *o.levels)]
    runs = {}
    for p, c in zip(o.positions, o.codes):
        runs.setdefault(p // 1024, []).append((p % 1024, c))
    for run, kept in sorted(runs.items()):
        parts += [u64(run), struct.pack("<H", len(kept))]
        if len(kept) > 64:
            parts.append(sum(1 << p for p, _ in kept).to_bytes(128, "little"))
        else:
            parts += [struct.pack("<H", p) for p, _ in kept]
        parts += [c.to_bytes(size, "little") for _, c in kept]
    return digest("delta", b"".join(parts))

def load(path, base=None):
    """The pack in a file; `base` as for `Pack`."""
    with open(path, "rb") as f:
        return Pack(f.read(), base)

def main(path):
    """reader.py PACK: what a pack is."""
    p = load(path)
    print(f"id {p.id.hex()}\ncontent {p.content.hex()}\nbase {p.base.hex()}\nexact {p.exact} gain {p.gain}")
    print("everything decodes" if p.decoded else "not decoded: what needs the base")
    for r in p.rows:
        print(f"{r.name!r} {r.dtype.name} {list(r.shape)} {KINDS[r.own.kind]} keeps {r.own.kept} of {r.own.units}")

def run(main):
    """Runs a program; the exit code is the answer's (README.md)."""
    try:
        main(*sys.argv[1:])
    except SpecError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)

if __name__ == "__main__":
    run(main)
