//! The 8x8 handwritten digits that every task of the example is made from.

/// Pixels of one image (8 rows of 8).
pub const PIXELS: usize = 64;
/// Darkest value a stored pixel can take.
const FULL_INK: f32 = 16.0;
/// One row in this many is held back for testing.
const TEST_EVERY: usize = 3;

/// One image, row by row, ink from 0 (blank) to 1 (full).
pub type Image = [f32; PIXELS];

/// An image and the digit written on it.
#[derive(Clone, Copy)]
pub struct Digit {
    pub image: Image,
    /// 0 to 9.
    pub value: u8,
}

/// All images, split once and for good.
pub struct Digits {
    /// 1198 images.
    pub train: Vec<Digit>,
    /// 599 images that no training step ever sees.
    pub test: Vec<Digit>,
}

/// Reads the data set that is compiled into the example.
pub fn load() -> Digits {
    // Included in the program so that it runs from any directory.
    let packed: &[u8] = include_bytes!("digits.zst");
    let bytes = zstd::decode_all(packed).expect("the included data set is valid zstd");
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (index, row) in bytes.chunks_exact(PIXELS + 1).enumerate() {
        // By index, not at random: every run is tested on the same rows.
        let part = if index % TEST_EVERY == 0 { &mut test } else { &mut train };
        part.push(decode(row));
    }
    Digits { train, test }
}

/// Turns one stored row, 64 pixels of 0 to 16 and a label, into a `Digit`.
fn decode(row: &[u8]) -> Digit {
    Digit { image: std::array::from_fn(|pixel| f32::from(row[pixel]) / FULL_INK), value: row[PIXELS] }
}
