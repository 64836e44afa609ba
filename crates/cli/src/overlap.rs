//! `stitchpack overlap`: how much tasks collide.

use std::path::{Path, PathBuf};

use stitchpack::Result;
use stitchpack::error::Escaped;
use stitchpack::model::source::TensorSource;
use stitchpack::report::overlap::overlaps;

use super::console::Console;
use super::global::{Global, open_packs};
use super::text::{count, fine_percent as percent, path_text};

/// Show how much packs collide: shared positions against chance, opposite signs
#[derive(clap::Args)]
pub struct Args {
    /// Two or more packs
    #[arg(required = true, num_args = 2..)]
    packs: Vec<PathBuf>,
    /// The packs' base, needed for packs coded against it, such as exact ones
    #[arg(long, value_name = "BASE")]
    base: Option<PathBuf>,
    /// Also list the tensors that share most
    #[arg(long)]
    tensors: bool,
}

pub fn run(args: Args, global: &Global, console: &Console) -> Result<()> {
    let packs = open_packs(&args.packs)?;
    let base = global.base_of(&packs, args.base.as_deref())?;
    let names: Vec<&Path> = args.packs.iter().map(PathBuf::as_path).collect();
    let found = overlaps(&names, &packs, base.as_ref().map(|b| b as &dyn TensorSource))?;
    if console.json {
        return console.report("overlap", &found);
    }
    let bases: std::collections::BTreeSet<_> = packs.iter().map(|p| p.manifest().base).collect();
    if bases.len() > 1 {
        console.warn("the packs have different bases; tensors are compared by name and shape all the same");
    }
    let name = |i: usize| args.packs.get(i).map_or("?".into(), |p| path_text(p));
    for o in &found.overlaps {
        let smaller = o.kept.0.min(o.kept.1).max(1);
        console.line(format!("{} and {}", name(o.packs.0), name(o.packs.1)));
        console.line(format!("  keep      {} and {}", count(o.kept.0), count(o.kept.1)));
        console.line(format!(
            "  share     {} ({} of the smaller)",
            count(o.shared),
            percent(o.shared as f64 / smaller as f64)
        ));
        let ratio = if o.by_chance > 0.0 { o.shared as f64 / o.by_chance } else { 0.0 };
        console
            .line(format!("  by chance {} ({ratio:.1} times as many are shared)", count(o.by_chance.round() as u64)));
        let share = o.opposite as f64 / o.shared.max(1) as f64;
        console.line(format!(
            "  opposite  {} ({} of the shared have opposite signs)",
            count(o.opposite),
            percent(share)
        ));
        if args.tensors {
            let mut tensors: Vec<_> = o.tensors.iter().filter(|t| t.shared > 0).collect();
            tensors.sort_by_key(|t| std::cmp::Reverse(t.shared));
            for t in tensors.iter().take(20) {
                console.line(format!(
                    "    {:>10} shared, {:>10} opposite  {}",
                    count(t.shared),
                    count(t.opposite),
                    Escaped(&t.name)
                ));
            }
        }
    }
    Ok(())
}
