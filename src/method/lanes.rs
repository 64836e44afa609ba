//! One of two numbers added to the kept elements among 64, computed for all of them: what a compiler turns into wide registers.
//!
//! Without a branch, so both numbers have to be finite: then a sum with a finite element is no NaN, which rounding would need
//! one for. Judged by [`add_to_element`](crate::method::stitch::add_to_element).

/// Elements that are computed at once.
const LANES: usize = 16;

/// The bit of each lane.
const BITS: [u16; LANES] = {
    let mut bits = [0; LANES];
    let mut lane = 0;
    while lane < LANES {
        bits[lane] = 1 << lane;
        lane += 1;
    }
    bits
};

/// All bits set where a lane's bit is.
#[inline(always)]
fn spread(word: u16) -> [u16; LANES] {
    BITS.map(|bit| if word & bit == 0 { 0 } else { u16::MAX })
}

/// The part of a word that is about the lanes of chunk `i`.
#[inline(always)]
fn part(word: u64, i: usize) -> u16 {
    (word >> (i * LANES)) as u16
}

/// bf16: how many sums were finite before and are not any more.
#[inline(always)]
pub(super) fn add_bf16(elements: &mut [u8], kept: u64, minus: u64, [plus, other]: [f32; 2]) -> u32 {
    const EXPONENT: u16 = 0x7f80;
    let mut lost = [0u16; LANES];
    for (i, lanes) in elements.as_chunks_mut::<2>().0.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let (kept, minus) = (spread(part(kept, i)), spread(part(minus, i)));
        for (((element, kept), minus), lost) in lanes.iter_mut().zip(kept).zip(minus).zip(&mut lost) {
            let bits = u16::from_le_bytes(*element);
            let added = if minus == 0 { plus } else { other };
            let sum = (f32::from_bits(u32::from(bits) << 16) + added).to_bits();
            // To nearest, ties to even.
            let rounded = (sum.wrapping_add(0x7fff + (sum >> 16 & 1)) >> 16) as u16;
            let writes = if bits & EXPONENT == EXPONENT { 0 } else { kept };
            *lost += if rounded & EXPONENT == EXPONENT { writes & 1 } else { 0 };
            *element = (rounded & writes | bits & !writes).to_le_bytes();
        }
    }
    lost.iter().sum::<u16>().into()
}

/// f32, likewise.
#[inline(always)]
pub(super) fn add_f32(elements: &mut [u8], kept: u64, minus: u64, [plus, other]: [f32; 2]) -> u32 {
    const EXPONENT: u32 = 0x7f80_0000;
    let mut lost = [0u32; LANES];
    for (i, lanes) in elements.as_chunks_mut::<4>().0.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let (kept, minus) = (spread(part(kept, i)), spread(part(minus, i)));
        for (((element, kept), minus), lost) in lanes.iter_mut().zip(kept).zip(minus).zip(&mut lost) {
            let bits = u32::from_le_bytes(*element);
            let sum = (f32::from_bits(bits) + if minus == 0 { plus } else { other }).to_bits();
            let writes = if bits & EXPONENT == EXPONENT || kept == 0 { 0 } else { u32::MAX };
            *lost += if sum & EXPONENT == EXPONENT { writes & 1 } else { 0 };
            *element = (sum & writes | bits & !writes).to_le_bytes();
        }
    }
    lost.iter().sum()
}
