//! A pack of which nothing is believed before its digest was checked; it is not yet matched to a base.

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::format::table::Table;
use crate::model::delta::BlockDelta;
use crate::model::digest::{Digest, Role};
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;
use crate::pack::body::{Body, Own};
use crate::pack::bound::{BoundPack, DeltaBlocks};
use crate::pack::content::{self, DeltaContent};
use crate::pack::diagnose;

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

    /// What the pack says it is.
    pub fn manifest(&self) -> &Manifest {
        &self.body.manifest
    }

    /// The digest that names the file.
    pub fn id(&self) -> Digest {
        self.body.header.id
    }

    /// Name, dtype and shape of every touched tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorInfo> {
        self.rows().map(|(name, own)| TensorInfo { name: name.into(), ..own.info.clone() })
    }

    /// Every row with a delta: its name, the delta, and its blocks. For reports that need no base.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &Own)> {
        let rows = self.body.manifest.tensors.iter().enumerate();
        rows.filter_map(|(i, row)| Some((row.name.as_str(), self.body.own_of_row(i)?)))
    }

    pub(crate) fn blocks<'a>(&'a self, own: &'a Own) -> Result<DeltaBlocks<'a>> {
        DeltaBlocks::new(&self.body, own)
    }

    /// Decodes everything and compares the content id. [CID-1]
    pub(crate) fn check_content(&self) -> Result<()> {
        let mut digests = Vec::with_capacity(self.body.owns.len());
        for own in &self.body.owns {
            digests.push((own.row, delta_content(&self.body, own)?));
        }
        let manifest = &self.body.manifest;
        let rows = manifest.tensors.iter().enumerate().map(|(row, tensor)| {
            let target = self.body.own_of_row(row).map_or(row, |own| own.row);
            let i = digests.binary_search_by_key(&target, |d| d.0).unwrap_or(0);
            (tensor.name.as_str(), digests.get(i).map_or(Digest([0; 32]), |d| d.1))
        });
        let mut files = Vec::with_capacity(manifest.files.len());
        for (i, file) in manifest.files.iter().enumerate() {
            files.push((file.name.as_str(), Digest::of(Role::File, &self.body.file(i)?)));
        }
        let rows: Vec<_> = rows.collect();
        let found = content::content_id(&manifest.base, manifest.gain, &rows, &files);
        if found.0 == self.body.manifest.content {
            return Ok(());
        }
        let detail = format!("content id is {found}, the manifest says {}", Digest(self.body.manifest.content));
        self.body.locate(Err(Error::malformed("CID-1", "content", detail)))
    }

    /// Matches the pack to a base: every touched tensor by name, dtype, shape and digest, and the whole checkpoint where all of
    /// it was read.
    ///
    /// # Errors
    /// `BaseMismatch`, with up to five tensors and a diagnosis.
    pub fn bind(self, base: &BaseIdentity) -> Result<BoundPack> {
        diagnose::compare(&self.body, base)?;
        Ok(BoundPack::new(self.body))
    }
}

fn delta_content(body: &Body, own: &Own) -> Result<Digest> {
    let table = body.table(own)?;
    let mut content = DeltaContent::new(&own.info, own.kind, own.base, &table);
    let mut delta = BlockDelta::default();
    walk(body, own, &table, |block_start, row_block| {
        row_block(&mut delta)?;
        content.add(&content::leaves(block_start, &delta, content.width()));
        Ok(())
    })?;
    Ok(content.finish())
}

/// Calls `visit(first unit, decoder)` for every block of a delta that keeps any, in order.
pub(crate) fn walk(
    body: &Body,
    own: &Own,
    table: &Table,
    mut visit: impl FnMut(u64, &dyn Fn(&mut BlockDelta) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let mut start = 0u64;
    for (i, row) in (0u64..).zip(&table.blocks) {
        if row.kept > 0 {
            let unit = i.checked_shl(body.manifest.block_log2.into()).unwrap_or(u64::MAX);
            visit(unit, &|delta| body.block(own, i, row, start, delta))?;
        }
        start = start.saturating_add(row.payload_len());
    }
    Ok(())
}
