//! Is this my base? And if not, what is it?

use crate::error::{BaseMismatch, Error, Result};
use crate::format::rows::Row;
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;
use crate::pack::body::Body;

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
    let rows: Vec<(&str, Seen)> =
        bound(body).map(|(row, digest)| (row.name, look(base.tensor(row.name), row, digest))).collect();
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
    let alike = |info: &TensorInfo, row: Row| info.shape == row.shape && row.dtype().is_ok_and(|d| d == info.dtype);
    bound(body).all(|(row, _)| tensor(row.name).is_some_and(|info| alike(info, row)))
}

/// Rows that are bound by their own digest. A carried tensor replaces what the base has, so it is bound by the whole
/// checkpoint only.
fn bound(body: &Body) -> impl Iterator<Item = (Row<'_>, [u8; 32])> {
    body.manifest.tensors.with_own().filter_map(|(row, own)| Some((row, own.base?)))
}

/// Whether every tensor that the pack takes from a base is the same in this one. Both are in order of name.
fn is_same(body: &Body, base: &BaseIdentity) -> bool {
    let mut rest = base.tensors();
    bound(body).all(|(row, digest)| {
        let order =
            rest.by_ref().map(|found| (found.0.name.as_str().cmp(row.name), found)).find(|(order, _)| order.is_ge());
        let found = order.filter(|(order, _)| order.is_eq()).map(|(_, found)| found);
        look(found, row, digest) == Seen::Same
    })
}

/// What is seen of a tensor that a delta is on.
fn look(found: Option<(&TensorInfo, Option<Digest>)>, row: Row, expected: [u8; 32]) -> Seen {
    let Some((info, digest)) = found else { return Seen::Missing };
    if info.shape != row.shape {
        return Seen::OtherShape(format!("shape {:?}, the pack has {:?}", info.shape, row.shape));
    }
    match row.dtype() {
        Ok(dtype) if dtype != info.dtype => return Seen::OtherDtype(format!("{}, the pack has {dtype}", info.dtype)),
        _ => {}
    }
    if digest.is_none_or(|digest| digest.0 != expected) { Seen::OtherBytes } else { Seen::Same }
}

fn words(seen: &Seen) -> String {
    match seen {
        Seen::Same => String::new(),
        Seen::Missing => "not in the base".into(),
        Seen::OtherShape(how) | Seen::OtherDtype(how) => how.clone(),
        Seen::OtherBytes => "other bytes".into(),
    }
}

const REMAKE: &str = "make the pack anew with `stitchpack create` from this base and the fine-tuned checkpoint, or get the base that it was made from; one made `--after` others needs those before it";

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
                "every tensor that the pack touches is right, but the rest of the checkpoint is not: a tensor differs, is missing or is one too many{digest}"
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
