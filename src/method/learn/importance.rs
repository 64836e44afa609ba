//! How much the elements of a tensor matter to a loss: the mean squares of its gradient, by row and by column. [LRN-2] [LRN-3]

/// What a row or column has beside its own mean square, in shares of the tensor's: few rows of data do not see everything.
const FLOOR: f64 = 0.3;

/// Sums of squares of one tensor's gradients.
#[derive(Debug, Clone)]
pub(crate) struct Importance {
    row_len: usize,
    rows: Vec<f64>,
    columns: Vec<f64>,
}

impl Importance {
    /// Of a tensor of so many elements, in rows of `row_len`.
    pub fn new(elements: usize, row_len: usize) -> Self {
        let row_len = row_len.max(1);
        Importance { row_len, rows: vec![0.0; elements.div_ceil(row_len)], columns: vec![0.0; row_len] }
    }

    /// Adds the squares of a gradient, divided by `unit`: gradients of different size shall count alike.
    pub fn add(&mut self, gradient: &[f32], unit: f64) {
        for (row, sum) in gradient.chunks(self.row_len).zip(&mut self.rows) {
            for (g, column) in row.iter().zip(&mut self.columns) {
                let square = f64::from(*g).powi(2) / unit;
                *sum += square;
                *column += square;
            }
        }
    }

    /// A factor a row and a factor a column, whose product multiplies |delta| in a score: importance^(trust ÷ 2).
    ///
    /// With trust 1 the score is √importance × |delta|, which says how much an element adds to a loss that is quadratic and
    /// has no cross terms; with trust 0 it is |delta|.
    pub fn factors(&self, trust: f64) -> (Vec<f32>, Vec<f32>) {
        let total: f64 = self.rows.iter().sum();
        let mean = total / (self.rows.len() * self.row_len).max(1) as f64;
        let factor = |sum: &f64, n: usize| {
            let own = (sum / n.max(1) as f64 + FLOOR * mean) / mean.sqrt();
            match () {
                () if trust == 0.0 => 1.0,
                // 0 ÷ 0: nothing depends on this tensor.
                () if own.is_nan() => 0.0,
                () => own.powf(trust / 2.0) as f32,
            }
        };
        let rows = self.rows.iter().map(|sum| factor(sum, self.row_len)).collect();
        (rows, self.columns.iter().map(|sum| factor(sum, self.rows.len())).collect())
    }
}

/// The mean square of all gradients together.
pub(crate) fn mean_square(gradients: &[Vec<f32>]) -> f64 {
    let square = |g: &Vec<f32>| g.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let n: usize = gradients.iter().map(Vec::len).sum();
    gradients.iter().map(square).sum::<f64>() / n.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Importance of every element, spelled out.
    fn judge(gradients: &[Vec<f64>], row_len: usize, trust: f64) -> Vec<f64> {
        let n = gradients[0].len();
        let square = |i: usize| gradients.iter().map(|g| g[i] * g[i]).sum::<f64>();
        let mean = (0..n).map(square).sum::<f64>() / n as f64;
        let of = |at: &dyn Fn(usize) -> bool| {
            let own: Vec<f64> = (0..n).filter(|i| at(*i)).map(square).collect();
            own.iter().sum::<f64>() / own.len() as f64 + 0.3 * mean
        };
        let importance = |i: usize| of(&|j| j / row_len == i / row_len) * of(&|j| j % row_len == i % row_len) / mean;
        (0..n).map(|i| importance(i).powf(trust / 2.0)).collect()
    }

    #[test]
    fn agrees_with_the_definition() {
        let gradients: Vec<Vec<f32>> =
            (0..3).map(|k| (0..12).map(|i| ((i * 7 + k * 5) % 11) as f32 / 4.0 - 1.0).collect()).collect();
        let exact: Vec<Vec<f64>> = gradients.iter().map(|g| g.iter().map(|x| f64::from(*x)).collect()).collect();
        for (row_len, trust) in [(4, 1.0), (4, 0.25), (12, 1.0), (1, 0.5), (4, 0.0)] {
            let mut importance = Importance::new(12, row_len);
            gradients.iter().for_each(|g| importance.add(g, 1.0));
            let (rows, columns) = importance.factors(trust);
            for (i, expected) in judge(&exact, row_len, trust).iter().enumerate() {
                let found = f64::from(rows[i / row_len]) * f64::from(columns[i % row_len]);
                assert!((found / expected - 1.0).abs() < 1e-5, "{row_len} {trust} {i}: {found} {expected}");
            }
        }
    }

    #[test]
    fn a_tensor_without_a_gradient_matters_least() {
        let none = Importance::new(6, 3);
        assert_eq!(none.factors(1.0), (vec![0.0; 2], vec![0.0; 3]));
        assert_eq!(none.factors(0.0), (vec![1.0; 2], vec![1.0; 3]));
    }
}
