//! What adds up over the tensors of a pack.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::format::header::{HEADER_LEN, Header};
use crate::format::manifest::{DeltaRow, Manifest};
use crate::format::table::scale_count;
use crate::method::quantize::dequantize;
use crate::method::step::signed;
use crate::model::codec::MaskCodec;
use crate::model::delta::{BlockDelta, LEVELS, ValueKind};
use crate::model::dtype::Dtype;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::pack::bound::DeltaBlocks;
use crate::report::inspect::report::{Bytes, Cost, Distribution, NamedBytes, TensorReport, Totals};
use crate::report::inspect::spread::{Magnitudes, Steps};

/// Bytes of a digest.
const DIGEST: u64 = 32;

/// What adds up over the tensors.
pub(crate) struct Count {
    gain: f64,
    totals: Totals,
    /// Kept elements of float tensors.
    kept_floats: u64,
    /// Σ n·H(p) over the tensors, in bits.
    entropy: f64,
    masks: BTreeMap<MaskCodec, u64>,
    /// By (carried, kind).
    values: BTreeMap<(bool, ValueKind), u64>,
    scales_decoded: u64,
    magnitudes: Magnitudes,
    steps: Steps,
    not_decoded: u64,
}

impl Count {
    pub fn new(gain: f64) -> Self {
        Count {
            gain,
            totals: Totals::default(),
            kept_floats: 0,
            entropy: 0.0,
            masks: BTreeMap::new(),
            values: BTreeMap::new(),
            scales_decoded: 0,
            magnitudes: Magnitudes::new(),
            steps: Steps::new(),
            not_decoded: 0,
        }
    }

    /// Decodes a delta of its own, and completes its report.
    pub fn delta(
        &mut self,
        base: Option<&dyn TensorSource>,
        blocks: &DeltaBlocks<'_>,
        report: &mut TensorReport,
    ) -> Result<()> {
        let own = blocks.own();
        let (info, groups, carried, kind) = (&own.info, own.groups, own.base.is_none(), own.kind);
        let decodes = !carried && (base.is_some() || !blocks.needs_base());
        self.not_decoded += u64::from(!carried && !decodes);
        let mut delta = BlockDelta::default();
        for i in 0..blocks.len() {
            let Some(row) = blocks.row(i).filter(|row| row.kept > 0) else { continue };
            let (mask_len, values_len) = (u64::from(row.mask_len), u64::from(row.values_len));
            *self.masks.entry(row.mask_codec).or_default() += mask_len;
            *self.values.entry((carried, kind)).or_default() += values_len;
            report.mask_bytes += mask_len;
            report.value_bytes += values_len;
            if decodes {
                blocks.decode(i, base, &mut delta)?;
                self.sizes(info.dtype, blocks, blocks.start_of(i), &delta);
            }
        }
        report.scales = scale_count(info, kind, groups);
        report.mean_scale = mean_scale(info, report.scales, blocks);
        let levels = if kind == ValueKind::Codebook { LEVELS as u64 } else { 0 };
        self.scales_decoded += (report.scales + levels) * 4;
        Ok(())
    }

    /// Counts the sizes of the deltas of one block.
    fn sizes(&mut self, dtype: Dtype, blocks: &DeltaBlocks<'_>, start: u64, delta: &BlockDelta) {
        let (kind, levels) = (blocks.kind(), blocks.levels());
        if kind == ValueKind::Step {
            delta.codes.iter().for_each(|code| self.steps.add(signed(dtype, *code)));
            return;
        }
        for (position, code) in delta.positions.iter().zip(&delta.codes) {
            let scale = blocks.scale_at(start + u64::from(*position));
            let x = if dtype == Dtype::F64 {
                dequantize::<f64>(kind, *code, scale, &levels)
            } else {
                dequantize::<f32>(kind, *code, scale, &levels).into()
            };
            self.magnitudes.add(x * self.gain);
        }
    }

    /// Adds what a report says to the totals.
    pub fn totals(&mut self, report: &TensorReport, dtype: Dtype) {
        let totals = &mut self.totals;
        totals.tensors += 1;
        totals.carried += u64::from(report.carried);
        if report.same_as.is_some() {
            totals.same_as += 1;
        } else if report.carried {
            totals.carried_units += report.units;
        } else {
            totals.kept += report.kept;
            totals.units += report.units;
            self.kept_floats += if dtype.is_float() { report.kept } else { 0 };
            self.entropy += report.units as f64 * report.density.map_or(0.0, entropy);
        }
    }

