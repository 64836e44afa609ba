//! Masks and codes by class as spec/format.md, "Entropy coding" and "Classes", describes them: read slowly, entry by entry and
//! unit by unit. What is read here is legal, so anything else is a panic. Shares nothing with the crate's coder.

use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;

use super::models::unit_bytes;

/// A coded run of some states. [ENT-4] [ENT-5]
struct Run<'a> {
    bytes: &'a [u8],
    states: Vec<u64>,
    entries: usize,
    words_end: usize,
    bits: usize,
}

impl<'a> Run<'a> {
    fn new(bytes: &'a [u8], states: usize) -> Self {
        let state = |i: usize| u64::from(u32::from_le_bytes(bytes[4 * i..4 * i + 4].try_into().unwrap()));
        let run = Run { bytes, states: (0..states).map(state).collect(), entries: 0, words_end: 4 * states, bits: 0 };
        assert!(run.states.iter().all(|x| *x >= 65536));
        run
    }

    /// Reads an entry of a table with these frequencies.
    fn entry(&mut self, frequencies: &[u64]) -> usize {
        let which = self.entries % self.states.len();
        self.entries += 1;
        let x = self.states[which];
        let (slot, mut start, mut entry) = (x % 4096, 0, 0);
        while slot >= start + frequencies[entry] {
            start += frequencies[entry];
            entry += 1;
        }
        let mut x = frequencies[entry] * (x / 4096) + slot - start;
        if x < 65536 {
            let word = u16::from_le_bytes(self.bytes[self.words_end..self.words_end + 2].try_into().unwrap());
            self.words_end += 2;
            x = 65536 * x + u64::from(word);
        }
        self.states[which] = x;
        entry
    }

    fn raw(&mut self, n: usize) -> u64 {
        let bit = |i: usize| u64::from(self.bytes[self.bytes.len() - 1 - i / 8] >> (i % 8) & 1);
        let number = (0..n).map(|i| bit(self.bits + i) << i).sum();
        self.bits += n;
        number
    }

    fn symbol(&mut self, table: &Table) -> u64 {
        match self.entry(&table.frequencies) {
            0 => {
                let symbol = self.raw(9);
                let entry = (symbol + 1).checked_sub(table.first).map_or(0, |e| e as usize);
                assert!(entry == 0 || table.frequencies.get(entry).is_none_or(|f| *f == 0));
                symbol
            }
            entry => table.first + entry as u64 - 1,
        }
    }

    fn end(&self) {
        assert!(self.states.iter().all(|x| *x == 65536));
        assert_eq!(self.words_end + self.bits.div_ceil(8), self.bytes.len());
    }
}

/// A run of these entries, each a start and a frequency, and of the raw bits as bytes that are already in their order. [ENT-5]
pub fn write_run(states: usize, entries: &[(u64, u64)], raw: &[u8]) -> Vec<u8> {
    let (mut x, mut words) = (vec![65536u64; states], Vec::new());
    for (i, (start, f)) in entries.iter().enumerate().rev() {
        let x = &mut x[i % states];
        if *x >= f << 20 {
            words.push(*x as u16);
            *x >>= 16;
        }
        *x = 4096 * (*x / f) + *x % f + start;
    }
    let mut out: Vec<u8> = x.iter().flat_map(|x| (*x as u32).to_le_bytes()).collect();
    out.extend(words.iter().rev().flat_map(|w| w.to_le_bytes()));
    [&out, raw].concat()
}

/// Start and frequency of an entry of the gap table of an odds code.
pub fn gap_entry(code: u8, entry: usize) -> (u64, u64) {
    let frequencies = gap_table(code).2;
    (frequencies[..entry].iter().sum(), frequencies[entry])
}

