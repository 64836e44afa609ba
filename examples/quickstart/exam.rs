//! What is measured: how much each way of shipping and merging gets right.

use std::error::Error;
use std::path::Path;

use crate::checkpoint::{self, Tensors};
use crate::few::Few;
use crate::linear::Linear;
use crate::network::Trunk;
use crate::table::Row;
use crate::tasks::{Rows, TASKS};
use crate::{dense, packs, train};

/// A head that stays outside the checkpoint, a few rows to learn a pack from, and the rows it is tested on.
pub struct Exam {
    pub head: Linear,
    /// Without labels.
    pub few: Vec<f32>,
    pub test: Rows,
}

impl Exam {
    /// Percent that the trunk in a checkpoint folder gets right.
    fn score(&self, folder: &Path) -> Result<f64, Box<dyn Error>> {
        self.score_tensors(&checkpoint::read(folder)?)
    }

    /// Percent that a pack gets right whose positions and gains were learned from the few rows.
    fn learned(&self, folder: &Path, task: &str) -> Result<f64, Box<dyn Error>> {
        let few = Few::new(&folder.join(task), &self.head, &self.few)?;
        packs::learn(folder, task, &few)?;
        self.score(&packs::stitch(folder, &[&packs::learned(task)])?)
    }

    fn score_tensors(&self, tensors: &Tensors) -> Result<f64, Box<dyn Error>> {
        Ok(100.0 * train::accuracy(&Trunk::from_tensors(tensors)?, &self.head, &self.test))
    }
}

/// Makes the packs, stitches them in all the ways of the table, and measures the models.
pub fn take(folder: &Path, exams: &[Exam]) -> Result<Vec<Row>, Box<dyn Error>> {
    let names = TASKS.map(|task| task.name);
    let sizes: Vec<_> = names.iter().map(|name| packs::make(folder, name)).collect::<Result<_, _>>()?;
    let base = checkpoint::read(&folder.join("base"))?;
    let fine_tuned: Vec<_> = names.iter().map(|name| checkpoint::read(&folder.join(name))).collect::<Result<_, _>>()?;
    let averaging = dense::averaging(&base, &fine_tuned);
    let arithmetic = dense::task_arithmetic(&base, &fine_tuned, dense::LAMBDA);
    let all = packs::stitch(folder, &names)?;
    let mut rows = Vec::new();
    for ((name, exam), sizes) in names.iter().zip(exams).zip(sizes) {
        let mut pairs = 0.0;
        for other in names.iter().filter(|other| *other != name) {
            pairs += exam.score(&packs::stitch(folder, &[name, other])?)?;
        }
        rows.push(Row {
            base: exam.score_tensors(&base)?,
            fine_tuned: exam.score(&folder.join(name))?,
            alone: exam.score(&packs::stitch(folder, &[name])?)?,
            learned: exam.learned(folder, name)?,
            pairs: pairs / (names.len() - 1) as f64,
            stitched: exam.score(&all)?,
            averaging: exam.score_tensors(&averaging)?,
            arithmetic: exam.score_tensors(&arithmetic)?,
            sizes,
        });
    }
    Ok(rows)
}
