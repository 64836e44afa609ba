//! `stitchpack diff`: what changed, before anything is packed.

use std::path::PathBuf;

use stitchpack::create::NewTensors;
use stitchpack::error::Escaped;
use stitchpack::report::diff::Diff;
use stitchpack::{CreateOptions, Result};

use super::console::Console;
use super::create::Tensors;
use super::global::Global;
use super::text::{count, fine_percent as percent, names};

/// Show what changed between a base and a fine-tuned model
#[derive(clap::Args)]
pub struct Args {
    /// The base: a .safetensors file or a Hugging Face folder
    base: PathBuf,
    /// The fine-tuned model, or the folder of an adapter
    fine_tuned: PathBuf,
    #[command(flatten)]
    tensors: Tensors,
}

pub fn run(args: Args, global: &Global, console: &Console) -> Result<()> {
    // Nothing is refused here, but a typing mistake is one all the same.
    args.tensors.new_tensors.parse::<NewTensors>()?;
    let base = global.checkpoint(&args.base)?;
    let fine_tuned = super::create::fine_tuned(&base, &args.fine_tuned, global)?;
    let options = CreateOptions {
        include: args.tensors.include,
        exclude: args.tensors.exclude,
        cast: args.tensors.cast,
        workers: global.workers(),
        ..CreateOptions::default()
    };
    let diff = stitchpack::report::diff::diff(&base, &*fine_tuned, options)?;
    if console.json {
        return console.report("diff", &diff);
    }
    print(&diff, console);
    Ok(())
}

fn print(diff: &Diff, console: &Console) {
    console
        .line(format!("{:>12} {:>9} {:>10} {:>10} {:>10}  tensor", "changed", "share", "norm", "relative", "largest"));
    for t in diff.tensors.iter().filter(|t| t.changed > 0) {
        let relative = if t.base_norm > 0.0 { t.norm / t.base_norm } else { 0.0 };
        let same = t.same_as.as_ref().map_or(String::new(), |s| format!("  (same as {})", Escaped(s)));
        console.line(format!(
            "{:>12} {:>9} {:>10.4} {:>10} {:>10.2e}  {}{same}",
            count(t.changed),
            percent(t.changed as f64 / t.units.max(1) as f64),
            t.norm,
            percent(relative),
            t.max,
            Escaped(&t.name)
        ));
    }
    let equal = diff.tensors.iter().filter(|t| t.changed == 0).count();
    console.line(format!("{equal} tensors are equal"));
    for (what, list) in [
        ("only in the fine-tuned model, or in another shape", &diff.only_in_fine_tuned),
        ("only in the base", &diff.only_in_base),
        ("files that differ", &diff.companions),
    ] {
        if !list.is_empty() {
            console.line(format!("{what}: {}", names(list)));
        }
    }
    console.line(format!(
        "{} of {} elements changed ({}); norm {:.4}, {} of the base's",
        count(diff.changed),
        count(diff.elements),
        percent(diff.changed as f64 / diff.elements.max(1) as f64),
        diff.norm,
        percent(if diff.base_norm > 0.0 { diff.norm / diff.base_norm } else { 0.0 })
    ));
    let energy: Vec<String> = diff.energy.iter().map(|(d, e)| format!("{}% {:.0}%", d * 100.0, e * 100.0)).collect();
    console.line(format!("energy kept by density: {}", energy.join(", ")));
}
