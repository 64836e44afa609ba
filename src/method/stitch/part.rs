//! What one pack of signs brings to a run, and where its turn has come.

use std::ops::Range;

use crate::method::float::Real;
use crate::method::stitch::Met;
use crate::model::delta::SignBlock;
use crate::simd::WORD;

/// Elements that all parts pass before the next ones are looked at: 32 KiB of half-precision floats, and what is noted of each.
pub(crate) const CACHED: usize = 1 << 14;

/// What one pack in play brings to a run of elements.
#[derive(Debug)]
pub(crate) struct SignPart<'a, R> {
    /// What it keeps of the run.
    pub signs: &'a SignBlock,
    /// Kept elements that were passed.
    pub(super) passed: usize,
    /// Kept elements that are listed and come next, up to the last of those that are passed now.
    ahead: usize,
    /// d = (w × g) × δ of a plus and of a minus.
    pub deltas: [R; 2],
    /// The pack's weight.
    pub weight: f32,
}

impl<'a, R: Real> SignPart<'a, R> {
    /// A part of which nothing was passed.
    pub fn new(signs: &'a SignBlock) -> Self {
        SignPart { signs, passed: 0, ahead: 0, deltas: [R::ZERO; 2], weight: 0.0 }
    }
}

impl<'a, R> SignPart<'a, R> {
    /// The positions that come next.
    pub(super) fn ahead(&self) -> &'a [u32] {
        self.signs.positions.get(self.passed..self.passed + self.ahead).unwrap_or_default()
    }

    /// Looks how many of the positions that are listed come before element `end`.
    pub(super) fn look_ahead(&mut self, end: usize) {
        /// Positions that are passed at once: searching all that are left takes longer.
        const STEP: usize = 128;
        let is_before = |position: &u32| (*position as usize) < end;
        self.ahead = 0;
        for step in self.signs.positions.get(self.passed..).unwrap_or_default().chunks(STEP) {
            let all = step.last().is_some_and(is_before);
            self.ahead += if all { step.len() } else { step.partition_point(is_before) };
            if !all {
                return;
            }
        }
    }

    /// Passes kept elements.
    #[inline(always)]
    pub(super) fn pass(&mut self, n: usize) {
        self.passed += n;
        self.ahead = self.ahead.saturating_sub(n);
    }

    /// The signs of the next 64 kept elements.
    #[inline(always)]
    pub(super) fn next_signs(&self) -> u64 {
        let (word, bit) = (self.passed / WORD, self.passed % WORD);
        let at = |i: usize| self.signs.signs.get(i).copied().unwrap_or(0);
        // Shifted twice, as a shift by 64 is none.
        at(word) >> bit | (at(word + 1) << 1) << (WORD - 1 - bit)
    }
}

/// What all parts are added to, and what is found meanwhile.
pub(super) struct Output<'o> {
    pub run: &'o mut [u8],
    pub met: &'o mut Met,
}

/// What one part adds to the elements that it alone keeps.
pub(super) struct Addend<R> {
    /// λ × f, plus and minus.
    pub added: [R; 2],
    /// The elements of the run that are passed now.
    pub units: Range<usize>,
    /// The number of the part.
    pub number: usize,
}

/// Bits `from..to` of a word.
#[inline(always)]
pub(super) fn inside(from: usize, to: usize) -> u64 {
    let low = u64::MAX << from;
    if to >= WORD { low } else { low & !(u64::MAX << to) }
}

#[inline(always)]
pub(super) fn pick<T: Copy>([plus, other]: [T; 2], minus: bool) -> T {
    if minus { other } else { plus }
}
