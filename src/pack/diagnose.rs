//! Is this my base? And if not, what is it?

use crate::error::{BaseMismatch, Error, Result};
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;
use crate::pack::body::{Body, Own};

/// What was seen of one touched tensor in the base at hand.
#[derive(PartialEq)]
enum Seen {
    Same,
    Missing,
    OtherShape(String),
    OtherDtype(String),
    OtherBytes,
}

/// Compares a pack's base with the checkpoint at hand. [BAS-2]
pub(crate) fn compare(body: &Body, base: &BaseIdentity) -> Result<()> {
    let whole = base.digest().map(|d| d.0);
    if is_same(body, base) && whole.is_none_or(|d| d == body.manifest.base) {
        return Ok(());
    }
    let rows: Vec<(&str, Seen)> = taken(body).map(|(name, own)| (name, look(base.tensor(name), own))).collect();
    let differing: Vec<&(&str, Seen)> = rows.iter().filter(|(_, seen)| *seen != Seen::Same).collect();
    let (diagnosis, advice) = explain(&rows, base.digest());
    let tensors = differing.iter().take(5).map(|(name, seen)| (name.to_string(), words(seen))).collect();
    let mismatch = BaseMismatch {
        diagnosis,
        advice: advice.into(),
        tensors,
        differing: differing.len(),
        touched: body.manifest.tensors.len(),
        expected: body.manifest.base,
        found: whole,
    };
    body.locate(Err(Error::BaseMismatch(Box::new(mismatch))))
}

/// Whether a base has every tensor that the pack takes from one, in dtype and shape.
pub(crate) fn fits<'b>(body: &Body, tensor: &dyn Fn(&str) -> Option<&'b TensorInfo>) -> bool {
    let alike = |info: &TensorInfo, own: &Own| info.shape == own.info.shape && info.dtype == own.info.dtype;
    taken(body).all(|(name, own)| tensor(name).is_some_and(|info| alike(info, own)))
}

/// The rows that lie on a tensor of the base. A carried tensor replaces what the base has, so it is bound by the whole
/// checkpoint only.
fn taken(body: &Body) -> impl Iterator<Item = (&str, &Own)> {
    let rows = body.manifest.tensors.iter().enumerate();
    rows.filter_map(|(i, row)| Some((row.name.as_str(), body.own_of_row(i).filter(|own| own.base.is_some())?)))
}

/// Whether every tensor that the pack takes from a base is the same in this one. Both are in order of name.
fn is_same(body: &Body, base: &BaseIdentity) -> bool {
    let mut rest = base.tensors();
    body.manifest.tensors.iter().enumerate().all(|(row, tensor)| match body.own_of_row(row) {
        Some(own) if own.base.is_some() => {
            let found = rest.find(|(info, _)| info.name >= tensor.name).filter(|(info, _)| info.name == tensor.name);
            look(found, own) == Seen::Same
        }
        _ => true,
    })
}

/// What is seen of a tensor that a delta is on.
fn look(found: Option<(&TensorInfo, Option<Digest>)>, own: &Own) -> Seen {
    let Some((info, digest)) = found else { return Seen::Missing };
    if info.shape != own.info.shape {
        return Seen::OtherShape(format!("shape {:?}, the pack has {:?}", info.shape, own.info.shape));
    }
    if info.dtype != own.info.dtype {
        return Seen::OtherDtype(format!("{}, the pack has {}", info.dtype, own.info.dtype));
    }
    if digest.is_none() || digest != own.base { Seen::OtherBytes } else { Seen::Same }
}

fn words(seen: &Seen) -> String {
    match seen {
        Seen::Same => String::new(),
        Seen::Missing => "not in the base".into(),
        Seen::OtherShape(how) | Seen::OtherDtype(how) => how.clone(),
        Seen::OtherBytes => "other bytes".into(),
    }
}

const REMAKE: &str = "make the pack anew with `stitchpack create` from this base and the fine-tuned checkpoint, or get the base that it was made from";

/// The likeliest explanation, and what to do.
fn explain(rows: &[(&str, Seen)], whole: Option<Digest>) -> (String, &'static str) {
    let count = |f: fn(&Seen) -> bool| rows.iter().filter(|(_, seen)| f(seen)).count();
    let missing = count(|s| matches!(s, Seen::Missing));
    let shapes = count(|s| matches!(s, Seen::OtherShape(_)));
    let dtypes = count(|s| matches!(s, Seen::OtherDtype(_)));
    let bytes = count(|s| matches!(s, Seen::OtherBytes));
    let n = rows.len();
    if missing == n && n > 0 {
        ("another model: it has none of the pack's tensors".into(), "check the path of the base")
    } else if missing > 0 || shapes > 0 {
        (
            format!("another model or another vocabulary: {missing} tensors are missing, {shapes} have another shape"),
            REMAKE,
        )
    } else if dtypes > 0 {
        (
            format!("the same names and shapes in another dtype ({dtypes} of {n} touched tensors): it was converted"),
            "use the checkpoint in its original dtype, or make the pack anew from the converted one",
        )
    } else if bytes == 0 {
        let digest = whole.map_or(String::new(), |d| format!(" (its digest is {d})"));
        (
            format!(
                "every tensor that the pack touches is right, but another tensor of the checkpoint differs{digest}"
            ),
            "`--base-check touched` accepts that; otherwise get the base that the pack was made from",
        )
    } else if bytes.saturating_mul(4) <= n {
        (format!("{bytes} of {n} touched tensors were changed, the others are the same"), REMAKE)
    } else {
        (
            format!(
                "another revision, or a fine-tune of the same architecture: {bytes} of {n} touched tensors have other bytes"
            ),
            REMAKE,
        )
    }
}