    /// The whole pack in a few numbers.
    pub fn finish_totals(&self, candidates: u64) -> Totals {
        let density = share(self.kept_floats, candidates);
        Totals { candidates, density, ..self.totals.clone() }
    }

    /// Where the bytes went, after all deltas were counted.
    pub fn bytes(&self, manifest: &Manifest, header: &Header) -> Bytes {
        let digests = digest_bytes(manifest, header);
        let named = |name: &str, bytes: u64| NamedBytes { name: name.into(), bytes };
        let values = self
            .values
            .iter()
            .map(|((carried, kind), bytes)| named(if *carried { "carried" } else { kind.name() }, *bytes));
        Bytes {
            file: header.file_len,
            header: HEADER_LEN as u64,
            masks: self.masks.iter().map(|(codec, bytes)| named(codec.name(), *bytes)).collect(),
            values: values.collect(),
            tables: manifest.tables.iter().map(|section| section.len).sum(),
            files: manifest.files.iter().map(|file| file.section.len).sum(),
            manifest: u64::from(header.manifest_len) - digests,
            digests,
            padding: 0,
            scales_decoded: self.scales_decoded,
        }
    }

    /// What a kept weight costs, after all deltas were counted.
    pub fn cost(&self, bytes: &Bytes, candidates: u64) -> Cost {
        let kept = self.totals.kept;
        let bits = |bytes: u64| share(bytes * 8, kept);
        let carried = self.values.iter().filter(|((carried, _), _)| *carried).map(|(_, bytes)| bytes).sum::<u64>();
        let density = share(self.kept_floats, candidates).filter(|p| *p > 0.0);
        Cost {
            mask: bits(bytes.mask_bytes()),
            values: bits(bytes.value_bytes() - carried),
            tables: bits(bytes.tables),
            rest: bits(bytes.header + bytes.manifest + bytes.digests),
            floor_one_density: density.map(|p| entropy(p) / p),
            floor_by_tensor: (kept > 0).then(|| self.entropy / kept as f64),
        }
    }

    /// The distribution of magnitudes.
    pub fn magnitudes(&self) -> Distribution<f64> {
        self.magnitudes.finish()
    }

    /// Deltas that would have needed the base.
    pub fn not_decoded(&self) -> u64 {
        self.not_decoded
    }

    /// The distribution of steps.
    pub fn steps(&self) -> Distribution<u64> {
        self.steps.finish()
    }
}

/// Bytes of the manifest that are digests. No compression shrinks one, but it stores equal ones once.
fn digest_bytes(manifest: &Manifest, header: &Header) -> u64 {
    let own = manifest.tensors.iter().filter_map(|t| match t.delta {
        DeltaRow::Own(own) => own.base.as_ref(),
        DeltaRow::SameAs(_) => None,
    });
    let sections = manifest.payloads.iter().chain(&manifest.tables).chain(manifest.files.iter().map(|f| &f.section));
    let whole = [&manifest.base, &manifest.content].into_iter().chain(&manifest.result);
    let all = || own.chain(sections.map(|s| &s.digest)).chain(whole);
    let is_plain = header.manifest_len == header.manifest_raw_len;
    let count = if is_plain { all().count() } else { all().collect::<BTreeSet<_>>().len() };
    // What is no real digest could be compressed after all.
    (count as u64 * DIGEST).min(header.manifest_len.into())
}

fn mean_scale(info: &TensorInfo, scales: u64, blocks: &DeltaBlocks<'_>) -> Option<f64> {
    let all = (0..scales).map(|group| f64::from(blocks.scale_at(group * info.row_len())));
    let (n, sum) = all.filter(|scale| *scale > 0.0).fold((0u64, 0.0), |(n, sum), scale| (n + 1, sum + scale));
    (n > 0).then(|| sum / n as f64)
}

/// H(p) in bits.
fn entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    term(p) + term(1.0 - p)
}

/// `None` where there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
