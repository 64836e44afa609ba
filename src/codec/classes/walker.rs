//! Walks over the units of one class of a block, in order: what the gaps of a mask count.

use crate::codec::classes::coder::{Coder, DEAD, row_len};
use crate::codec::classes::map::{ClassMap, Units, row_runs};
use crate::simd::{Level, WORD, without_lowest};

/// How passing units went.
pub(super) enum Passed {
    /// A unit follows.
    More,
    /// The class ended; so many units were missing.
    End { short: u64 },
}

/// A place among the units of a class.
pub(super) trait Walker {
    /// Passes `n` units.
    fn pass(&mut self, n: u64) -> Passed;

    /// Units that are known to follow without looking for them.
    fn sure(&self) -> u64 {
        0
    }

    /// Passes fewer units than are known to follow.
    fn pass_sure(&mut self, _n: u64) {}

    /// Takes the next unit, which [`Walker::pass`] said is there: its word, and its bit in that.
    fn take(&mut self) -> (usize, u64);

    /// Sets the bits of all units of the class, and counts them.
    fn set_all(&self, bits: &mut [u64]) -> u64;
}

/// Over a class whose units are found one by one in a map.
pub(super) struct ByUnit<'a, L> {
    level: L,
    map: &'a ClassMap,
    class: u8,
    word: usize,
    /// Units of the current word that were not passed.
    ahead: u64,
}

impl<'a, L: Level> ByUnit<'a, L> {
    #[inline(always)]
    pub fn new(level: L, map: &'a ClassMap, class: u8) -> Self {
        ByUnit { level, map, class, word: 0, ahead: map.word(level, 0, class).unwrap_or(0) }
    }
}

impl<L: Level> Walker for ByUnit<'_, L> {
    #[inline(always)]
    fn pass(&mut self, n: u64) -> Passed {
        let mut left = n;
        loop {
            let here = u64::from(self.ahead.count_ones());
            if here > left {
                self.ahead = without_lowest(self.level, self.ahead, left);
                return Passed::More;
            }
            left = left.wrapping_sub(here);
            self.word = self.word.wrapping_add(1);
            match self.map.word(self.level, self.word, self.class) {
                Some(members) => self.ahead = members,
                None => {
                    self.ahead = 0;
                    return Passed::End { short: left };
                }
            }
        }
    }

    #[inline(always)]
    fn take(&mut self) -> (usize, u64) {
        let bit = self.ahead & self.ahead.wrapping_neg();
        self.ahead ^= bit;
        (self.word, bit)
    }

    #[inline(always)]
    fn set_all(&self, bits: &mut [u64]) -> u64 {
        let words = bits.iter_mut().zip(self.map.words(self.level, self.class));
        words.fold(0, |n, (word, all)| {
            *word |= all;
            n.wrapping_add(all.count_ones().into())
        })
    }
}

/// Units that follow each other and are all of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first unit, from the start of the block.
    start: u32,
    len: u32,
}

/// The runs of every class, where all units of a row are of one. Rows beyond `rows` have level 0. [CLS-4]
pub(super) fn class_runs(coder: &Coder, units: &Units, rows: &[i16]) -> Vec<Vec<Run>> {
    let mut out: Vec<Vec<Run>> = vec![Vec::new(); coder.model.classes.len()];
    let levels = rows.iter().copied().chain(std::iter::repeat(0));
    for (run, level) in row_runs(row_len(units.info, coder.axis), units.start, units.len).zip(levels) {
        let class = coder.origin.saturating_add(level).clamp(0, coder.model.last());
        let Some(runs) = out.get_mut(class as usize).filter(|_| level != DEAD) else { continue };
        let run = Run { start: run.start as u32, len: run.len as u32 };
        match runs.last_mut().filter(|last| last.start.saturating_add(last.len) == run.start) {
            Some(last) => last.len = last.len.saturating_add(run.len),
            None => runs.push(run),
        }
    }
    out
}

/// Over a class whose units lie in runs.
pub(super) struct ByRun<'a> {
    runs: &'a [Run],
    /// The next unit, and where its run ends.
    at: u32,
    end: u32,
    /// Where the units that are taken are listed.
    list: &'a mut Vec<u32>,
}

impl<'a> ByRun<'a> {
    pub fn new(runs: &'a [Run], list: &'a mut Vec<u32>) -> Self {
        let mut walker = ByRun { runs, at: 0, end: 0, list };
        walker.next_run();
        walker
    }

    fn next_run(&mut self) -> bool {
        let Some((run, rest)) = self.runs.split_first() else { return false };
        (self.at, self.end, self.runs) = (run.start, run.start.saturating_add(run.len), rest);
        true
    }
}

impl Walker for ByRun<'_> {
    #[inline(always)]
    fn pass(&mut self, n: u64) -> Passed {
        let mut left = n;
        loop {
            let here = u64::from(self.end.wrapping_sub(self.at));
            if here > left {
                self.at = self.at.wrapping_add(left as u32);
                return Passed::More;
            }
            left = left.wrapping_sub(here);
            self.at = self.end;
            if !self.next_run() {
                return Passed::End { short: left };
            }
        }
    }

    #[inline(always)]
    fn sure(&self) -> u64 {
        self.end.wrapping_sub(self.at).into()
    }

    #[inline(always)]
    fn pass_sure(&mut self, n: u64) {
        self.at = self.at.wrapping_add(n as u32);
    }

    #[inline(always)]
    fn take(&mut self) -> (usize, u64) {
        let at = self.at;
        self.at = at.wrapping_add(1);
        self.list.push(at);
        (at as usize / WORD, 1 << (at & 63))
    }

    /// Only before the first unit was passed.
    fn set_all(&self, bits: &mut [u64]) -> u64 {
        let here = Run { start: self.at, len: self.end.wrapping_sub(self.at) };
        let mut members = 0u64;
        for run in std::iter::once(&here).chain(self.runs) {
            for unit in run.start..run.start.saturating_add(run.len) {
                if let Some(word) = bits.get_mut(unit as usize / WORD) {
                    *word |= 1 << (unit & 63);
                }
            }
            members = members.wrapping_add(run.len.into());
        }
        members
    }
}
