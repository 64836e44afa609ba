//! One tensor, block by block: encoded, and hashed for the two digests that a row has.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use crate::codec::block::{self, Effort, Frame};
use crate::create::encode::source::{Inputs, Loaded, Source, Units};
use crate::create::fit::Fit;
use crate::create::spans::cut;
use crate::error::{Error, Result};
use crate::format::table::Table;
use crate::model::delta::{StepBlock, ValueKind};
use crate::model::digest::{Digest, TensorDigester};
use crate::model::tensor::TensorInfo;
use crate::pack::content::{self, DeltaContent};
use crate::pack::writer::row_of;
use crate::parallel::Workers;

/// How the blocks of one tensor are encoded.
pub(super) struct TensorEncoder<'a> {
    pub inputs: Inputs<'a>,
    pub source: Source<'a>,
    pub fit: Option<&'a Fit>,
    pub effort: Effort,
    pub workers: &'a Workers,
}

/// What became of a tensor.
pub(super) struct Done {
    /// Scales, levels and the rows of its blocks.
    pub table: Table,
    pub kept: u64,
    pub payload_len: u64,
    /// Whether any block is coded by class.
    pub by_class: bool,
    content: DeltaContent,
    pieces: Vec<[u8; 32]>,
}

/// Memory that is used for one block after another: new pages for each would cost as much as a tenth of the rest.
#[derive(Default)]
struct Buffers {
    steps: StepBlock,
    leaves: Vec<u8>,
}

/// One block, encoded, with what is hashed of it.
struct BlockDone {
    block: block::Encoded,
    kept: usize,
    pieces: Vec<[u8; 32]>,
    buffers: Buffers,
}

impl TensorEncoder<'_> {
    /// Encodes all blocks, and hands each to `write` in order.
    pub fn run(&self, mut write: impl FnMut(&block::Encoded) -> Result<()>) -> Result<Done> {
        let mut done = self.begin();
        let width = done.content.width();
        let blocks: Vec<(u64, u64)> = cut(self.info().units()).collect();
        let spare: Mutex<Vec<Buffers>> = Mutex::default();
        let lock = || spare.lock().unwrap_or_else(PoisonError::into_inner);
        self.workers.in_order(
            blocks.len(),
            |i| {
                let at = *blocks.get(i).ok_or_else(|| Error::Internal(format!("no block {i}")))?;
                let buffers = lock().pop().unwrap_or_default();
                self.block(i, at, width, buffers)
            },
            |_, block| {
                write(&block.block)?;
                done.add(&block);
                lock().push(block.buffers);
                Ok(())
            },
        )?;
        Ok(done)
    }

    fn begin(&self) -> Done {
        let mut table = Table::default();
        if let Source::Lossy(pair, _) = self.source {
            let quantizer = self.inputs.quantizer;
            (table.scales, table.levels) = (quantizer.scales(pair), quantizer.levels(pair));
        }
        let content = DeltaContent::new(self.info(), self.kind(), self.source.base(), &table);
        Done { table, kept: 0, payload_len: 0, by_class: false, content, pieces: Vec::new() }
    }

    fn info(&self) -> &TensorInfo {
        self.source.info()
    }

    fn kind(&self) -> ValueKind {
        self.inputs.kind(self.source)
    }

    /// Encodes block `i`; codes have `width` bytes where they are hashed.
    fn block(&self, i: usize, at: (u64, u64), width: usize, mut buffers: Buffers) -> Result<BlockDone> {
        let (start, len) = at;
        let (info, kind) = (self.info(), self.kind());
        let loaded = self.inputs.read(self.source, i, at, buffers.steps)?;
        let pieces = self.pieces(start, &self.result(start, &loaded)?);
        let Loaded { units, base, .. } = loaded;
        match &units {
            Units::List(delta) => buffers.leaves = content::leaves(start, delta, width),
            Units::Steps(steps) => content::leaves_of_steps(start, steps, &mut buffers.leaves),
        }
        let found = units.found();
        let rows = self.fit.map_or(Vec::new(), |fit| fit.rows(info, kind, at, found, &base));
        let frame = Frame { info, kind, start, len: len as u32, coder: self.fit.map(|f| &f.coder), base: &base };
        let block = block::encode(&frame, found, &rows, self.effort);
        self.workers.progress().advance(len * info.dtype.unit_bytes() as u64);
        let kept = found.kept();
        buffers.steps = match units {
            Units::Steps(steps) => steps,
            Units::List(_) => StepBlock::default(),
        };
        Ok(BlockDone { block, kept, pieces, buffers })
    }

    /// The bytes of a block when the pack is applied alone.
    fn result<'b>(&self, start: u64, loaded: &'b Loaded) -> Result<Cow<'b, [u8]>> {
        match (self.source, &loaded.units) {
            (Source::Lossy(index, pair), Units::List(delta)) => {
                Ok(Cow::Owned(self.inputs.outcome(index, pair, start, &loaded.base, delta)?))
            }
            (Source::Lossy(..), Units::Steps(_)) => Err(Error::Internal("a lossy delta of steps".into())),
            _ => Ok(Cow::Borrowed(&loaded.tuned)),
        }
    }

    /// Digests of the pieces in the bytes of a block.
    fn pieces(&self, start: u64, bytes: &[u8]) -> Vec<[u8; 32]> {
        let digester = TensorDigester::new(self.info().byte_len());
        let first = start * self.info().dtype.unit_bytes() as u64 / TensorDigester::PIECE;
        let pieces = bytes.chunks(TensorDigester::PIECE as usize).zip(first..);
        pieces.map(|(bytes, number)| digester.piece(number, bytes)).collect()
    }
}

impl Done {
    fn add(&mut self, block: &BlockDone) {
        self.content.add(&block.buffers.leaves);
        self.pieces.extend(&block.pieces);
        let row = row_of(&block.block, block.kept);
        self.by_class |= block::is_by_class(row.mask_codec, row.value_codec);
        self.kept += u64::from(row.kept);
        self.payload_len += row.payload_len();
        self.table.blocks.push(row);
    }

    /// The digest of the delta's content, and of the tensor's bytes when the pack is applied alone.
    pub fn digests(&self, info: &TensorInfo) -> (Digest, Digest) {
        let digester = TensorDigester::new(info.byte_len());
        let result = match self.pieces.as_slice() {
            [] => digester.finish(&[digester.piece(0, &[])]),
            pieces => digester.finish(pieces),
        };
        (self.content.finish(), result)
    }
}
