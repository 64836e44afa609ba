//! `stitchpack verify`: every digest; then, with a base, whether it is the right one.

use std::path::{Path, PathBuf};

use stitchpack::checkpoint::BaseCheck;
use stitchpack::merge::check_of;
use stitchpack::model::digest::Digest;
use stitchpack::model::identity::BaseIdentity;
use stitchpack::model::source::TensorSource;
use stitchpack::{Checkpoint, Error, Layer, MergeOptions, Result, StitchedModel, VerifiedPack};

use super::say::{Say, error_document, names};
use super::{Failures, Global};

/// What a matching id proves: as much as the way on which the id came.
const IDENTITY: &str =
    "identity: this is the pack with the expected id; its origin is as trustworthy as where you got the id";

/// Check packs: every digest, everything that decodes, and whether a base is theirs
///
/// All packs are checked, also after one that is bad: each good one has its line on standard output, each bad one on standard error, and
/// the exit code is that of the first bad one, in the order in which they were named. With `--json` the one document has the error of
/// the first, and under `packs` the path of each with its id or its error.
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

pub fn run(args: Args, global: &Global, say: &Say) -> std::result::Result<(), Failures> {
    let check: BaseCheck = args.base_check.parse()?;
    let expected = args.expected()?;
    let outcome = args.result.as_ref().map(|path| global.checkpoint(path)).transpose()?;
    let mut found: Vec<Result<VerifiedPack>> = Vec::new();
    for path in &args.packs {
        found.push(super::open_pack(path).and_then(|pack| is_expected(pack.verify()?, expected)));
    }
    let on = match &args.base {
        Some(path) if found.iter().any(Result::is_ok) => Some(on_base(path, check, &args.packs, &mut found, global)?),
        _ => None,
    };
    let mut undecoded = 0;
    for pack in found.iter().flatten() {
        undecoded += usize::from(pack.needs_base()?);
    }
    if found.iter().any(Result::is_err) {
        return Err(report_failures(&args, found, say));
    }
    let packs: Vec<VerifiedPack> = found.into_iter().collect::<Result<_>>()?;
    let ids: Vec<String> = packs.iter().map(|p| p.id().to_string()).collect();
    let decoded = undecoded == 0 || args.base.is_some();
    let what = if decoded { ", and everything decodes" } else { "" };
    let mut proved = vec![format!("integrity: every byte is under a digest that matches{what}")];
    if expected.is_some() {
        proved.push(IDENTITY.into());
    }
    match (&on, &outcome) {
        (Some((base, identity)), Some(model)) => proved.push(check_outcome(base, identity, packs, model, global)?),
        (Some(_), None) => {
            let what = match check {
                BaseCheck::Touched => "the touched tensors of the base are the right ones (the others were not read)",
                _ => "the base is the right one, whole",
            };
            proved.push(format!("base: {what}"));
        }
        (None, Some(model)) => proved.push(check_recorded(&packs, model, global)?),
        (None, None) => {}
    }
    let mut not_proved = Vec::new();
    if expected.is_none() {
        not_proved.push("origin: compare the id with one from a source you trust (--expect-id)".to_string());
    }
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
        args.packs.iter().zip(&ids).for_each(|(path, id)| ok(path, id, say));
        proved.iter().for_each(|p| say.note(format!("  proved      {p}")));
        not_proved.iter().for_each(|p| say.note(format!("  not proved  {p}")));
    }
    Ok(())
}

impl Args {
    /// The id that the pack must have.
    fn expected(&self) -> Result<Option<Digest>> {
        let Some(text) = &self.expect_id else { return Ok(None) };
        let expected = Digest::from_hex(text)
            .ok_or_else(|| Error::InvalidInput(format!("\"{text}\" is not an id of 64 hex digits")))?;
        match self.packs.as_slice() {
            [_] => Ok(Some(expected)),
            _ => Err(Error::InvalidInput("--expect-id goes with one pack".into())),
        }
    }
}

fn is_expected(pack: VerifiedPack, expected: Option<Digest>) -> Result<VerifiedPack> {
    match expected {
        Some(id) if id != pack.id() => {
            Err(Error::DigestMismatch { place: "pack id".into(), expected: id.0, found: pack.id().0 })
        }
        _ => Ok(pack),
    }
}

fn ok(path: &Path, id: &str, say: &Say) {
    say.line(format!("ok {id} {}", path.display()));
}

