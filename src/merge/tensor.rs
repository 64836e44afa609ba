//! One tensor of a stitched model, computed a run of units at a time.

use std::borrow::Cow;

use crate::error::{Error, Escaped, Result};
use crate::merge::model::StitchedModel;
use crate::method::float::{Element, Real, load_unit, with_element};
use crate::method::quantize::dequantize;
use crate::method::step::{apply_short_steps, apply_step, apply_steps};
use crate::method::stitch::signs::{CACHED, SignPart, SignScratch, are_listed, stitch_signs};
use crate::method::stitch::{Met, OverlapRule, Part, stitch};
use crate::model::delta::{BlockDelta, SignBlock, StepBlock, ValueKind, list_bits};
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::pack::bound::DeltaBlocks;

/// What one layer brings to a tensor.
#[derive(Debug)]
pub(super) struct LayerDelta<'a> {
    /// Its place among the layers of the model.
    pub number: usize,
    pub blocks: DeltaBlocks<'a>,
    pub weight: f32,
    pub gain: f32,
}

/// One tensor of a stitched model, ready to be computed.
#[derive(Debug)]
pub(crate) struct TensorStitcher<'a> {
    pub(super) model: &'a StitchedModel<'a>,
    /// The same tensor of the model below, where packs touch it there.
    pub(super) below: Option<Box<TensorStitcher<'a>>>,
    pub(super) info: &'a TensorInfo,
    pub(super) deltas: Vec<LayerDelta<'a>>,
    pub(super) carried: bool,
}

/// Buffers that are used again from block to block.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    block: BlockDelta,
    layers: Vec<LayerRun>,
    form: Form,
    signs: SignScratch,
    /// Whether the base is passed once, from its beginning to its end.
    once: bool,
    below: Option<Box<Scratch>>,
}

impl Scratch {
    /// For a base that is passed once.
    pub fn once() -> Self {
        Scratch { once: true, ..Scratch::default() }
    }

    fn below_with(&mut self) -> &mut Scratch {
        let below = self.below.get_or_insert_default();
        below.once = self.once;
        below
    }
}

/// The form in which the layers of a run are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Form {
    #[default]
    Lists,
    /// All of them are signs, one block of each.
    Signs,
    /// Steps of 16 bits, which are all that happens.
    Steps,
}

/// What one layer brings to a run: positions from its start and codes, and numbers once decoded; or bits.
#[derive(Debug, Default)]
pub(super) struct LayerRun {
    pub delta: BlockDelta,
    signs: SignBlock,
    steps: StepBlock,
    f32s: Vec<f32>,
    pub f64s: Vec<f64>,
}

/// Real numbers kept in the buffer of their width.
pub(super) trait Buffered: Real {
    fn of(run: &LayerRun) -> &[Self];
    fn of_mut(run: &mut LayerRun) -> &mut Vec<Self>;
}

impl Buffered for f32 {
    fn of(run: &LayerRun) -> &[f32] {
        &run.f32s
    }
    fn of_mut(run: &mut LayerRun) -> &mut Vec<f32> {
        &mut run.f32s
    }
}

impl Buffered for f64 {
    fn of(run: &LayerRun) -> &[f64] {
        &run.f64s
    }
    fn of_mut(run: &mut LayerRun) -> &mut Vec<f64> {
        &mut run.f64s
    }
}

