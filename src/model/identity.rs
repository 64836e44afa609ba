//! Which checkpoint this is, however it is sharded: spec/format.md, "Base identity".

use crate::model::digest::{Digest, Digester, Role};
use crate::model::tensor::TensorInfo;

/// Names, dtypes, shapes and digests of a checkpoint's tensors, and one digest over them.
///
/// Sorted by name, so that sharding and order in the files make no difference. [BAS-1]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseIdentity {
    /// By name.
    tensors: Vec<(TensorInfo, Option<Digest>)>,
    digest: Option<Digest>,
}

impl BaseIdentity {
    /// From tensors of distinct names. A tensor without a digest was not read; then the whole has none either.
    pub fn new(tensors: impl IntoIterator<Item = (TensorInfo, Option<Digest>)>) -> Self {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        tensors.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let whole: Option<Vec<_>> = tensors.iter().map(|(info, d)| d.map(|d| (info, d))).collect();
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
        self.tensors.get(i).map(|(info, d)| (info, *d))
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&TensorInfo, Option<Digest>)> {
        self.tensors.iter().map(|(info, d)| (info, *d))
    }
}

/// One digest over tensors in order of name: for each the length of its name (u64), the name, the dtype's code (u8), the
/// rank (u64), the dimensions (u64 each) and the digest of its data. [BAS-1]
pub fn digest_of<'a>(tensors: impl Iterator<Item = (&'a TensorInfo, Digest)>) -> Digest {
    let mut digester = Digester::new(Role::Checkpoint);
    for (info, data) in tensors {
        digester.add(&(info.name.len() as u64).to_le_bytes());
        digester.add(info.name.as_bytes());
        digester.add(&[info.dtype.code()]);
        digester.add(&(info.shape.len() as u64).to_le_bytes());
        info.shape.iter().for_each(|d| digester.add(&d.to_le_bytes()));
        digester.add(&data.0);
    }
    digester.finish()
}
