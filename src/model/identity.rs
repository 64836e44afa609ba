//! Which checkpoint this is, however it is sharded: spec/format.md, "Base identity".

use std::sync::Arc;

use crate::model::digest::{Digest, Digester, Role};
use crate::model::tensor::TensorInfo;

/// Names, dtypes, shapes and digests of a checkpoint's tensors, and one digest over them.
///
/// Sorted by name, so that sharding and order in the files make no difference. [BAS-1]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseIdentity {
    /// By name.
    tensors: Vec<(Arc<TensorInfo>, Option<Digest>)>,
    digest: Option<Digest>,
}

impl BaseIdentity {
    /// From tensors of distinct names. A tensor without a digest was not read; then the whole has none either.
    pub fn new<T: Into<Arc<TensorInfo>>>(tensors: impl IntoIterator<Item = (T, Option<Digest>)>) -> Self {
        let mut tensors: Vec<(Arc<TensorInfo>, _)> = tensors.into_iter().map(|(info, d)| (info.into(), d)).collect();
        tensors.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let whole: Option<Vec<_>> = tensors.iter().map(|(info, d)| d.map(|d| (&**info, d))).collect();
        let digest = whole.map(|rows| digest_of(rows.into_iter()));
        BaseIdentity { tensors, digest }
    }

    /// The digest of the whole checkpoint, where every tensor was read.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What is known of a tensor.
    pub fn tensor(&self, name: &str) -> Option<(&TensorInfo, Option<Digest>)> {
        let i = self.tensors.binary_search_by(|(info, _)| info.name.as_str().cmp(name)).ok()?;
        self.tensors.get(i).map(|(info, d)| (&**info, *d))
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&TensorInfo, Option<Digest>)> {
        self.tensors.iter().map(|(info, d)| (&**info, *d))
    }
}

/// Bytes that are hashed together.
const GATHERED: usize = 1 << 16;

/// One digest over tensors in order of name: for each the length of its name (u64), the name, the dtype's code (u8), the
/// rank (u64), the dimensions (u64 each) and the digest of its data. [BAS-1]
pub fn digest_of<'a>(tensors: impl Iterator<Item = (&'a TensorInfo, Digest)>) -> Digest {
    let mut digester = Digester::new(Role::Checkpoint);
    // Many small additions take a multiple of the time of a few large ones.
    let mut bytes = Vec::new();
    for (info, data) in tensors {
        bytes.extend((info.name.len() as u64).to_le_bytes());
        bytes.extend(info.name.as_bytes());
        bytes.push(info.dtype.code());
        bytes.extend((info.shape.len() as u64).to_le_bytes());
        info.shape.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
        bytes.extend(data.0);
        if bytes.len() >= GATHERED {
            digester.add(&bytes);
            bytes.clear();
        }
    }
    digester.add(&bytes);
    digester.finish()
}
