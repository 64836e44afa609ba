//! Trains a small base model and four fine-tunes of it on handwritten digits, makes a
//! pack of each fine-tune, and stitches the packs onto the base.
//!
//! Run it with `cargo run --release --example quickstart [FOLDER]`. It takes a
//! few seconds on one core and writes to `target/quickstart` unless told otherwise.
//! The library at work is in `packs.rs` and `few.rs`; the rest is training and measuring.

mod checkpoint;
mod dense;
mod digits;
mod exam;
mod few;
mod linear;
mod network;
mod optimiser;
mod packs;
mod rng;
mod table;
mod tasks;
mod train;

use std::error::Error;
use std::path::{Path, PathBuf};

use crate::exam::Exam;
use crate::network::Trunk;
use crate::rng::Rng;
use crate::tasks::{BASE, TASKS};

/// Where all random numbers start.
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.map_or_else(|| here.join("target/quickstart"), PathBuf::from);
    println!("Training a base on \"{}\" and four fine-tunes:", BASE.question);
    for task in &TASKS {
        println!("  {:<8}{}", task.name, task.question);
    }
    let exams = train_all(&folder)?;
    println!("Packing them at density {}, verifying, binding and stitching the packs.", packs::DENSITY);
    let rows = exam::take(&folder, &exams)?;
    for task in &TASKS {
        packs::check_exact(&folder, task.name)?;
    }
    println!("The exact packs gave back the fine-tuned files, byte for byte.");
    table::print(&rows);
    table::commands(&folder);
    Ok(())
}

/// Trains and writes the base and the fine-tunes; gives one exam for each task.
fn train_all(folder: &Path) -> Result<Vec<Exam>, Box<dyn Error>> {
    let digits = digits::load();
    let mut rng = Rng::new(SEED);
    let base = train::base(&BASE.rows(&digits.train), &mut rng);
    checkpoint::write(&folder.join("base"), &base.to_tensors())?;
    // Read back, because fine-tuning has to start from the rounded weights.
    let base = Trunk::from_tensors(&checkpoint::read(&folder.join("base"))?)?;
    let mut exams = Vec::new();
    for task in &TASKS {
        let rows = task.rows(&digits.train);
        let head = train::head(&base, &rows, &mut rng);
        let tuned = train::fine_tune(&base, &head, &rows, &mut rng);
        checkpoint::write(&folder.join(task.name), &tuned.to_tensors())?;
        let few = rows.select(&(0..few::ROWS).collect::<Vec<_>>()).inputs;
        let test = task.rows(&digits.test);
        exams.push(Exam { head, few, test });
    }
    Ok(exams)
}