/// [ENT-2]
fn frequencies(weights: &[u128]) -> Vec<u64> {
    let m = weights.iter().filter(|w| **w != 0).count() as u128;
    let sum: u128 = weights.iter().sum();
    let share = |w: &u128| if *w == 0 { 0 } else { (1 + w * (4096 - m) / sum) as u64 };
    let mut out: Vec<u64> = weights.iter().map(share).collect();
    let heaviest = weights.iter().position(|w| w == weights.iter().max().unwrap()).unwrap();
    out[heaviest] += 4096 - out.iter().sum::<u64>();
    out
}

/// A stored table. [ENT-3]
#[derive(Clone)]
pub struct Table {
    first: u64,
    frequencies: Vec<u64>,
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(n);
    *bytes = tail;
    head
}

fn number(bytes: &mut &[u8], n: usize) -> u64 {
    take(bytes, n).iter().rev().fold(0, |all, b| all << 8 | u64::from(*b))
}

impl Table {
    fn read(bytes: &mut &[u8]) -> Self {
        let (n, first) = (number(bytes, 2), number(bytes, 2));
        Self::after(bytes, n, first)
    }

    fn after(bytes: &mut &[u8], n: u64, first: u64) -> Self {
        // [ENT-1]
        let weight = |s: &u8| match s.checked_sub(1) {
            Some(t) => u128::from(8 + t % 8) << (t / 8),
            None => 0,
        };
        let weights: Vec<u128> = take(bytes, n as usize).iter().map(weight).collect();
        Table { first, frequencies: frequencies(&weights) }
    }
}

/// Whether gaps are inverted, their shift, and their frequencies. [ENT-6]
fn gap_table(code: u8) -> (bool, usize, Vec<u64>) {
    let v = u32::from(code.abs_diff(80));
    let up = v.div_ceil(4);
    let q = [65536u128, 77936, 92682, 110218][(up * 4 - v) as usize];
    let odds = q * 65536 / (1 << up);
    let mut rest = (1u128 << 64) / (odds + (1 << 32));
    let shift = (v / 4).saturating_sub(3);
    for _ in 0..shift {
        rest = (rest * rest) >> 32;
    }
    let (mut tail, mut weights) = (1u128 << 32, Vec::new());
    while weights.len() < 63 && tail >= 1 << 20 {
        let next = (tail * rest) >> 32;
        weights.push(tail - next);
        tail = next;
    }
    weights.push(tail.max(1));
    (code > 80, shift as usize, frequencies(&weights))
}

/// [CLS-3]
#[derive(Clone)]
pub struct Model {
    odds: Vec<u8>,
    occupied: Vec<u8>,
    rows: Option<Table>,
    columns: Option<Table>,
    values: Vec<Table>,
}

impl Model {
    fn read(bytes: &mut &[u8]) -> Self {
        let (n, parts) = (number(bytes, 1) as usize, number(bytes, 1));
        let (odds, occupied) = (take(bytes, n).to_vec(), take(bytes, n).to_vec());
        let rows = (parts & 1 != 0).then(|| Table::read(bytes));
        let columns = (parts & 2 != 0).then(|| Table::read(bytes));
        let mut values: Vec<Table> = Vec::new();
        for _ in 0..if parts & 4 != 0 { n } else { 0 } {
            let next = match number(bytes, 2) {
                0 => values.last().unwrap().clone(),
                n => {
                    let first = number(bytes, 2);
                    Table::after(bytes, n, first)
                }
            };
            values.push(next);
        }
        Model { odds, occupied, rows, columns, values }
    }
}

/// The row of the manifest whose model a coder has, where it has another's.
pub fn shared_row(coder: &[u8]) -> Option<u32> {
    (coder[0] & 4 != 0).then(|| u32::from_le_bytes(coder[4..8].try_into().unwrap()))
}

/// The model in the bytes of a coder.
pub fn model_of(coder: &[u8]) -> Model {
    Model::read(&mut &coder[4..])
}

/// Bytes of the model in a coder.
pub fn model_len(coder: &[u8]) -> usize {
    let mut rest = &coder[4..];
    Model::read(&mut rest);
    coder.len() - 4 - rest.len()
}