impl TensorStitcher<'_> {
    /// The bytes of the merged tensor's units from `start`, as many as `out` holds.
    pub fn run(&self, start: u64, out: &mut [u8], scratch: &mut Scratch, met: &mut Met) -> Result<()> {
        self.ground(start, out, scratch, met)?;
        self.stitch(start, out, scratch, met)
    }

    /// The bytes that the packs of this link lie on: the first half of a run.
    pub fn ground(&self, start: u64, out: &mut [u8], scratch: &mut Scratch, met: &mut Met) -> Result<()> {
        match &self.below {
            _ if self.carried => out.fill(0),
            Some(below) => below.run(start, out, scratch.below_with(), met)?,
            None => {
                self.model.base().copy_units(&self.info.name, start, out, scratch.once)?;
            }
        }
        Ok(())
    }

    /// Puts the packs on what [`TensorStitcher::ground`] gave: the second half of a run.
    pub fn stitch(&self, start: u64, out: &mut [u8], scratch: &mut Scratch, met: &mut Met) -> Result<()> {
        let len = (out.len() / self.info.dtype.unit_bytes()) as u64;
        scratch.layers.resize_with(self.deltas.len(), LayerRun::default);
        let computed = Computed { stitcher: self, start, len, bytes: out };
        scratch.form = self.decode_bits(start, len, &computed, &mut scratch.layers)?;
        if scratch.form == Form::Lists {
            for (layer, run) in self.deltas.iter().zip(&mut scratch.layers) {
                layer.blocks.range(start, len, Some(&computed), &mut scratch.block, &mut run.delta)?;
            }
        }
        let dtype = self.info.dtype;
        let mut mine = Met::default();
        match scratch.form {
            Form::Signs => with_element!(dtype, E => self.stitch_bits::<E>(start, out, scratch, &mut mine), ()),
            Form::Steps => scratch.layers.iter().for_each(|run| apply_short_steps(dtype, out, &run.steps)),
            Form::Lists if self.only_steps() => {
                let lists = scratch.layers.iter().map(|run| &run.delta);
                lists.for_each(|list| apply_steps(dtype, out, &list.positions, &list.codes));
            }
            Form::Lists => with_element!(dtype, E => self.stitch_run::<E>(start, out, scratch, &mut mine), ()),
        }
        if let (Some(position), OverlapRule::Refuse) = (mine.overlap, self.model.rule) {
            return Err(Error::Refused(format!(
                "tensor \"{}\": packs overlap at position {}, which the rule refuse forbids",
                Escaped(&self.info.name),
                start + position
            )));
        }
        met.nonfinite += mine.nonfinite;
        met.overlap = met.overlap.or(mine.overlap);
        Ok(())
    }

    /// Decodes what every layer keeps of a run to bits, where there is such a form and the run is one block of each layer; which
    /// form it was.
    fn decode_bits(&self, start: u64, len: u64, ground: &dyn TensorSource, layers: &mut [LayerRun]) -> Result<Form> {
        let signs = !self.carried && self.deltas.iter().all(|l| l.blocks.kind() == ValueKind::Sign);
        if !signs && !self.only_steps() {
            return Ok(Form::Lists);
        }
        for (LayerDelta { blocks, .. }, run) in self.deltas.iter().zip(layers.iter_mut()) {
            let decoded = match signs {
                true => blocks.signs(start, len, Some(ground), &mut run.signs)?,
                false => blocks.steps(start, len, Some(ground), &mut run.steps)?,
            };
            if !decoded {
                return Ok(Form::Lists);
            }
        }
        // Positions are listed where all layers list them, and these are few.
        if signs && !are_listed(layers.iter().map(|run| &run.signs)) {
            layers.iter_mut().for_each(|run| run.signs.unlist(len as u32));
        }
        Ok(if signs { Form::Signs } else { Form::Steps })
    }

    /// The positions, from the start of the run that was stitched last with `scratch`, that any layer of any link of the chain
    /// keeps, ascending.
    pub fn kept(&self, scratch: &Scratch, out: &mut Vec<u32>) {
        out.clear();
        self.gather_kept(scratch, out);
        if !out.is_sorted_by(|a, b| a < b) {
            out.sort_unstable();
            out.dedup();
        }
    }

    fn gather_kept(&self, scratch: &Scratch, out: &mut Vec<u32>) {
        for run in scratch.layers.iter().take(self.deltas.len()) {
            match scratch.form {
                Form::Signs => {
                    out.extend_from_slice(&run.signs.positions);
                    list_bits(&run.signs.mask, out);
                }
                Form::Steps => list_bits(&run.steps.mask, out),
                Form::Lists => out.extend_from_slice(&run.delta.positions),
            }
        }
        if let (Some(below), Some(scratch)) = (&self.below, &scratch.below) {
            below.gather_kept(scratch, out);
        }
    }

    /// Whether all that is done here is to take steps: to units that nothing else can change, or by the only layer, as it was
    /// made. [STI-5] [STI-6]
    fn only_steps(&self) -> bool {
        let as_made = |l: &LayerDelta| l.is_step() && l.weight == 1.0 && l.gain == 1.0 && self.model.lambda == 1.0;
        self.carried || !self.info.dtype.is_float() || matches!(self.deltas.as_slice(), [only] if as_made(only))
    }

    /// Row by row where any layer has a scale a row; never more at once than stays in the nearest cache while every layer passes.
    fn stitch_bits<E: Element>(&self, start: u64, out: &mut [u8], scratch: &mut Scratch, met: &mut Met) {
        let (layers, how) = (&scratch.layers, (self.model.rule, self.model.lambda));
        let units = (out.len() / E::BYTES) as u64;
        let row_len = match self.deltas.iter().all(|l| l.blocks.only_scale().is_some()) {
            true => u64::MAX,
            false => self.info.row_len().max(1),
        };
        let mut parts: Vec<SignPart<E::Real>> =
            layers.iter().take(self.deltas.len()).map(|run| SignPart::new(&run.signs)).collect();
        let mut at = 0;
        while at < units {
            let end = (at + (row_len - (start + at) % row_len).min(CACHED as u64)).min(units);
            for (part, layer) in parts.iter_mut().zip(&self.deltas) {
                let scale = layer.blocks.scale_at(start + at);
                part.deltas = [0, 1].map(|code| layer.dequantizer::<E::Real>()(code, scale));
                part.weight = layer.weight;
            }
            stitch_signs::<E>(out, &mut parts, at as usize..end as usize, how, &mut scratch.signs, met);
            at = end;
        }
    }

    fn stitch_run<E: Element<Real: Buffered>>(&self, start: u64, out: &mut [u8], scratch: &mut Scratch, met: &mut Met) {
        for (layer, run) in self.deltas.iter().zip(&mut scratch.layers) {
            if layer.blocks.kind() == ValueKind::Step {
                layer.derive::<E>(self.info, out, run);
            } else {
                layer.dequantize::<E::Real>(start, run);
            }
        }
        let parts: Vec<Part<E::Real>> = self
            .deltas
            .iter()
            .zip(&scratch.layers)
            .map(|(layer, run)| Part {
                positions: &run.delta.positions,
                deltas: Buffered::of(run),
                bits: (layer.is_step() && layer.weight == 1.0 && layer.gain == 1.0 && self.model.lambda == 1.0)
                    .then_some(&run.delta.codes),
                weight: layer.weight,
            })
            .collect();
        stitch::<E>(out, &parts, self.model.rule, self.model.lambda, met);
    }
}

