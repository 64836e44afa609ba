//! Digests of files that were read in full before, in the user's cache folder. Never trusted when in doubt.
//!
//! An entry belongs to one state of one file (its [`Stamp`]: device, inode, size, mtime, ctime). Whoever can write the cache can make a
//! wrong base pass for the right one: where that matters, use the full check.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::io::Stamp;
use crate::model::digest::{Digest, Digester, Role};

/// A file changed this recently may change again without its times showing it.
const SETTLED: Duration = Duration::from_secs(2);

/// The digests of a file's tensors in file order, where an entry for this very state of it is whole.
pub(crate) fn load(stamp: &Stamp, tensors: usize) -> Option<Vec<Digest>> {
    let bytes = std::fs::read(path_of(stamp)?).ok()?;
    let (body, check) = bytes.split_last_chunk::<32>()?;
    let whole = seal(stamp, body).0 == *check && body.len() == tensors * 32;
    whole.then(|| body.as_chunks::<32>().0.iter().map(|d| Digest(*d)).collect())
}

/// Remembers digests. A cache that cannot be written is no error.
pub(crate) fn store(stamp: &Stamp, digests: &[Digest]) {
    let old = |changed| SystemTime::now().duration_since(changed).is_ok_and(|age| age >= SETTLED);
    let settled = stamp.changed().is_none_or(old);
    let Some(path) = path_of(stamp).filter(|_| settled) else { return };
    let mut body: Vec<u8> = digests.iter().flat_map(|d| d.0).collect();
    let check = seal(stamp, &body);
    body.extend(check.0);
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder)?;
        let part = folder.join(format!(".part-{}", std::process::id()));
        std::fs::File::create(&part)?.write_all(&body)?;
        std::fs::rename(part, &path)
    };
    // The next run hashes again, that is all.
    drop(write());
}

fn seal(stamp: &Stamp, body: &[u8]) -> Digest {
    Digester::new(Role::Cache).with(stamp.key()).with(body).finish()
}

/// `$STITCHPACK_CACHE`, else `stitchpack` in `$XDG_CACHE_HOME` or `~/.cache`.
fn path_of(stamp: &Stamp) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let root = set("STITCHPACK_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|p| p.join("stitchpack")))
        .or_else(|| set("HOME").map(|p| p.join(".cache/stitchpack")))?;
    Some(root.join("digests-1").join(seal(stamp, b"name").to_string()))
}
