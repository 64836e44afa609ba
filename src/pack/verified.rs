//! A pack of which nothing is believed before its digest was checked; it is not yet matched to a base.

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::model::delta::BlockDelta;
use crate::model::digest::{Digest, Role};
use crate::model::identity::BaseIdentity;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::pack::body::{Body, Own};
use crate::pack::bound::{BoundPack, DeltaBlocks};
use crate::pack::content::{self, DeltaContent};
use crate::pack::diagnose;
use crate::pack::opened::OpenedPack;
use crate::parallel::Workers;

/// A pack from which no byte comes unchecked.
#[derive(Debug)]
pub struct VerifiedPack {
    body: Body,
}

impl VerifiedPack {
    pub(crate) fn new(body: Body) -> Self {
        VerifiedPack { body }
    }

    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    /// Opens packs, several at a time. Headers and manifests are read and checked, sections when they are read.
    ///
    /// # Errors
    /// As [`OpenedPack::open`]; the first by order where several fail.
    pub fn open_all(paths: &[&Path], workers: &Workers) -> Result<Vec<VerifiedPack>> {
        let mut packs = Vec::with_capacity(paths.len());
        let open = |i: usize| {
            let path = paths.get(i).ok_or_else(|| Error::Internal("a pack without a path".into()))?;
            Ok(OpenedPack::open(path)?.verify_as_read())
        };
        workers.in_order(paths.len(), open, |_, pack| {
            packs.push(pack);
            Ok(())
        })?;
        Ok(packs)
    }

    /// What the pack says it is.
    pub fn manifest(&self) -> &Manifest {
        &self.body.manifest
    }

    /// The digest that names the file.
    pub fn id(&self) -> Digest {
        self.body.header.id
    }

    /// Whether the pack has a delta of a tensor.
    pub fn touches(&self, name: &str) -> bool {
        self.manifest().tensors.find(name).is_some()
    }

    /// Name, dtype and shape of every touched tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo> {
        // A manifest with a dtype that is not known is refused when it is read.
        self.manifest().tensors.iter().filter_map(|row| row.info().ok())
    }

    /// Every row with a delta: its name, the delta, and its blocks. For reports that need no base.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, Own)> {
        let rows = self.body.manifest.tensors.iter().enumerate();
        rows.filter_map(|(i, row)| Some((row.name, self.body.own_of_row(i)?)))
    }

    pub(crate) fn blocks(&self, own: Own) -> Result<DeltaBlocks<'_>> {
        DeltaBlocks::new(&self.body, own)
    }

    /// Whether some deltas are coded by what the base has, so that they cannot be decoded without.
    ///
    /// # Errors
    /// `DigestMismatch` or `Malformed` where a table is not what the manifest says.
    pub fn needs_base(&self) -> Result<bool> {
        for own in self.body.owns() {
            if self.blocks(own)?.needs_base() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Decodes everything, but for what needs a base where none is given, and compares the content id where nothing was left
    /// out. Gives whether that is so. [CID-1]
    ///
    /// # Errors
    /// `Malformed` where a block is not what its table says, or the content not what the manifest says.
    pub fn check_content(&self, base: Option<&dyn TensorSource>) -> Result<bool> {
        let (mut digests, mut complete) = (Vec::new(), true);
        for own in self.body.owns() {
            let row = own.row;
            match delta_content(&self.body, own, base)? {
                Some(digest) => digests.push((row, digest)),
                None => complete = false,
            }
        }
        if !complete {
            return Ok(false);
        }
        let manifest = &self.body.manifest;
        let rows = manifest.tensors.iter().enumerate().map(|(row, tensor)| {
            let target = self.body.manifest.tensors.own(row).map_or(row, |(own, _)| own);
            let i = digests.binary_search_by_key(&target, |d| d.0).unwrap_or(0);
            (tensor.name, digests.get(i).map_or(Digest([0; 32]), |d| d.1))
        });
        let mut files = Vec::with_capacity(manifest.files.len());
        for (i, file) in manifest.files.iter().enumerate() {
            files.push((file.name.as_str(), Digest::of(Role::File, &self.body.file(i)?)));
        }
        let rows: Vec<_> = rows.collect();
        let found = content::content_id(&manifest.base, manifest.gain, &rows, &files);
        if found.0 == self.body.manifest.content {
            return Ok(true);
        }
        let detail = format!("content id is {found}, the manifest says {}", Digest(self.body.manifest.content));
        self.body.locate(Err(Error::malformed("CID-1", "content", detail)))
    }

    /// Whether a base has the tensors that the pack takes from one, in dtype and shape; its bytes are not looked at.
    pub(crate) fn fits<'b>(&self, tensor: &dyn Fn(&str) -> Option<&'b TensorInfo>) -> bool {
        diagnose::fits(&self.body, tensor)
    }

    /// Whether a base is the one that the pack is bound to.
    ///
    /// # Errors
    /// As [`VerifiedPack::bind`].
    pub fn check_base(&self, base: &BaseIdentity) -> Result<()> {
        diagnose::compare(&self.body, base)
    }

    /// The file's path, where there is one.
    pub fn path(&self) -> Option<&Path> {
        self.body.source().path()
    }

    /// What errors and recipes call the pack: its path, or the address that its source gives.
    pub fn name(&self) -> Option<&Path> {
        self.body.source().name()
    }

    /// Matches the pack to a base: every touched tensor by name, dtype, shape and digest, and the whole checkpoint where all of
    /// it was read.
    ///
    /// # Errors
    /// `BaseMismatch`, with up to five tensors and a diagnosis.
    pub fn bind(self, base: &BaseIdentity) -> Result<BoundPack> {
        self.check_base(base)?;
        Ok(BoundPack::new(self.body))
    }

    /// Takes the pack for one of a base that it [`fits`](VerifiedPack::fits). Nothing that is made with it may be used before
    /// [`BoundPack::check_base`] found the base to be the pack's. [CLS-1]
    pub(crate) fn bind_unproven(self) -> BoundPack {
        BoundPack::new(self.body)
    }
}

/// [`VerifiedPack::bind`] of several packs, several at a time.
pub(crate) fn bind_all(packs: Vec<VerifiedPack>, base: &BaseIdentity, workers: &Workers) -> Result<Vec<BoundPack>> {
    workers.for_each(packs.len(), || (), |(), i| packs.get(i).map_or(Ok(()), |pack| pack.check_base(base)))?;
    Ok(packs.into_iter().map(|pack| BoundPack::new(pack.body)).collect())
}

/// The digest of a delta's content; none where a block could not be decoded without the base.
fn delta_content(body: &Body, own: Own, base: Option<&dyn TensorSource>) -> Result<Option<Digest>> {
    let blocks = DeltaBlocks::new(body, own)?;
    let own = blocks.own();
    let mut content = DeltaContent::new(&own.info, own.kind, own.base, blocks.table());
    let (mut delta, mut complete) = (BlockDelta::default(), true);
    for i in 0..blocks.len() {
        if base.is_none() && blocks.block_needs_base(i) {
            complete = false;
            continue;
        }
        blocks.decode(i, base, &mut delta)?;
        content.add(&content::leaves(blocks.start_of(i), &delta, content.width()));
    }
    Ok(complete.then(|| content.finish()))
}
