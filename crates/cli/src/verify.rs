//! `stitchpack verify`: prints what the library proves of packs.

use std::path::{Path, PathBuf};

use stitchpack::model::digest::Digest;
use stitchpack::{Error, Result, VerifyOptions};

use super::Failed;
use super::console::Console;
use super::global::{Global, open_pack};
use super::text::path_text;

/// Check packs: every digest, everything that decodes, and whether a base is theirs
///
/// verify checks every pack, even after a failure. Good packs go to stdout,
/// failures to stderr; the exit code is the first failure's. --json reports each
/// pack under "packs", with its id and claims or its error.
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The packs; `-` reads one from standard input
    #[arg(required = true)]
    packs: Vec<PathBuf>,
    /// Check that this is the packs' base, and decode everything
    #[arg(long, value_name = "BASE")]
    base: Option<PathBuf>,
    /// How much of the base to read: full, touched or cached
    #[arg(long, value_name = "HOW", default_value = "full")]
    base_check: String,
    /// Check that the pack has this id (one pack only)
    #[arg(long, value_name = "ID")]
    expect_id: Option<String>,
    /// Check that this model is the result: of one pack as it recorded it, or, with --base, of all packs
    #[arg(long, value_name = "MODEL")]
    result: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  stitchpack verify reviews.stitch
  stitchpack verify reviews.stitch --base base.safetensors --expect-id ID
  stitchpack verify a.stitch b.stitch --base base --result merged";

pub fn run(args: Args, global: &Global, console: &Console) -> std::result::Result<(), Failed> {
    let open_model = |path: &Option<PathBuf>| path.as_ref().map(|path| global.checkpoint(path)).transpose();
    let expect_id = args.expect_id.as_deref().map(id).transpose()?;
    let base_check = args.base_check.parse()?;
    let (result, base) = (open_model(&args.result)?, open_model(&args.base)?);
    let workers = global.workers();
    let options = VerifyOptions { base: base.as_ref(), base_check, expect_id, result: result.as_ref(), workers };
    let open = |i: usize| open_pack(args.packs.get(i).map_or(Path::new(""), PathBuf::as_path));
    let found = stitchpack::verify(&args.packs, &open, &options)?;
    drop(options);
    if !console.json {
        for pack in &found.packs {
            if let Ok(claims) = &pack.found {
                console.line(format!("ok {} {}", claims.id, path_text(&pack.path)));
            }
        }
    }
    let Some(summary) = &found.summary else { return Err(Failed::Verification(Box::new(found))) };
    if console.json {
        console.report("verify", &found)?;
    }
    summary.proved.iter().for_each(|claim| console.note(format!("  proved      {claim}")));
    summary.not_proved.iter().for_each(|claim| console.note(format!("  not proved  {claim}")));
    Ok(())
}

fn id(text: &str) -> Result<Digest> {
    Digest::from_hex(text).ok_or_else(|| Error::InvalidInput(format!("\"{text}\" is not an id of 64 hex digits")))
}
