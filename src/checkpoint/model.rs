//! A checkpoint as a model.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::cache;
use crate::checkpoint::layout::{Layout, LayoutFile};
use crate::checkpoint::reader::Checkpoint;
use crate::checkpoint::shard::{Shard, find};
use crate::checkpoint::source::ModelSource;
use crate::error::Result;
use crate::io::{self, ReadAt};
use crate::model::digest::Digest;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;

impl Checkpoint {
    /// The weight files, the index where there is one, and the files beside them: what no output may replace.
    pub(crate) fn own_paths(&self) -> Vec<PathBuf> {
        let weights = self.shards.iter().filter_map(|shard| shard.bytes.path().map(Path::to_owned));
        let index = self.index.iter().map(|index| self.root.join(&index.name));
        weights.chain(index).chain(self.companions.paths()).collect()
    }

    /// Fails where a file was changed since it was opened, as far as that shows.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.shards.iter().try_for_each(Shard::check_unchanged)
    }

    /// Units `start..start + len` of a tensor as a range of its bytes.
    fn byte_range(&self, name: &str, start: u64, len: u64) -> Range<u64> {
        let unit = self.tensor(name).map_or(1, |info| info.dtype.unit_bytes() as u64);
        start.saturating_mul(unit)..start.saturating_add(len).saturating_mul(unit)
    }
}

impl TensorSource for Checkpoint {
    fn units(&self, name: &str, start: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        self.bytes(name, self.byte_range(name, start, len))
    }
}

impl From<Checkpoint> for Arc<dyn ModelSource> {
    fn from(checkpoint: Checkpoint) -> Self {
        Arc::new(checkpoint)
    }
}

impl ModelSource for Checkpoint {
    fn infos(&self) -> Vec<&TensorInfo> {
        self.tensors().collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor(name)
    }

    /// Bytes that are needed `once` are read by a system call: mapped, each page of them would have to be entered in a table and
    /// taken out again.
    fn copy_units(&self, name: &str, start: u64, out: &mut [u8], once: bool) -> Result<()> {
        let start = self.byte_range(name, start, 0).start;
        let (source, place) = self.place_of(name, &(start..start.saturating_add(out.len() as u64)))?;
        let at = place.offset + start;
        match source.mapped() {
            Some(_) if !once || source.file().is_none() => {
                out.copy_from_slice(&io::bytes(source, at..at + out.len() as u64)?);
                Ok(())
            }
            _ => io::read_into(source, at, out),
        }
    }

    fn will_need(&self, tensors: &[&str]) {
        let mut by_file: BTreeMap<usize, Vec<Range<u64>>> = BTreeMap::new();
        for place in tensors.iter().filter_map(|name| find(&self.tensors, name)) {
            by_file.entry(place.file).or_default().push(place.offset..place.offset + place.info.byte_len());
        }
        for (file, ranges) in by_file {
            if let Some(shard) = self.shards.get(file) {
                shard.bytes.will_need(&io::joined(ranges.into_iter()));
            }
        }
    }

    fn place(&self, name: &str) -> Option<(&File, u64)> {
        let place = find(&self.tensors, name)?;
        Some((self.shards.get(place.file)?.bytes.file()?, place.offset))
    }

    fn remembered(&self) -> Vec<Option<Digest>> {
        let load = |shard: &Shard| cache::load(&shard.bytes.stamp()?, shard.order.len());
        let by_file: Vec<Option<Vec<Digest>>> = self.shards.iter().map(load).collect();
        let digest = |file: usize, number: usize| by_file.get(file)?.as_ref()?.get(number).copied();
        self.tensors.iter().map(|place| digest(place.file, place.number)).collect()
    }

    fn remember(&self, digests: &[Option<Digest>]) {
        for (i, shard) in self.shards.iter().enumerate() {
            let rows = self.tensors.iter().zip(digests).filter(|(place, _)| place.file == i);
            let mut own: Vec<_> = rows.filter_map(|(place, digest)| Some((place.number, (*digest)?))).collect();
            own.sort_unstable_by_key(|(number, _)| *number);
            if let (true, Some(stamp)) = (own.len() == shard.order.len(), shard.bytes.stamp()) {
                cache::store(&stamp, &own.into_iter().map(|(_, digest)| digest).collect::<Vec<_>>());
            }
        }
    }

    fn layout(&self) -> Result<Layout> {
        let file = |shard: &Shard| LayoutFile {
            name: shard.name.clone(),
            head: shard.head.clone(),
            metadata: shard.metadata.clone(),
            tensors: shard.order.iter().map(|info| (**info).clone()).collect(),
        };
        let index = self.index.as_ref().map(|index| (index.name.clone(), index.bytes.clone()));
        Ok(Layout { is_folder: self.is_folder, files: self.shards.iter().map(file).collect(), index })
    }

    fn weight_bytes(&self) -> Result<u64> {
        Ok(self.file_bytes())
    }

    fn metadata(&self) -> Vec<(&str, &str)> {
        Checkpoint::metadata(self).collect()
    }

    fn has_companions(&self) -> bool {
        self.is_folder
    }

    fn companion_names(&self) -> Result<Vec<String>> {
        self.companions.names()
    }

    fn companion(&self, name: &str) -> Result<Arc<dyn ReadAt>> {
        self.companions.open(name)
    }

    fn input_paths(&self) -> Vec<PathBuf> {
        self.own_paths()
    }

    fn unchanged(&self) -> Result<()> {
        self.check_unchanged()
    }
}
