//! `stitchpack export`: base + packs → what changes, for other programs.

use std::path::PathBuf;

use stitchpack::export::{ExportOptions, Exported, Format};
use stitchpack::report::export::ExportReport;
use stitchpack::{Error, Result};

use super::console::Console;
use super::global::{Global, output};
use super::merge::{Merge, model};
use super::text::{count, counted, names, path_text, size};

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
    #[arg(short, long, value_name = "OUT", value_parser = output())]
    output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

const LAYOUTS: &str = "\
Formats (spec/export.md describes them in full):

  weight-patch       For each changed tensor NAME: NAME.indices (flat row-major
                     positions, ascending, I32, or I64 above 2^31 elements) and
                     NAME.values (the new elements, in the tensor's dtype). A new
                     tensor, or one of complex or sub-byte dtype, is written
                     whole: NAME.values with its shape, and no NAME.indices.
                     Inference engines call this a sparse checkpoint patch.
  safetensors-delta  The same names and positions; NAME.values are numbers to add
                     to the base, in F32, or in F64 where F32 loses bits. Tensors
                     of floats only.
  shira              A folder with adapter_config.json and
                     adapter_model.safetensors, as PEFT loads SHiRA adapters.
                     Weights of linear modules only, r x (rows + columns)
                     positions each, with the smallest r that holds all changes.

Each format gives exactly the bytes that apply gives; what a format cannot hold
is refused with exit code 6. The file's metadata (stitchpack_export) names base
and result by digest.";

pub fn run(args: Args, global: &Global, console: &Console) -> Result<()> {
    let format: Format = args.format.parse()?;
    if format != Format::Shira && args.output.extension().is_none_or(|e| e != "safetensors") {
        let path = path_text(&args.output);
        return Err(Error::InvalidInput(format!("{path}: {format} is one file, whose name must end in .safetensors")));
    }
    let (model, identity) = model(&args.merge, global)?;
    let options = ExportOptions { force: args.force, workers: global.workers(), ..ExportOptions::new(format) };
    let exported = stitchpack::export(&model, &identity, &args.output, &options)?;
    drop(options);
    report(&exported, &args, format, console)
}

fn report(exported: &Exported, args: &Args, format: Format, console: &Console) -> Result<()> {
    if console.json {
        return console.report("export", &ExportReport::of(exported, &args.output, format));
    }
    console.line(format!("{}: {}, {format}", path_text(&args.output), size(exported.bytes)));
    let tensors = counted(exported.tensors as u64, "tensor");
    console.line(format!("changed  {} positions of {tensors}", count(exported.changed)));
    if !exported.whole.is_empty() {
        console.line(format!("whole    {}", names(&exported.whole)));
    }
    if let Some(rank) = exported.rank {
        console.line(format!("r        {rank}"));
    }
    match exported.result {
        Some(result) => console.line(format!("result   {result}")),
        None => console.note("result   not known: only the touched tensors of the base were read"),
    }
    Ok(())
}
