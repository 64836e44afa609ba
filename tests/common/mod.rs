//! What the tests share: tiny checkpoints, the slow judge, boundary lengths, and packs that lie.
//!
//! Nothing here may be optimised for speed: the judge is worth something only as long as it is obvious.
#![allow(dead_code, clippy::unwrap_used)]

pub mod adapters;
pub mod case;
pub mod classes;
pub mod interesting;
pub mod lying_packs;
pub mod models;
pub mod naive;
pub mod site;
pub mod sources;

/// Numbers that look random and are the same everywhere (splitmix64).
#[derive(Clone)]
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

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}
