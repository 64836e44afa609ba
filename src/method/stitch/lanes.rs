//! One of two numbers added to the kept elements among 64, computed for all of them: what a compiler turns into wide registers.
//!
//! Without a branch, so both numbers have to be finite: then a sum with a finite element is no NaN, which rounding would need
//! one for. Judged by [`add_to_element`](crate::method::stitch::add_to_element).

/// Elements that are computed at once.
pub(super) const LANES: usize = 16;

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

/// The second where all bits of `mask` are set, the first where none is. Written as numbers, as the compiler would choose between
/// places in memory.
#[inline(always)]
fn choose(mask: u32, first: f32, second: f32) -> f32 {
    f32::from_bits(first.to_bits() & !mask | second.to_bits() & mask)
}

/// bf16: how many sums were finite before and are not any more.
#[inline(always)]
pub(in crate::method) fn add_bf16(elements: &mut [u8], kept: u64, minus: u64, [plus, other]: [f32; 2]) -> u32 {
    const EXPONENT: u16 = 0x7f80;
    let mut lost = [0u16; LANES];
    for (i, lanes) in elements.as_chunks_mut::<2>().0.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        // Numbers of their own, so that the compiler sees that nothing else is written to.
        let (mut bits, kept, minus) = (lanes.map(u16::from_le_bytes), spread(part(kept, i)), spread(part(minus, i)));
        for (((bits, kept), minus), lost) in bits.iter_mut().zip(&kept).zip(&minus).zip(&mut lost) {
            let added = choose(i32::from((*minus).cast_signed()).cast_unsigned(), plus, other);
            let sum = (f32::from_bits(u32::from(*bits) << 16) + added).to_bits();
            // To nearest, ties to even.
            let rounded = (sum.wrapping_add(0x7fff + (sum >> 16 & 1)) >> 16) as u16;
            let writes = if *bits & EXPONENT == EXPONENT { 0 } else { *kept };
            *lost += if rounded & EXPONENT == EXPONENT { writes & 1 } else { 0 };
            *bits = rounded & writes | *bits & !writes;
        }
        *lanes = bits.map(u16::to_le_bytes);
    }
    lost.iter().sum::<u16>().into()
}

/// f32, likewise.
#[inline(always)]
pub(in crate::method) fn add_f32(elements: &mut [u8], kept: u64, minus: u64, [plus, other]: [f32; 2]) -> u32 {
    const EXPONENT: u32 = 0x7f80_0000;
    let mut lost = [0u32; LANES];
    for (i, lanes) in elements.as_chunks_mut::<4>().0.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let (mut bits, kept, minus) = (lanes.map(u32::from_le_bytes), spread(part(kept, i)), spread(part(minus, i)));
        for (((bits, kept), minus), lost) in bits.iter_mut().zip(&kept).zip(&minus).zip(&mut lost) {
            let added = choose(i32::from((*minus).cast_signed()).cast_unsigned(), plus, other);
            let sum = (f32::from_bits(*bits) + added).to_bits();
            let writes = if *bits & EXPONENT == EXPONENT || *kept == 0 { 0 } else { u32::MAX };
            *lost += if sum & EXPONENT == EXPONENT { writes & 1 } else { 0 };
            *bits = sum & writes | *bits & !writes;
        }
        *lanes = bits.map(u32::to_le_bytes);
    }
    lost.iter().sum()
}
