//! What the example prints.

use std::path::Path;

use crate::few::ROWS;
use crate::packs::{DENSITY, Sizes};
use crate::tasks::TASKS;

/// Percent of a task's test rows that each model gets right, and bytes.
pub struct Row {
    pub base: f64,
    pub fine_tuned: f64,
    pub alone: f64,
    pub learned: f64,
    pub pairs: f64,
    pub stitched: f64,
    pub averaging: f64,
    pub arithmetic: f64,
    pub sizes: Sizes,
}

impl Row {
    fn scores(&self) -> [f64; 8] {
        [
            self.base,
            self.fine_tuned,
            self.alone,
            self.learned,
            self.pairs,
            self.stitched,
            self.averaging,
            self.arithmetic,
        ]
    }

    fn bytes(&self) -> [u64; 3] {
        [self.sizes.model, self.sizes.pack, self.sizes.exact]
    }
}

/// Prints a row a task, and their means.
pub fn print(rows: &[Row]) {
    println!("\n                     one model a task             one model for several             bytes");
    println!("        -----------------------------------  --------------------------------  -----------------------");
    print!("task     base  fine-tuned    pack  learned   2 packs  4 packs  average  arith.");
    println!("    model   pack  exact pack");
    for (task, row) in TASKS.iter().zip(rows) {
        line(task.name, row.scores(), row.bytes());
    }
    let mean = |i: usize| rows.iter().map(|row| row.scores()[i]).sum::<f64>() / rows.len() as f64;
    let mean_bytes = |i: usize| rows.iter().map(|row| row.bytes()[i]).sum::<u64>() / rows.len() as u64;
    line("mean", std::array::from_fn(mean), std::array::from_fn(mean_bytes));
    println!(
        "\nPercent right of 599 test images. \"learned\" chose positions and gains with {ROWS} images without labels."
    );
    println!(
        "\"2 packs\" is the mean over the pairs that a task is in. \"average\" and \"arith.\" merge the four whole"
    );
    println!("models: their mean, and task arithmetic with lambda 0.3.");
}

fn line(name: &str, scores: [f64; 8], [model, pack, exact]: [u64; 3]) {
    let [base, fine_tuned, alone, learned, pairs, stitched, averaging, arithmetic] = scores;
    print!("{name:<7}{base:>6.1}{fine_tuned:>12.1}{alone:>8.1}{learned:>9.1}");
    print!("{pairs:>10.1}{stitched:>9.1}{averaging:>9.1}{arithmetic:>8.1}");
    println!("{model:>9}{pack:>7}{exact:>12}");
}

/// Prints the commands that do the same, on the folders that were written.
pub fn commands(folder: &Path) {
    let here = std::env::current_dir().unwrap_or_default();
    let folder = folder.strip_prefix(here).unwrap_or(folder).display();
    let packs: Vec<String> = TASKS.iter().map(|task| format!("{}.stitch", task.name)).collect();
    println!("\nThe same by hand (`cargo install --path .` installs the command):");
    println!("  cd {folder}");
    for task in &TASKS {
        println!("  stitchpack create base {0} -o {0}.stitch --density {DENSITY}", task.name);
    }
    println!("  stitchpack verify --base base {}", packs.join(" "));
    println!("  stitchpack overlap {}", packs.join(" "));
    println!("  stitchpack apply base {} -o merged", packs.join(" "));
}
