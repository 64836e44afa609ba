//! `stitchpack fold`: packs → one pack.

use std::collections::BTreeMap;
use std::path::PathBuf;

use stitchpack::create::{CreateOptions, Method, NewTensors};
use stitchpack::{Layer, PackGain, Result, StitchedModel};

use super::Global;
use super::apply::{Merge, prepare};
use super::say::Say;

/// Make one pack of a chain, or of several packs of one base under a rule and weights
///
/// The pack gives the folded model bit for bit. A merge is marked as folded: merged again with others it is an average of averages.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    merge: Merge,
    /// Where to write the pack
    #[arg(short, long, value_name = "PACK")]
    output: PathBuf,
    /// How hard to compress: fast (decodes at the speed of memory), default or small
    #[arg(long, value_name = "HOW", default_value = "default")]
    effort: String,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
    let (ready, packs) = prepare(&args.merge, global)?;
    let model = ready.model(packs, global)?;
    let folded = model.is_merge();
    let options = CreateOptions {
        method: Method::Exact,
        new_tensors: NewTensors::Carry,
        carry_files: true,
        notes: BTreeMap::from([("folded".to_string(), made_of(&model))]),
        force: args.force,
        folded,
        effort: args.effort.parse()?,
        workers: global.workers(),
        ..CreateOptions::default()
    };
    let created = stitchpack::create(&ready.base, &model, &args.output, &options)?;
    drop(options);
    super::create::report(&created, Some(args.output), true, None, say);
    Ok(())
}

/// What was folded, for people: ids and weights, link after link.
fn made_of(model: &StitchedModel) -> String {
    let here = model.layers().iter().zip(model.gains());
    let named = |(layer, gain): (&Layer, &PackGain)| {
        let by_tensor = if gain.tensors.is_empty() { "" } else { ", by tensor" };
        format!("{} weight {} gain {}{by_tensor}", layer.pack.id(), layer.weight, gain.gain)
    };
    let here: Vec<String> = here.map(named).collect();
    let here = format!("{} lambda {}: {}", model.rule().name(), model.lambda(), here.join(", "));
    model.below().map_or(here.clone(), |below| format!("{}; then {here}", made_of(below)))
}