/// How many codes a kind has, where they are few.
fn codes_of(kind: ValueKind) -> u64 {
    match kind {
        ValueKind::Sign => 2,
        ValueKind::Int4 | ValueKind::Codebook => 16,
        ValueKind::Int8 => 256,
        ValueKind::Step | ValueKind::F32 | ValueKind::F16 | ValueKind::Bf16 => 0,
    }
}

/// A run of what the deltas lie on, which they may be coded with.
pub(super) struct Computed<'a> {
    pub stitcher: &'a TensorStitcher<'a>,
    pub start: u64,
    pub len: u64,
    pub bytes: &'a [u8],
}

impl TensorSource for Computed<'_> {
    fn units(&self, name: &str, start: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        let unit = self.stitcher.info.dtype.unit_bytes() as u64;
        // The name may be that of a tensor that shares its delta with this one: then both have the same bytes. [TEN-5]
        let inside = start >= self.start && start + len <= self.start + self.len;
        let from = start.saturating_sub(self.start) * unit;
        match self.bytes.get(from as usize..(from + len * unit) as usize) {
            Some(bytes) if inside => Ok(Cow::Borrowed(bytes)),
            // A run that cuts a block in two: rare, and made again.
            _ => self.stitcher.model.ground_units(name, start, len),
        }
    }
}

impl LayerDelta<'_> {
    pub fn is_step(&self) -> bool {
        self.blocks.kind() == ValueKind::Step
    }

    /// d = (w × g) × (code × scale), of a code and a scale. [STI-1]
    fn dequantizer<R: Real>(&self) -> impl Fn(u64, f32) -> R + use<R> {
        let factor = R::from_f32(self.weight).mul(R::from_f32(self.gain));
        let (kind, levels) = (self.blocks.kind(), self.blocks.levels());
        move |code, scale| factor.mul(dequantize::<R>(kind, code, scale, &levels))
    }

    pub fn dequantize<R: Buffered>(&self, start: u64, run: &mut LayerRun) {
        let delta_of = self.dequantizer::<R>();
        let mut numbers = std::mem::take(R::of_mut(run));
        numbers.clear();
        let units = run.delta.positions.iter().zip(&run.delta.codes);
        match self.blocks.only_scale() {
            Some(scale) => {
                let number = |code: u64| delta_of(code, scale);
                // Few codes: each is computed once.
                let known: Vec<R> = (0..codes_of(self.blocks.kind())).map(number).collect();
                let codes = run.delta.codes.iter();
                numbers.extend(codes.map(|c| known.get(*c as usize).copied().unwrap_or_else(|| number(*c))));
            }
            None => numbers.extend(units.map(|(p, code)| delta_of(*code, self.blocks.scale_at(start + u64::from(*p))))),
        }
        *R::of_mut(run) = numbers;
    }

    /// Turns steps into the fine-tuned bits, and d = (w × g) × (fine-tuned − base). [STI-6]
    pub fn derive<E: Element<Real: Buffered>>(&self, info: &TensorInfo, base: &[u8], run: &mut LayerRun) {
        let factor = E::Real::from_f32(self.weight).mul(E::Real::from_f32(self.gain));
        let mut numbers = std::mem::take(E::Real::of_mut(run));
        numbers.clear();
        for (p, code) in run.delta.positions.iter().zip(&mut run.delta.codes) {
            let at = *p as usize * E::BYTES;
            let bits = load_unit(base.get(at..at + E::BYTES).unwrap_or(&[]));
            *code = apply_step(info.dtype, bits, *code);
            numbers.push(factor.mul(E::decode(*code).sub(E::decode(bits))));
        }
        *E::Real::of_mut(run) = numbers;
    }
}