/// None for dead. [CLS-2]
fn level(symbol: u64) -> Option<i64> {
    assert!(symbol <= 33);
    (symbol > 0).then(|| symbol as i64 - 17)
}

/// One block of a tensor and what there is to decode it with.
pub struct Block<'a> {
    pub dtype: Dtype,
    pub shape: &'a [u64],
    pub coder: &'a [u8],
    pub model: &'a Model,
    /// The base's bytes of the whole tensor.
    pub base: &'a [u8],
    pub start: u64,
    pub len: u64,
}

impl Block<'_> {
    fn row_len(&self) -> u64 {
        let d: u64 = self.shape[usize::from(self.coder[1])..].iter().product();
        d * u64::from(self.dtype.bits()) / (8 * unit_bytes(self.dtype) as u64)
    }

    fn columns(&self) -> Vec<Option<i64>> {
        if self.coder[0] & 2 == 0 {
            return vec![Some(0); self.row_len() as usize];
        }
        let mut rest = &self.coder[4..];
        match shared_row(self.coder) {
            Some(_) => rest = &rest[4..],
            None => drop(Model::read(&mut rest)),
        }
        let mut run = Run::new(rest, 1);
        let table = self.model.columns.as_ref().unwrap();
        let levels = (0..self.row_len()).map(|_| level(run.symbol(table))).collect();
        run.end();
        levels
    }

    /// [CLS-4]
    fn exponent(&self, unit: u64) -> i64 {
        if self.coder[0] & 1 == 0 {
            return 0;
        }
        let (s, w, o) = match self.dtype.name() {
            "F64" => (52, 11, 896),
            "F32" => (23, 8, 0),
            "BF16" => (7, 8, 0),
            "F16" => (10, 5, 0),
            "F8_E5M2" | "F8_E5M2FNUZ" => (2, 5, 0),
            _ => (3, 4, 0),
        };
        let size = unit_bytes(self.dtype);
        let mut bytes = &self.base[unit as usize * size..];
        ((number(&mut bytes, size) >> s) as i64 % (1 << w) - o).clamp(0, 255)
    }

    /// The class of each unit, given the levels of the rows that the block touches.
    fn classes(&self, rows: &[Option<i64>]) -> Vec<Option<usize>> {
        let (row_len, columns) = (self.row_len(), self.columns());
        let origin = i64::from(i16::from_le_bytes([self.coder[2], self.coder[3]]));
        let class = |unit: u64| {
            let first_row = self.start.checked_div(row_len)?;
            let row = rows.get((unit / row_len - first_row) as usize).copied().unwrap_or(Some(0))?;
            let column = columns[(unit % row_len) as usize]?;
            let class = origin + row + column - 2 * self.exponent(unit);
            Some(class.clamp(0, self.model.odds.len() as i64 - 1) as usize)
        };
        (self.start..self.start + self.len).map(class).collect()
    }

    /// Positions and the class of each unit; `mask` is None for a mask of another codec. [CLS-5]
    pub fn mask(&self, mask: Option<&[u8]>) -> (Vec<u64>, Vec<Option<usize>>) {
        let Some(mask) = mask else { return (vec![], self.classes(&[])) };
        let mut run = Run::new(mask, 1);
        let rows = self.rows(&mut run);
        let classes = self.classes(&rows);
        let mut positions = Vec::new();
        for c in 0..self.model.odds.len() {
            let empty = 4088 - 16 * u64::from(self.model.occupied[c]);
            if run.entry(&[empty, 4096 - empty]) == 0 {
                continue;
            }
            let members: Vec<u64> = (0..self.len).filter(|u| classes[*u as usize] == Some(c)).collect();
            let (inverted, shift, table) = gap_table(self.model.odds[c]);
            let hits = hits(&mut run, &members, shift, &table);
            let kept: Vec<u64> = members.into_iter().filter(|m| hits.binary_search(m).is_ok() != inverted).collect();
            assert!(!kept.is_empty());
            positions.extend(kept);
        }
        run.end();
        positions.sort_unstable();
        (positions, classes)
    }

    fn rows(&self, run: &mut Run) -> Vec<Option<i64>> {
        let Some(table) = &self.model.rows else { return Vec::new() };
        let n = (self.start + self.len - 1) / self.row_len() - self.start / self.row_len() + 1;
        (0..n).map(|_| level(run.symbol(table))).collect()
    }

    /// Positions and codes of a block that has a step for every unit. [CLS-7]
    pub fn steps(&self, mask: &[u8], bytes: &[u8]) -> (Vec<u64>, Vec<u64>) {
        let mut rows = Vec::new();
        if self.model.rows.is_some() {
            let mut run = Run::new(mask, 1);
            rows = self.rows(&mut run);
            run.end();
        } else {
            assert!(mask.is_empty());
        }
        let mut run = Run::new(bytes, 4);
        let mut kept = Vec::new();
        for (unit, class) in self.classes(&rows).into_iter().enumerate() {
            let Some(class) = class else { continue };
            let symbol = run.symbol(&self.model.values[class]);
            let step = code(&mut run, ValueKind::Step, 8 * unit_bytes(self.dtype), symbol);
            kept.extend((step != 0).then_some((unit as u64, step)));
        }
        run.end();
        kept.into_iter().unzip()
    }

    /// [CLS-6]
    pub fn codes(&self, kind: ValueKind, positions: &[u64], classes: &[Option<usize>], bytes: &[u8]) -> Vec<u64> {
        let mut run = Run::new(bytes, 2);
        let codes = positions.iter().map(|p| {
            let symbol = run.symbol(&self.model.values[classes[*p as usize].unwrap()]);
            code(&mut run, kind, 8 * unit_bytes(self.dtype), symbol)
        });
        let codes = codes.collect();
        run.end();
        codes
    }
}

