//! What was counted by class, and the model that follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::classes::coder::Coder;
use crate::codec::classes::map::{ClassMap, Units};
use crate::codec::classes::model::{Class, Model};
use crate::codec::entropy::gaps::GapTable;
use crate::codec::entropy::table::Table;
use crate::create::fit::levels::LEVELS;
use crate::create::fit::sample::Sample;
use crate::model::tensor::TensorInfo;

/// What a table of weights costs beside an entry, and an entry, in bits, once its section is compressed.
const TABLE_BITS: f64 = 24.0;
const ENTRY_BITS: f64 = 5.0;

/// Counts of one class.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    pub members: u64,
    pub kept: u64,
    /// Blocks that keep any.
    pub occupied: u64,
    pub symbols: BTreeMap<u16, u64>,
}

/// Counts of all classes of a tensor, or of several.
#[derive(Debug, Clone)]
pub(crate) struct Stats {
    pub classes: Vec<Count>,
    pub blocks: u64,
    pub rows: [u64; LEVELS],
    pub columns: [u64; LEVELS],
    /// Whether what is not kept is coded among the steps, as a step of 0.
    pub spread: bool,
}

impl Default for Stats {
    fn default() -> Self {
        Stats { classes: Vec::new(), blocks: 0, rows: [0; LEVELS], columns: [0; LEVELS], spread: false }
    }
}

impl Stats {
    /// Where what is not kept is coded among the steps, or not.
    pub fn new(spread: bool) -> Self {
        Stats { spread, ..Stats::default() }
    }

    /// Counts a sample, whose row runs have these levels.
    pub fn count(&mut self, coder: &Coder, info: &TensorInfo, sample: &Sample, base: &[u8], rows: &[i16]) {
        let n = coder.model.classes.len();
        self.classes.resize_with(n.max(self.classes.len()), Count::default);
        let mut map = ClassMap::default();
        map.fill(coder, &Units { info, start: sample.start, len: sample.len, base }, rows);
        let members = map.histogram();
        for (class, count) in members.iter().zip(&mut self.classes) {
            count.members += class;
        }
        let mut kept = [0u64; 64];
        let mut symbols: Vec<u32> = if sample.symbols.is_empty() { Vec::new() } else { vec![0; 64 * 256] };
        for (i, p) in sample.positions.iter().enumerate() {
            let Some(slot) = kept.get_mut(usize::from(map.class(*p))) else { continue };
            *slot += 1;
            if let Some(symbol) = sample.symbols.get(i) {
                symbols[usize::from(map.class(*p)) << 8 | usize::from(*symbol & 255)] += 1;
            }
        }
        for (c, (count, kept)) in self.classes.iter_mut().zip(kept).enumerate() {
            count.kept += kept;
            count.occupied += u64::from(kept > 0);
            for (s, n) in symbols.get(c << 8..(c + 1) << 8).unwrap_or(&[]).iter().enumerate().filter(|(_, n)| **n > 0) {
                *count.symbols.entry(s as u16).or_default() += u64::from(*n);
            }
            let still = members.get(c).map_or(0, |members| members - kept);
            if self.spread && still > 0 {
                *count.symbols.entry(0).or_default() += still;
            }
        }
        self.blocks += 1;
    }

