//! `stitchpack overlap`: how much tasks collide.

use std::path::PathBuf;

use stitchpack::Result;
use stitchpack::error::Escaped;
use stitchpack::model::source::TensorSource;

use super::Global;
use super::say::{Say, count, percent};

/// Show how much packs collide: shared positions against chance, opposite signs
#[derive(clap::Args)]
pub struct Args {
    /// Two or more packs
    #[arg(required = true, num_args = 2..)]
    packs: Vec<PathBuf>,
    /// The base of the packs; needed for those that are coded by what it has, such as exact ones
    #[arg(long, value_name = "BASE")]
    base: Option<PathBuf>,
    /// Also list the tensors that share most
    #[arg(long)]
    tensors: bool,
}

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
    let packs = super::open_packs(&args.packs)?;
    let base = super::base_of(&packs, args.base.as_deref(), global)?;
    let overlaps = stitchpack::report::overlap::overlap(&packs, base.as_ref().map(|b| b as &dyn TensorSource))?;
    if say.json {
        let ids: Vec<String> = packs.iter().map(|p| p.id().to_string()).collect();
        say.document(&serde_json::json!({"packs": args.packs, "ids": ids, "overlaps": overlaps}));
        return Ok(());
    }
    let bases: std::collections::BTreeSet<_> = packs.iter().map(|p| p.manifest().base).collect();
    if bases.len() > 1 {
        say.warn("the packs have different bases; tensors are compared by name and shape all the same");
    }
    let name = |i: usize| args.packs.get(i).map_or("?".into(), |p| p.display().to_string());
    for o in &overlaps {
        let smaller = o.kept.0.min(o.kept.1).max(1);
        say.line(format!("{} and {}", name(o.packs.0), name(o.packs.1)));
        say.line(format!("  keep      {} and {}", count(o.kept.0), count(o.kept.1)));
        say.line(format!(
            "  share     {} ({} of the smaller)",
            count(o.shared),
            percent(o.shared as f64 / smaller as f64)
        ));
        let ratio = if o.by_chance > 0.0 { o.shared as f64 / o.by_chance } else { 0.0 };
        say.line(format!("  by chance {} ({ratio:.1} times as many are shared)", count(o.by_chance.round() as u64)));
        let share = o.opposite as f64 / o.shared.max(1) as f64;
        say.line(format!("  opposite  {} ({} of the shared have opposite signs)", count(o.opposite), percent(share)));
        if args.tensors {
            let mut tensors: Vec<_> = o.tensors.iter().filter(|t| t.shared > 0).collect();
            tensors.sort_by_key(|t| std::cmp::Reverse(t.shared));
            for t in tensors.iter().take(20) {
                say.line(format!(
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
