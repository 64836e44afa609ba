//! Random tensors, coders, rows, masks and codes.

use std::sync::Arc;

use crate::codec::classes::coder::{Coder, DEAD, LEVEL_MAX};
use crate::codec::classes::map::row_runs;
use crate::codec::classes::model::{Class, Model};
use crate::codec::classes::tests::judge::{Block, row_len};
use crate::codec::codes;
use crate::codec::entropy::table::Table;
use crate::model::delta::{BlockDelta, ValueKind};
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// Numbers that look random and are the same everywhere (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn level(&mut self) -> i16 {
        match self.below(12) {
            0 => DEAD,
            1 => LEVEL_MAX,
            2 => -LEVEL_MAX,
            _ => self.below(7) as i16 - 3,
        }
    }

    /// A table with an escape, for symbols around any place.
    fn table(&mut self, top: u64) -> Table {
        let first = self.below(top) as usize;
        let mut counts = vec![0; first];
        let n = self.below(top) + 1;
        counts.extend((0..n).map(|_| if self.once_in(3) { 0 } else { 1 << self.below(30) }));
        counts.push(7);
        Table::fit(&counts).unwrap()
    }
}

/// One block with all that there is to code it.
pub struct Case {
    /// What to call it where it fails.
    pub name: String,
    pub info: TensorInfo,
    pub kind: ValueKind,
    pub coder: Coder,
    pub start: u64,
    pub len: u32,
    pub base: Vec<u8>,
    pub rows: Vec<i16>,
    pub delta: BlockDelta,
}

impl Case {
    /// A case of at most about `most` units; `most` at least 64.
    pub fn new(most: u64, random: &mut Random) -> Self {
        let seed = random.0;
        let dtypes: Vec<Dtype> = Dtype::ALL.to_vec();
        let dtype = random.pick(&dtypes);
        let kind = if dtype.is_float() { random.pick(ValueKind::ALL) } else { ValueKind::Step };
        let info = info(dtype, most, random);
        let coder = coder(&info, random);
        let (start, len) = cut(info.units(), most, random);
        let bytes = (len as usize + 7) * dtype.unit_bytes();
        let narrow = random.once_in(2);
        let mut base: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
        if narrow {
            // Exponents near each other, as those of weights are.
            base.chunks_mut(dtype.unit_bytes()).for_each(|unit| *unit.last_mut().unwrap() = 0x3c);
        }
        base.truncate(len as usize * dtype.unit_bytes());
        let runs = row_runs(row_len(&info, coder.axis), start, len).count();
        let rows = match coder.model.rows {
            Some(_) => (0..runs).map(|_| random.level()).collect(),
            None => Vec::new(),
        };
        let name = format!("seed {seed:#x}, {dtype} {:?} {kind}", info.shape);
        let mut case = Case { name, info, kind, coder, start, len, base, rows, delta: BlockDelta::default() };
        case.delta.positions = case.positions(random);
        case.delta.codes = case.delta.positions.iter().map(|_| code(kind, dtype, random)).collect();
        case
    }

    pub fn judge(&self) -> Block<'_> {
        let Case { info, coder, start, len, base, rows, .. } = self;
        Block { info, coder, start: *start, len: *len, base, rows }
    }

    /// Units that have a class, kept one by one, in runs, or all.
    fn positions(&self, random: &mut Random) -> Vec<u32> {
        let judge = self.judge();
        let living: Vec<u32> = (0..self.len).filter(|u| judge.class(*u).is_some()).collect();
        let per_mille = random.pick(&[0, 1, 10, 500, 970, 1000]);
        if random.once_in(3) {
            let (run, turn) = (random.below(200) as u32 + 1, random.below(3) as u32 + 2);
            return living.into_iter().filter(|u| u / run % turn == 0 && !random.once_in(9)).collect();
        }
        let mut all: Vec<u32> = living.iter().copied().filter(|_| random.below(1000) < per_mille).collect();
        if all.is_empty() && per_mille > 0 && !living.is_empty() {
            all.push(random.pick(&living));
        }
        all
    }
}

fn info(dtype: Dtype, most: u64, random: &mut Random) -> TensorInfo {
    let rank = random.below(5);
    // What is below a byte needs whole bytes.
    let each = if dtype.bits() < 8 { 8 } else { 1 };
    let mut shape: Vec<u64> = Vec::new();
    let mut left = most;
    for i in 0..rank {
        let d = if i + 1 == rank { left } else { random.below(left.min(90)) + 1 };
        let d = if i + 1 == rank { (random.below(d) + 1).next_multiple_of(each) } else { d };
        shape.push(d);
        left = (left / d).max(1);
    }
    if rank == 0 && each > 1 {
        shape.push(each);
    }
    TensorInfo { name: "t".into(), dtype, shape }
}

fn coder(info: &TensorInfo, random: &mut Random) -> Coder {
    let axis = random.below(info.shape.len() as u64 + 1) as u8;
    let uses_base = info.dtype.is_float() && !random.once_in(3);
    let n = random.pick(&[1, 2, 7, 33, 63, 64]);
    let with_values = !random.once_in(4);
    let top = random.pick(&[2, 16, 90]);
    let mut classes: Vec<Class> = Vec::new();
    for _ in 0..n {
        let before = classes.last().and_then(|c: &Class| c.values.clone()).filter(|_| random.once_in(2));
        let values = with_values.then(|| before.unwrap_or_else(|| Arc::new(random.table(top))));
        classes.push(Class { odds: random.below(128) as u8, occupied: random.next() as u8, values });
    }
    let len = row_len(info, axis);
    let rows = (random.once_in(2) && (len >= 8 || len >= info.units())).then(|| random.table(20));
    let columns = Some(random.table(20));
    let origin = match random.below(8) {
        0 => -1024,
        1 => 1024,
        2 => random.below(2049) as i16 - 1024,
        _ => random.below(300) as i16,
    };
    let mut levels = Vec::new();
    if random.once_in(2) {
        levels = (0..len).map(|_| random.level()).collect();
    }
    Coder { uses_base, axis, origin, columns: levels, model: Arc::new(Model { classes, rows, columns }) }
}

/// A block: all units, or any run of them.
fn cut(units: u64, most: u64, random: &mut Random) -> (u64, u32) {
    let start = if random.once_in(2) { 0 } else { random.below(units) };
    let len = (units - start).min(most);
    (start, if random.once_in(2) { len as u32 } else { random.below(len) as u32 + 1 })
}

/// A code that the kind has: mostly a small one.
fn code(kind: ValueKind, dtype: Dtype, random: &mut Random) -> u64 {
    let bits = match kind {
        ValueKind::Step => 8 * dtype.unit_bytes() as u32,
        ValueKind::F32 => 32,
        ValueKind::F16 | ValueKind::Bf16 => 16,
        ValueKind::Int8 => 8,
        ValueKind::Int4 | ValueKind::Codebook => 4,
        ValueKind::Sign => 1,
    };
    let mask = u64::MAX >> (64 - bits);
    loop {
        let any = if random.once_in(8) { random.next() >> random.below(64) } else { random.below(5) };
        let code = if random.once_in(2) { any.wrapping_neg() } else { any } & mask;
        if codes::check(kind, &[code], false).is_ok() {
            return code;
        }
    }
}