/// The members that gaps lead to.
fn hits(run: &mut Run, members: &[u64], shift: usize, table: &[u64]) -> Vec<u64> {
    let (last, mut at, mut out) = (table.len() as u64 - 1, 0u64, Vec::new());
    loop {
        let mut high = 0;
        loop {
            let entry = run.entry(table) as u64;
            high += entry;
            if entry < last {
                break;
            }
        }
        let left = members.len() as u64 - at;
        if high << shift >= left {
            assert_eq!(high, left.div_ceil(1 << shift));
            return out;
        }
        at += (high << shift) + run.raw(shift);
        out.push(members[at as usize]);
        at += 1;
    }
}

fn code(run: &mut Run, kind: ValueKind, bits: usize, symbol: u64) -> u64 {
    let mut float = |exponent: usize, mantissa: usize| {
        let rest = run.raw(mantissa + 1);
        ((rest % 2) << (mantissa + exponent)) | (symbol << mantissa) | (rest / 2)
    };
    match kind {
        ValueKind::F32 => float(8, 23),
        ValueKind::F16 => float(5, 10),
        ValueKind::Bf16 => float(8, 7),
        ValueKind::Int8 => (symbol as i64 - 127) as u64 & 0xff,
        ValueKind::Int4 => (symbol as i64 - 7) as u64 & 0xf,
        ValueKind::Codebook => symbol,
        ValueKind::Sign => panic!("signs are never coded by class"),
        _ if symbol == 0 => 0,
        _ => {
            let low = (symbol / 4).saturating_sub(1) as usize;
            let rest = run.raw(low + 1);
            let lead = if symbol < 4 { symbol } else { 4 + symbol % 4 };
            let magnitude = i128::from(lead) << low | i128::from(rest / 2);
            let step = if rest % 2 == 1 { -magnitude } else { magnitude };
            step.rem_euclid(1 << bits) as u64
        }
    }
}
