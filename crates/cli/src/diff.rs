//! `stitchpack diff`: what changed, before anything is packed.

use std::path::PathBuf;

use stitchpack::create::NewTensors;
use stitchpack::error::Escaped;
use stitchpack::report::diff::Diff;
use stitchpack::{CreateOptions, Result};

use super::Global;
use super::create::Tensors;
use super::say::{Say, count, names, percent};

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

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
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
    if say.json {
        let document = serde_json::to_value(&diff).unwrap_or_default();
        say.document(&document);
    } else {
        print(&diff, say);
    }
    Ok(())
}

fn print(diff: &Diff, say: &Say) {
    say.line(format!("{:>12} {:>9} {:>10} {:>10} {:>10}  tensor", "changed", "share", "norm", "relative", "largest"));
    for t in diff.tensors.iter().filter(|t| t.changed > 0) {
        let relative = if t.base_norm > 0.0 { t.norm / t.base_norm } else { 0.0 };
        let same = t.same_as.as_ref().map_or(String::new(), |s| format!("  (same as {})", Escaped(s)));
        say.line(format!(
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
    say.line(format!("{equal} tensors are equal"));
    for (what, list) in [
        ("only in the fine-tuned model, or in another shape", &diff.only_in_fine_tuned),
        ("only in the base", &diff.only_in_base),
        ("files that differ", &diff.companions),
    ] {
        if !list.is_empty() {
            say.line(format!("{what}: {}", names(list)));
        }
    }
    say.line(format!(
        "{} of {} elements changed ({}); norm {:.4}, {} of the base's",
        count(diff.changed),
        count(diff.elements),
        percent(diff.changed as f64 / diff.elements.max(1) as f64),
        diff.norm,
        percent(if diff.base_norm > 0.0 { diff.norm / diff.base_norm } else { 0.0 })
    ));
    let energy: Vec<String> = diff.energy.iter().map(|(d, e)| format!("{}% {:.0}%", d * 100.0, e * 100.0)).collect();
    say.line(format!("energy kept by density: {}", energy.join(", ")));
}
