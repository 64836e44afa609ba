//! Lengths at each boundary: one below, at, and one above everything that changes how a pack is laid out.

/// Units of a tensor: bytes of a bitmap, skips of gaps, leaves of a content id, the smallest block, words.
pub const LENGTHS: [u64; 23] =
    [1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 254, 255, 256, 257, 510, 511, 1023, 1025];

/// Lengths around a block of 2^18 units.
pub const BLOCK_EDGES: [u64; 3] = [(1 << 18) - 1, 1 << 18, (1 << 18) + 1];

/// Weights and λ that behave differently from ordinary ones.
pub const FACTORS: [f32; 10] = [1.0, 0.0, -1.0, 0.5, 0.3, -0.7, 2.0, 1e-30, 3.5, -0.0];
