//! Raw bits, written from the end of a buffer backwards, so that they need no length of their own. [ENT-5]

use crate::error::{Error, Result};

/// Collects bits, the first in the lowest bit of the last byte.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    filled: u32,
}

impl BitWriter {
    /// Adds the lowest `n` bits of `value`, at most 64.
    #[inline(always)]
    pub fn put(&mut self, value: u64, n: u32) {
        if n > 32 {
            self.put32(value & 0xffff_ffff, 32);
            self.put32(value >> 32, n.saturating_sub(32).min(32));
        } else {
            self.put32(value, n);
        }
    }

    #[inline(always)]
    fn put32(&mut self, value: u64, n: u32) {
        let value = value & (1u64 << n).wrapping_sub(1);
        self.pending |= value << self.filled;
        self.filled = self.filled.wrapping_add(n);
        if self.filled >= 32 {
            self.bytes.extend((self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.filled = self.filled.wrapping_sub(32);
        }
    }

    /// The bytes, last first, zeros in what is left of one.
    pub fn finish(mut self) -> Vec<u8> {
        let left = self.filled.div_ceil(8) as usize;
        self.bytes.extend(self.pending.to_le_bytes().iter().take(left));
        self.bytes.reverse();
        self.bytes
    }
}

/// A [`BitWriter`] that is given values from the last to the first.
#[derive(Debug, Default)]
pub(crate) struct BackwardBits {
    /// As if nothing came before.
    bytes: Vec<u8>,
    /// In its lowest bits those after these bytes, at most seven between calls.
    pending: u64,
    filled: u32,
}

impl BackwardBits {
    /// Puts the lowest `n` bits of `value`, at most 32, before those that are there.
    pub fn put(&mut self, value: u64, n: u32) {
        self.put_all(&[(value & (1u64 << n).wrapping_sub(1), n)]);
    }

    /// Puts values of so many bits each, at most 56, the last first, before those that are there; 32 of them at most. No branch
    /// asks whether bytes are full: that is as good as random, and a wrong guess costs more than the rest.
    #[inline(always)]
    pub fn put_all(&mut self, values: &[(u64, u32)]) {
        /// Seven bytes a value, and room to write eight at once behind them.
        const ROOM: usize = (1 << 8) + 8;
        let (mut bytes, mut used) = ([0; ROOM], 0usize);
        // What changes with every value stays in registers.
        let (mut pending, mut filled) = (self.pending, self.filled);
        for (value, n) in values.get(..values.len().min(32)).unwrap_or(&[]).iter().rev() {
            pending = pending << (n & 63) | *value;
            filled = filled.wrapping_add(*n);
            // The mask changes nothing but what the compiler knows.
            used &= 0xff;
            if let Some(next) = bytes.get_mut(used..used.wrapping_add(8)).and_then(<[u8]>::first_chunk_mut::<8>) {
                *next = (pending << 1 << (!filled & 63)).swap_bytes().to_le_bytes();
            }
            used = used.wrapping_add((filled >> 3) as usize);
            filled &= 7;
        }
        self.bytes.extend_from_slice(bytes.get(..used).unwrap_or(&[]));
        (self.pending, self.filled) = (pending, filled);
    }

    /// The bytes, last first, zeros in what is left of one: what [`BitWriter::finish`] gives.
    pub fn finish(mut self) -> Vec<u8> {
        let last = (self.pending << 1 << (!self.filled & 63)).swap_bytes() as u8;
        self.bytes.extend((self.filled > 0).then_some(last));
        let bytes = self.bytes.as_slice();
        // What is left of a byte belongs before all others.
        let left = self.filled.wrapping_neg() & 7;
        let mut out = vec![0; bytes.len()];
        if let ([first, rest @ ..], [byte, after @ ..]) = (out.as_mut_slice(), bytes) {
            *first = byte >> left;
            for ((out, byte), before) in rest.iter_mut().zip(after).zip(bytes) {
                *out = byte >> left | (u16::from(*before) << 8 >> left) as u8;
            }
        }
        out
    }
}

/// Reads bits from the end of a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    read: u64,
}

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, read: 0 }
    }

    /// The next `n` bits, at most 64; zeros after the end, which [`BitReader::finish`] refuses.
    #[inline(always)]
    pub fn take(&mut self, n: u32) -> u64 {
        if n > 32 {
            let low = self.take_short(32);
            return low | self.take_short(n.wrapping_sub(32)) << 32;
        }
        self.take_short(n)
    }

    /// [`BitReader::take`] for at most 32 bits.
    #[inline(always)]
    pub fn take_short(&mut self, n: u32) -> u64 {
        let bits = self.peek() & (1u64 << n).wrapping_sub(1);
        self.skip(n);
        bits
    }

    /// The bits that follow, at least 57 of them; zeros after the end.
    #[inline(always)]
    pub fn peek(&self) -> u64 {
        let (byte, shift) = ((self.read >> 3) as usize, (self.read & 7) as u32);
        let end = self.bytes.len().wrapping_sub(byte);
        let word = match end.checked_sub(8).and_then(|start| self.bytes.get(start..end)?.first_chunk::<8>()) {
            Some(chunk) => u64::from_le_bytes(*chunk).swap_bytes(),
            None => near_the_start(self.bytes, byte),
        };
        word >> shift
    }

    /// Leaves out `n` bits.
    #[inline(always)]
    pub fn skip(&mut self, n: u32) {
        self.read = self.read.wrapping_add(n.into());
    }

    /// Checks that exactly `len` bytes were used, and that what is left of the last one is zero.
    pub fn finish(&self, len: usize) -> Result<()> {
        let bad = |detail: String| Err(Error::malformed("ENT-5", "raw bits", detail));
        if self.read.div_ceil(8) != len as u64 {
            return bad(format!("{} bits are used, but {len} bytes are there", self.read));
        }
        let used = (self.read & 7) as u32;
        let last = self.bytes.get(self.bytes.len().saturating_sub(len)).copied().unwrap_or(0);
        if used != 0 && last >> used != 0 {
            return bad("a bit is set after their end".into());
        }
        Ok(())
    }
}

#[cold]
fn near_the_start(bytes: &[u8], byte: usize) -> u64 {
    let left = bytes.len().saturating_sub(byte);
    let head = bytes.get(..left.min(8)).unwrap_or(&[]);
    // The byte nearest the end holds the lowest bits.
    head.iter().fold(0, |word, b| word << 8 | u64::from(*b))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    #[test]
    fn backward_is_the_same() {
        for count in [0usize, 1, 2, 9, 500] {
            let items: Vec<(u64, u32)> =
                (0..count as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), (i * 7 % 33) as u32)).collect();
            let (mut writer, mut backward) = (BitWriter::default(), BackwardBits::default());
            items.iter().for_each(|(v, n)| writer.put(*v, *n));
            items.iter().rev().for_each(|(v, n)| backward.put(*v, *n));
            assert_eq!(backward.finish(), writer.finish(), "{count}");
        }
    }

    #[test]
    fn bits_come_back_in_order() {
        let items: Vec<(u64, u32)> =
            (0u64..500).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15), (i * 7 % 65) as u32)).collect();
        let mut writer = BitWriter::default();
        items.iter().for_each(|(v, n)| writer.put(*v, *n));
        let bytes = writer.finish();
        let mut reader = BitReader::new(&bytes);
        for (v, n) in &items {
            let mask = if *n == 64 { u64::MAX } else { (1 << n) - 1 };
            assert_eq!(reader.take(*n), v & mask);
        }
        reader.finish(bytes.len()).unwrap();
        assert!(reader.finish(bytes.len() + 1).is_err());
    }
}
