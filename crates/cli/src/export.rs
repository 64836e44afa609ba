//! `stitchpack export`: base + packs → what changes, for other programs.

use std::path::PathBuf;

use stitchpack::export::{ExportOptions, Exported, Format};
use stitchpack::model::digest::Digest;
use stitchpack::{Error, Result};

use super::Global;
use super::apply::{Merge, model};
use super::say::{Say, count, counted, names, size};

/// Write what packs change in a form that other programs read
///
/// A base of which each byte was checked makes the file name the digests of the base and of the result.
#[derive(clap::Args)]
#[command(after_long_help = LAYOUTS)]
pub struct Args {
    #[command(flatten)]
    merge: Merge,
    /// What to write: weight-patch, safetensors-delta or shira; --help says what each looks like
    #[arg(long, value_name = "FORMAT")]
    format: String,
    /// Where to write: a .safetensors file; for shira a folder
    #[arg(short, long, value_name = "OUT", value_parser = super::output())]
    output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

const LAYOUTS: &str = "\
Formats (spec/export.md has them in full):

  weight-patch       For each tensor NAME of which anything changes: NAME.indices, flat row-major positions, ascending, I32
                     (I64 where the tensor has more than 2^31 elements), and NAME.values, the new elements in the tensor's
                     dtype. A tensor that the base lacks, and one of complex or sub-byte dtype, is written whole: NAME.values
                     with its shape, and no NAME.indices. What inference engines call a sparse checkpoint weight patch.
  safetensors-delta  The same names and positions; NAME.values are numbers to add to the base: F32, or F64 in a tensor for
                     which F32 does not give back every bit. Tensors of floats only.
  shira              A folder with adapter_config.json and adapter_model.safetensors, as PEFT loads SHiRA adapters. Weights of
                     linear modules only, each with r x (rows + columns) positions: the smallest r that holds all is taken,
                     and filled up with positions at which 0 is added.

Each gives exactly the bytes that apply gives; what cannot is refused with exit code 6. The file's metadata says what it is
(stitchpack_export) and names base and result by digest.";

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
    let format: Format = args.format.parse()?;
    if format != Format::Shira && args.output.extension().is_none_or(|e| e != "safetensors") {
        let path = args.output.to_string_lossy();
        let path = stitchpack::error::Escaped(&path);
        return Err(Error::InvalidInput(format!("{path}: {format} is one file, whose name must end in .safetensors")));
    }
    let (model, identity) = model(&args.merge, global)?;
    let options = ExportOptions { force: args.force, workers: global.workers(), ..ExportOptions::new(format) };
    let exported = stitchpack::export(&model, &identity, &args.output, &options)?;
    drop(options);
    report(&exported, &args, format, say);
    Ok(())
}

fn report(exported: &Exported, args: &Args, format: Format, say: &Say) {
    let hex = |digest: Option<Digest>| digest.map(|d| d.to_string());
    if say.json {
        return say.document(&serde_json::json!({
            "path": args.output, "format": format.name(), "bytes": exported.bytes, "tensors": exported.tensors,
            "changed": exported.changed, "whole": exported.whole, "rank": exported.rank, "base": hex(exported.base),
            "result": hex(exported.result),
        }));
    }
    say.line(format!("{}: {}, {format}", args.output.display(), size(exported.bytes)));
    let tensors = counted(exported.tensors as u64, "tensor");
    say.line(format!("changed  {} positions of {tensors}", count(exported.changed)));
    if !exported.whole.is_empty() {
        say.line(format!("whole    {}", names(&exported.whole)));
    }
    if let Some(rank) = exported.rank {
        say.line(format!("r        {rank}"));
    }
    match hex(exported.result) {
        Some(result) => say.line(format!("result   {result}")),
        None => say.note("result   not known: only the touched tensors of the base were read"),
    }
}
