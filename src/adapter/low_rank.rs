//! base + scale × B A, for any run of units of a tensor. [ADP-4]

use crate::adapter::sum::{add_row, check_numbers, number, refuse_nonfinite};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::limits::Limits;
use crate::model::tensor::TensorInfo;

/// A module's two matrices, as they are in the adapter's file.
pub(super) struct LowRank {
    /// r rows.
    a: TensorInfo,
    /// r columns.
    b: TensorInfo,
    rank: usize,
    scale: f32,
    /// The weight is (B A)ᵀ.
    transposed: bool,
}

/// A rank that is taken however small the weight is.
const SMALL_RANK: u64 = 1024;

/// Rows or columns of a matrix.
type Window = std::ops::Range<u64>;

impl LowRank {
    pub fn new(a: &TensorInfo, b: &TensorInfo, rank: u64, scale: f32, transposed: bool) -> Result<Self> {
        check_numbers(a)?;
        check_numbers(b)?;
        // So that a row of vectors is never larger than the weight itself, unless both are small.
        let side = a.shape.get(1).min(b.shape.first()).copied().unwrap_or(0);
        Limits::check("rank of an adapter's matrices", rank, side.max(SMALL_RANK))?;
        Ok(LowRank { a: a.clone(), b: b.clone(), rank: rank as usize, scale, transposed })
    }

    /// Adds to the units of a tensor of the base from `start`, which `out` holds.
    pub fn add(&self, file: &Checkpoint, info: &TensorInfo, start: u64, out: &mut [u8]) -> Result<()> {
        let width = info.dtype.unit_bytes();
        let (columns, len) = (info.row_len(), (out.len() / width) as u64);
        if len == 0 {
            return Ok(());
        }
        let rows = start / columns..(start + len).div_ceil(columns);
        // Within one row no more columns than asked for.
        let within = if rows.end - rows.start == 1 { start % columns..start % columns + len } else { 0..columns };
        let weights = self.weights(file, rows.clone())?;
        let vectors = self.vectors(file, within.clone())?;
        let breadth = (within.end - within.start) as usize;
        let mut sums = vec![0f32; breadth];
        let (mut rest, mut skip, mut nonfinite) = (out, (start - rows.start * columns - within.start) as usize, 0);
        for row in weights.chunks_exact(self.rank) {
            sums.fill(0.0);
            for (weight, vector) in row.iter().zip(vectors.chunks_exact(breadth)) {
                for (sum, x) in sums.iter_mut().zip(vector) {
                    *sum += weight * x;
                }
            }
            let (now, later) = rest.split_at_mut(((breadth - skip) * width).min(rest.len()));
            let numbers = sums.iter().skip(skip).map(|sum| self.scale * sum);
            nonfinite += add_row(info.dtype, now, numbers);
            (rest, skip) = (later, 0);
        }
        refuse_nonfinite(nonfinite, info)
    }

    /// For each of some rows of the weight the r numbers that weigh the vectors.
    fn weights(&self, file: &Checkpoint, rows: Window) -> Result<Vec<f32>> {
        if self.transposed { turned(file, &self.a, 0..self.rank as u64, rows) } else { matrix(file, &self.b, rows) }
    }

    /// The r vectors that rows of the weight are made of, some of their columns.
    fn vectors(&self, file: &Checkpoint, columns: Window) -> Result<Vec<f32>> {
        if !self.transposed {
            return window(file, &self.a, 0..self.rank as u64, columns);
        }
        let lines = matrix(file, &self.b, columns.clone())?;
        Ok(transpose(&lines, self.rank))
    }
}

/// Whole rows of a matrix.
fn matrix(file: &Checkpoint, tensor: &TensorInfo, rows: Window) -> Result<Vec<f32>> {
    let width = tensor.dtype.unit_bytes();
    let row = tensor.row_len() * width as u64;
    let bytes = file.bytes(&tensor.name, rows.start * row..rows.end * row)?;
    Ok(bytes.chunks_exact(width).map(|element| number(tensor.dtype, element)).collect())
}

/// Some columns of some rows.
fn window(file: &Checkpoint, tensor: &TensorInfo, rows: Window, columns: Window) -> Result<Vec<f32>> {
    let (width, row) = (tensor.dtype.unit_bytes() as u64, tensor.row_len());
    let mut out = Vec::new();
    for i in rows {
        let (from, to) = ((i * row + columns.start) * width, (i * row + columns.end) * width);
        let bytes = file.bytes(&tensor.name, from..to)?;
        out.extend(bytes.chunks_exact(width as usize).map(|element| number(tensor.dtype, element)));
    }
    Ok(out)
}

/// The same, column after column.
fn turned(file: &Checkpoint, tensor: &TensorInfo, rows: Window, columns: Window) -> Result<Vec<f32>> {
    let breadth = (columns.end - columns.start) as usize;
    Ok(transpose(&window(file, tensor, rows, columns)?, breadth))
}

/// Rows of `breadth` numbers as columns.
fn transpose(numbers: &[f32], breadth: usize) -> Vec<f32> {
    let columns = (0..breadth).flat_map(|j| numbers.iter().skip(j).step_by(breadth));
    columns.copied().collect()
}
