//! `stitchpack verify`: every digest; then, with a base, whether it is the right one.

use std::path::PathBuf;

use stitchpack::checkpoint::BaseCheck;
use stitchpack::model::digest::Digest;
use stitchpack::{Error, Layer, MergeOptions, Result, StitchedModel, VerifiedPack};

use super::Global;
use super::say::{Say, names};

/// Check packs: every digest, everything that decodes, and whether a base is theirs
#[derive(clap::Args)]
pub struct Args {
    /// The packs; `-` reads one from standard input
    #[arg(required = true)]
    packs: Vec<PathBuf>,
    /// Also check that this is the base that they are bound to
    #[arg(long, value_name = "BASE")]
    base: Option<PathBuf>,
    /// How much of the base is read: full, touched or cached
    #[arg(long, value_name = "HOW", default_value = "full")]
    base_check: String,
    /// Also check that this is the pack of this id (one pack only)
    #[arg(long, value_name = "ID")]
    expect_id: Option<String>,
    /// Also check that this model is the outcome: of one pack applied alone as it was made, or, with --base, of all of them
    #[arg(long, value_name = "MODEL")]
    result: Option<PathBuf>,
}

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
    let check: BaseCheck = args.base_check.parse()?;
    let mut packs = Vec::new();
    for path in &args.packs {
        packs.push(super::open_pack(path)?.verify()?);
    }
    let ids: Vec<String> = packs.iter().map(|p| p.id().to_string()).collect();
    check_id(&args, &packs)?;
    let mut undecoded = 0;
    for pack in &packs {
        undecoded += usize::from(pack.needs_base()?);
    }
    let decoded = undecoded == 0 || args.base.is_some();
    let what = if decoded { ", and everything decodes" } else { "" };
    let mut proved = vec![format!("integrity: every byte is under a digest that matches{what}")];
    if args.expect_id.is_some() {
        proved.push("identity: the id is the expected one".into());
    }
    let outcome = args.result.as_ref().map(|path| global.checkpoint(path)).transpose()?;
    if let Some(path) = &args.base {
        proved.push(check_base(path, check, packs, outcome.as_ref(), global)?);
    } else if let Some(model) = &outcome {
        proved.push(check_recorded(&packs, model, global)?);
    }
    let mut not_proved = vec!["origin: compare the id with one from a source you trust (--expect-id)".to_string()];
    if args.base.is_none() {
        not_proved.push("base: name one with --base".into());
    }
    if !decoded {
        not_proved.push("content: it is coded by what the base has; --base decodes it".into());
    }
    not_proved.push("harmlessness: a verified pack can still hold a bad model".into());
    if say.json {
        say.document(&serde_json::json!({"ok": true, "ids": ids, "proved": proved, "not_proved": not_proved}));
    } else {
        for (path, id) in args.packs.iter().zip(&ids) {
            say.line(format!("ok {id} {}", path.display()));
        }
        proved.iter().for_each(|p| say.note(format!("  proved      {p}")));
        not_proved.iter().for_each(|p| say.note(format!("  not proved  {p}")));
    }
    Ok(())
}

fn check_id(args: &Args, packs: &[VerifiedPack]) -> Result<()> {
    let Some(text) = &args.expect_id else { return Ok(()) };
    let expected = Digest::from_hex(text)
        .ok_or_else(|| Error::InvalidInput(format!("\"{text}\" is not an id of 64 hex digits")))?;
    match packs {
        [only] if only.id() == expected => Ok(()),
        [only] => Err(Error::DigestMismatch { place: "pack id".into(), expected: expected.0, found: only.id().0 }),
        _ => Err(Error::InvalidInput("--expect-id goes with one pack".into())),
    }
}

/// Binds all packs to a base, decodes what needs it, and compares the outcome where one is given.
fn check_base(
    path: &std::path::Path,
    check: BaseCheck,
    packs: Vec<VerifiedPack>,
    outcome: Option<&stitchpack::Checkpoint>,
    global: &Global,
) -> Result<String> {
    let base = global.checkpoint(path)?;
    let workers = global.workers();
    let touched: std::collections::HashSet<String> =
        packs.iter().flat_map(VerifiedPack::tensors).map(|t| t.name).collect();
    let identity = base.identity_with(check, &|name| touched.contains(name), &workers)?;
    for pack in &packs {
        pack.check_base(&identity)?;
        if pack.needs_base()? {
            pack.check_content(Some(&base))?;
        }
    }
    let layers =
        packs.into_iter().map(|p| Ok(Layer { pack: p.bind(&identity)?, weight: 1.0 })).collect::<Result<Vec<_>>>()?;
    let Some(outcome) = outcome else {
        let what = match check {
            BaseCheck::Touched => "the touched tensors of the base are the right ones (the others were not read)",
            _ => "the base is the right one, whole",
        };
        return Ok(format!("base: {what}"));
    };
    let model = StitchedModel::new(&base, layers, &MergeOptions::default())?;
    let expect = outcome.identity(&workers)?.digest();
    let options = stitchpack::ApplyOptions { expect, workers, ..Default::default() };
    stitchpack::lock(&model, &identity, &options)?;
    Ok("base and outcome: the model is what these packs make of this base".into())
}

/// Compares a model with the outcome that one pack recorded.
fn check_recorded(packs: &[VerifiedPack], model: &stitchpack::Checkpoint, global: &Global) -> Result<String> {
    let [pack] = packs else {
        return Err(Error::InvalidInput("--result of several packs needs --base".into()));
    };
    let Some(expected) = pack.manifest().result else {
        return Err(Error::InvalidInput("the pack has no recorded result; --base computes it".into()));
    };
    let touched: std::collections::HashSet<String> = pack.tensors().map(|t| t.name).collect();
    let identity = model.identity_with(BaseCheck::Touched, &|name| touched.contains(name), &global.workers())?;
    let missing: Vec<String> = touched.iter().filter(|n| identity.tensor(n).is_none()).cloned().collect();
    if !missing.is_empty() {
        return Err(Error::Refused(format!("the model lacks tensors of the pack: {}", names(&missing))));
    }
    let rows = identity.tensors().filter(|(info, _)| touched.contains(&info.name));
    let rows: Vec<_> = rows.filter_map(|(info, digest)| Some((info, digest?))).collect();
    let found = stitchpack::model::identity::digest_of(rows.into_iter());
    if found.0 != expected {
        return Err(Error::DigestMismatch { place: "result".into(), expected, found: found.0 });
    }
    Ok("outcome: the touched tensors of the model are those that the pack recorded".into())
}