/// Names what is right, and gives what is wrong with the others.
fn report_failures(args: &Args, found: Vec<Result<VerifiedPack>>, say: &Say) -> Failures {
    let (mut errors, mut packs) = (Vec::new(), Vec::new());
    for (path, found) in args.packs.iter().zip(found) {
        packs.push(match &found {
            Ok(pack) => serde_json::json!({"path": path, "id": pack.id().to_string()}),
            Err(e) => serde_json::json!({"path": path, "error": error_document(e)}),
        });
        match found {
            Ok(pack) if !say.json => ok(path, &pack.id().to_string(), say),
            Ok(_) => {}
            Err(e) => errors.push(e),
        }
    }
    Failures { errors, packs }
}

/// Opens a base, and checks each pack against it, or against what packs before it make of it: whether it is the pack's, and what is
/// decoded only with it.
fn on_base(
    path: &Path,
    check: BaseCheck,
    paths: &[PathBuf],
    found: &mut [Result<VerifiedPack>],
    global: &Global,
) -> Result<(Checkpoint, BaseIdentity)> {
    let base = global.checkpoint(path)?;
    let (check, _) = check_of(found.iter().flatten(), check);
    let touched = |name: &str| found.iter().flatten().any(|pack| pack.touches(name));
    let identity = base.identity_with(check, &touched, &global.workers())?;
    let (mut below, mut here): (Option<StitchedModel>, _) = (None, identity.clone());
    let mut rest: Vec<usize> = (0..found.len()).filter(|i| found[*i].is_ok()).collect();
    loop {
        let is_here = |i: &usize| found[*i].as_ref().is_ok_and(|pack| pack.check_base(&here).is_ok());
        let (fitting, others): (Vec<usize>, Vec<usize>) = rest.into_iter().partition(is_here);
        let ground: &dyn TensorSource = below.as_ref().map_or(&base, |model| model);
        fitting.iter().for_each(|i| check_slot(&mut found[*i], |pack| decode(pack, ground)));
        rest = others;
        let next = match fitting.is_empty() || rest.is_empty() {
            true => None,
            false => link(&base, below.take(), &here, fitting.iter().map(|i| paths[*i].as_path())).ok(),
        };
        let Some(next) = next else { break };
        here = next.identity(&identity, &global.workers())?;
        below = Some(next);
    }
    // What is left fits nowhere, and is told how it differs from the base.
    rest.into_iter().for_each(|i| check_slot(&mut found[i], |pack| pack.check_base(&identity)));
    Ok((base, identity))
}

/// Decodes what is decoded only with what the pack lies on.
fn decode(pack: &VerifiedPack, ground: &dyn TensorSource) -> Result<()> {
    if pack.needs_base()? {
        pack.check_content(Some(ground))?;
    }
    Ok(())
}

/// Puts what is wrong with a pack in its place.
fn check_slot(slot: &mut Result<VerifiedPack>, check: impl Fn(&VerifiedPack) -> Result<()>) {
    if let Some(e) = slot.as_ref().ok().and_then(|pack| check(pack).err()) {
        *slot = Err(e);
    }
}

/// Puts packs, which are opened once more, on what they lie on.
fn link<'b, 'p>(
    base: &'b Checkpoint,
    below: Option<StitchedModel<'b>>,
    here: &BaseIdentity,
    paths: impl Iterator<Item = &'p Path>,
) -> Result<StitchedModel<'b>> {
    let layer = |path| Ok(Layer { pack: super::open_pack(path)?.verify_as_read().bind(here)?, weight: 1.0 });
    let layers = paths.map(layer).collect::<Result<Vec<_>>>()?;
    match below {
        Some(below) => below.then(layers, &MergeOptions::default()),
        None => StitchedModel::new(base, layers, &MergeOptions::default()),
    }
}

/// Compares a model with what packs make of a base.
fn check_outcome(
    base: &Checkpoint,
    identity: &BaseIdentity,
    packs: Vec<VerifiedPack>,
    outcome: &Checkpoint,
    global: &Global,
) -> Result<String> {
    let workers = global.workers();
    let packs = packs.into_iter().map(|pack| (pack, 1.0)).collect();
    let model = StitchedModel::chain(base, identity, packs, &MergeOptions::default(), &workers)?;
    let expect = outcome.identity(&workers)?.digest();
    let options = stitchpack::ApplyOptions { expect, workers, ..Default::default() };
    stitchpack::lock(&model, identity, &options)?;
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