    /// Adds those of another tensor.
    pub fn add(&mut self, other: &Stats) {
        self.classes.resize_with(other.classes.len().max(self.classes.len()), Count::default);
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.members += theirs.members;
            mine.kept += theirs.kept;
            mine.occupied += theirs.occupied;
            theirs.symbols.iter().for_each(|(s, n)| *mine.symbols.entry(*s).or_default() += n);
        }
        self.blocks += other.blocks;
        self.rows.iter_mut().zip(&other.rows).for_each(|(a, b)| *a += b);
        self.columns.iter_mut().zip(&other.columns).for_each(|(a, b)| *a += b);
    }

    /// The model that fits these counts, and the first class that is in it: those at either end that nothing falls into are left
    /// out.
    pub fn model(&self) -> (i16, Model) {
        let tables = self.tables();
        let used = |c: &Count| c.kept > 0 || c.members * 500 > self.blocks * 1000;
        let first = self.classes.iter().position(used).unwrap_or(0);
        let last = self.classes.iter().rposition(used).unwrap_or(0);
        let within = |i: usize| (first..=last).contains(&i);
        let classes =
            self.merged_ends(first, last).into_iter().zip(tables.into_iter().enumerate().filter(|(i, _)| within(*i)));
        let classes = classes.map(|(count, (_, values))| {
            let share = (count.occupied as f64 + 0.2) / (self.blocks as f64 + 0.4);
            let odds = if count.members == 0 { 20 } else { GapTable::code_for(count.kept, count.members) };
            Class { odds, occupied: (share * 256.0).clamp(0.0, 255.0) as u8, values }
        });
        let classes = classes.collect();
        (first as i16, Model { classes, rows: Table::fit(&self.rows), columns: Table::fit(&self.columns) })
    }

    /// Members and kept of the classes that are left, with what lies beyond either end added to it.
    fn merged_ends(&self, first: usize, last: usize) -> Vec<Count> {
        let mut out: Vec<Count> = Vec::with_capacity(last - first + 1);
        for (i, count) in self.classes.iter().enumerate() {
            let numbers = Count { symbols: BTreeMap::new(), ..*count };
            match out.last_mut() {
                Some(end) if i > last || i <= first => {
                    end.members += numbers.members;
                    end.kept += numbers.kept;
                }
                _ => out.push(numbers),
            }
        }
        out
    }

    /// One table a class; neighbours share one where two would cost more than they save.
    fn tables(&self) -> Vec<Option<Arc<Table>>> {
        let mut groups: Vec<(usize, BTreeMap<u16, u64>)> = Vec::new();
        for (i, count) in self.classes.iter().enumerate() {
            groups.push((i, count.symbols.clone()));
        }
        groups.retain(|g| !g.1.is_empty());
        while groups.len() > 1 {
            let saved = |a: &BTreeMap<u16, u64>, b: &BTreeMap<u16, u64>| {
                table_bits(a) + table_bits(b) - table_bits(&merged(a, b))
            };
            let best = groups.windows(2).map(|w| saved(&w[0].1, &w[1].1)).enumerate();
            let Some((i, saving)) = best.max_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            if saving <= 0.0 {
                break;
            }
            let (_, next) = groups.remove(i + 1);
            groups[i].1 = merged(&groups[i].1, &next);
        }
        let made: Vec<(usize, Arc<Table>)> = groups
            .iter()
            .filter_map(|(first, symbols)| {
                let top = usize::from(*symbols.keys().last()?);
                let counts: Vec<u64> = (0..=top).map(|s| symbols.get(&(s as u16)).copied().unwrap_or(0)).collect();
                Some((*first, Arc::new(Table::fit(&counts)?)))
            })
            .collect();
        let table_for = |class: usize| made.iter().rev().find(|(first, _)| *first <= class).or(made.first());
        (0..self.classes.len()).map(|c| table_for(c).map(|(_, t)| t.clone())).collect()
    }

    /// What these counts cost in bits under a model whose first class is `first`, without the model.
    pub fn bits_under(&self, model: &Model, first: i16) -> f64 {
        let mut bits = 0.0;
        for (i, count) in (0i16..).zip(&self.classes) {
            let Some(class) = model.classes.get(usize::try_from((i - first).clamp(0, model.last())).unwrap_or(0))
            else {
                return f64::INFINITY;
            };
            if let Some(table) = &class.values {
                bits += count.symbols.iter().map(|(s, n)| *n as f64 * table.bits(u32::from(*s))).sum::<f64>();
            }
            if self.spread {
                continue;
            }
            let odds = ((f64::from(class.odds) - 80.0) / 4.0).exp2();
            let p = odds / (1.0 + odds);
            bits -= count.kept as f64 * p.log2() + (count.members - count.kept) as f64 * (1.0 - p).log2();
            let empty = f64::from(class.empty()) / 4096.0;
            bits -= (self.blocks - count.occupied) as f64 * empty.log2() + count.occupied as f64 * (1.0 - empty).log2();
        }
        // A table that a tensor does not need costs nothing but room, one that it lacks cannot be done without.
        bits + levels_bits(&self.rows, &model.rows) + levels_bits(&self.columns, &model.columns)
    }
}

fn levels_bits(counts: &[u64; LEVELS], table: &Option<Table>) -> f64 {
    let all = counts.iter().enumerate().filter(|(_, n)| **n > 0);
    match table {
        Some(table) => all.map(|(s, n)| *n as f64 * table.bits(s as u32)).sum(),
        None if all.count() > 0 => f64::INFINITY,
        None => 0.0,
    }
}

fn merged(a: &BTreeMap<u16, u64>, b: &BTreeMap<u16, u64>) -> BTreeMap<u16, u64> {
    let mut out = a.clone();
    b.iter().for_each(|(s, n)| *out.entry(*s).or_default() += n);
    out
}

/// Entropy of what was counted, and what its table costs.
fn table_bits(counts: &BTreeMap<u16, u64>) -> f64 {
    let total: u64 = counts.values().sum();
    let data: f64 = counts.values().map(|n| *n as f64 * (total as f64 / *n as f64).log2()).sum();
    let entries = counts.keys().next().zip(counts.keys().last()).map_or(0, |(a, b)| b - a + 1);
    data + TABLE_BITS + f64::from(entries) * ENTRY_BITS
}
