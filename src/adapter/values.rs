//! SHiRA: numbers at given rows and columns. [ADP-5]

use crate::adapter::sum::{add_one, check_numbers, number, refuse_nonfinite};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Escaped, Result};
use crate::method::float::load_unit;
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// Numbers to add, by position.
pub(super) struct Values {
    positions: Vec<u64>,
    numbers: Vec<f32>,
}

/// Elements that are read at a time.
const PIECE: u64 = 1 << 16;

impl Values {
    /// Reads rows, columns and numbers, and brings them into the order of the positions.
    pub fn read(file: &Checkpoint, indices: &TensorInfo, weight: &TensorInfo, rows: u64, columns: u64) -> Result<Self> {
        let bad = |detail: String| Error::malformed("ADP-3", format!("tensor \"{}\"", Escaped(&indices.name)), detail);
        check_numbers(weight)?;
        let (&[n], &[2, m]) = (weight.shape.as_slice(), indices.shape.as_slice()) else {
            return Err(bad(format!(
                "has shape {:?} and its values have {:?}, must be [2, n] and [n]",
                indices.shape, weight.shape
            )));
        };
        if n != m || n > rows.saturating_mul(columns) {
            return Err(bad(format!(
                "has {m} places for {n} values, in a weight of {rows} rows and {columns} columns"
            )));
        }
        let mut cells: Vec<(u64, f32)> = Vec::new();
        for start in (0..n).step_by(PIECE as usize) {
            let range = start..(start + PIECE).min(n);
            let row = integers(file, indices, range.clone())?;
            let column = integers(file, indices, n + range.start..n + range.end)?;
            let width = weight.dtype.unit_bytes() as u64;
            let bytes = file.bytes(&weight.name, range.start * width..range.end * width)?;
            let numbers = bytes.chunks_exact(width as usize).map(|element| number(weight.dtype, element));
            for ((i, j), x) in row.into_iter().zip(column).zip(numbers) {
                if i >= rows || j >= columns {
                    return Err(bad(format!(
                        "names row {i} and column {j} of a weight of {rows} rows and {columns} columns"
                    )));
                }
                cells.push((i * columns + j, x));
            }
        }
        if !cells.is_sorted_by(|a, b| a.0 < b.0) {
            cells.sort_unstable_by_key(|(position, _)| *position);
        }
        let twice = cells.windows(2).find_map(|pair| match pair {
            [(a, _), (b, _)] if a == b => Some(*a),
            _ => None,
        });
        if let Some(twice) = twice {
            return Err(bad(format!("names row {} and column {} twice", twice / columns, twice % columns)));
        }
        let (positions, numbers) = cells.into_iter().unzip();
        Ok(Values { positions, numbers })
    }

    /// Adds to the units of a tensor of the base from `start`, which `out` holds.
    pub fn add(&self, info: &TensorInfo, start: u64, out: &mut [u8]) -> Result<()> {
        let width = info.dtype.unit_bytes();
        let end = start + (out.len() / width) as u64;
        let from = self.positions.partition_point(|p| *p < start);
        let mut nonfinite = 0;
        let cells = self.positions.iter().zip(&self.numbers).skip(from).take_while(|(p, _)| **p < end);
        for (position, x) in cells {
            let at = (position - start) as usize * width;
            nonfinite += out.get_mut(at..at + width).map_or(0, |element| add_one(info.dtype, element, *x));
        }
        refuse_nonfinite(nonfinite, info)
    }
}

/// Integers of a tensor, counted over all of its dimensions.
fn integers(file: &Checkpoint, tensor: &TensorInfo, range: std::ops::Range<u64>) -> Result<Vec<u64>> {
    let width = tensor.dtype.unit_bytes() as u64;
    let bytes = file.bytes(&tensor.name, range.start * width..range.end * width)?;
    let bad = |detail: String| Error::malformed("ADP-3", format!("tensor \"{}\"", Escaped(&tensor.name)), detail);
    let integer = |element: &[u8]| {
        let number = match tensor.dtype {
            Dtype::I32 => i64::from(load_unit(element) as u32 as i32),
            Dtype::I64 => load_unit(element) as i64,
            // As PEFT saves them on Windows.
            Dtype::F32 if number(Dtype::F32, element).fract() == 0.0 => number(Dtype::F32, element) as i64,
            other => return Err(bad(format!("has dtype {other}, must hold integers (I32, I64)"))),
        };
        u64::try_from(number).map_err(|_| bad(format!("holds {number}, which is no place")))
    };
    bytes.chunks_exact(width as usize).map(integer).collect()
}
