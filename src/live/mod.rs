//! Tensors in memory that go from one set of packs to another by writing only what either set keeps.
//!
//! Staging decodes, checks and computes; it takes the time and it is what can fail. Committing only writes, in the order of
//! addresses. A staged set does not depend on what the tensors hold, so that it can be committed again and again: each set
//! brings the base's bytes along, and whatever set comes after it begins by putting them back. Nothing is ever subtracted.

pub(crate) mod stage;
mod staged;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::checkpoint::ModelSource;
use crate::error::{Error, Escaped, Result};
use crate::merge::StitchedModel;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

pub use staged::{Staged, Update};

/// Bytes of a tensor that are filled together.
const PIECE: usize = 1 << 20;

/// The tensors of a running process: a base with a set of packs on it, and then with another.
///
/// After any commits the bytes are those of a [`StitchedModel`] that is built anew with the packs, weights, rule and λ of the
/// last one. In memory it holds the set in play (see [`Staged::memory`]) and, of the tensors, nothing but the borrow.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use stitchpack::{Checkpoint, Layer, Live, MergeOptions, OpenedPack, StitchedModel, Workers};
/// # use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
/// # let folder = tempfile::tempdir()?;
/// # let path = |name: &str| folder.path().join(name);
/// # let bytes_of = |values: [f32; 4]| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() };
/// # let write = |name: &str, values: [f32; 4]| {
/// #     let bytes = bytes_of(values);
/// #     let view = TensorView::new(Dtype::F32, vec![2, 2], &bytes).unwrap();
/// #     serialize_to_file([("weight", view)], None, &path(name)).unwrap();
/// # };
/// # write("base.safetensors", [1.0, 2.0, 3.0, 4.0]);
/// # write("tuned.safetensors", [1.0, 2.5, 3.0, 4.0]);
/// # let exact = stitchpack::CreateOptions { method: stitchpack::create::Method::Exact, ..Default::default() };
/// # let opened = |name| Checkpoint::open(path(name));
/// # stitchpack::create(&opened("base.safetensors")?, &opened("tuned.safetensors")?, &path("code.stitch"), &exact)?;
/// let base = Checkpoint::open(path("base.safetensors"))?;
/// let workers = Workers::default();
/// let mut weight = vec![0; 16];
/// let mut live = Live::new(&base, [("weight", &mut weight[..])], &workers)?;
///
/// let pack = OpenedPack::open(path("code.stitch"))?.verify()?.bind(&base.identity(&workers)?)?;
/// let model = StitchedModel::new(&base, vec![Layer { pack, weight: 1.0 }], &MergeOptions::default())?;
/// let code = Arc::new(live.stage(&model, &workers)?);
/// for update in code.updates(live.held()) {
///     assert_eq!((update.tensor.name.as_str(), &update.positions[..]), ("weight", &[1][..]));
/// }
/// live.commit(code.clone())?;
/// # assert_eq!(live.tensor("weight"), Some(&bytes_of([1.0, 2.5, 3.0, 4.0])[..]));
/// live.clear(); // the base again
/// # assert_eq!(live.tensor("weight"), Some(&bytes_of([1.0, 2.0, 3.0, 4.0])[..]));
/// live.commit(code)?; // nothing is computed a second time
/// # assert_eq!(live.tensor("weight"), Some(&bytes_of([1.0, 2.5, 3.0, 4.0])[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Live<'a> {
    base: &'a dyn ModelSource,
    tensors: BTreeMap<&'a str, (&'a TensorInfo, &'a mut [u8])>,
    held: Option<Arc<Staged<'a>>>,
}

impl<'a> Live<'a> {
    /// Takes tensors by name, each as long as in the base, and fills them with the base's bytes. They need not be all of the
    /// base's; then no set may touch the others.
    ///
    /// # Errors
    /// `InvalidInput` for a tensor that the base lacks, that is named twice or that has another length; `Io`. After an error
    /// the tensors may hold anything.
    pub fn new<'n>(
        base: &'a dyn ModelSource,
        tensors: impl IntoIterator<Item = (&'n str, &'a mut [u8])>,
        workers: &Workers,
    ) -> Result<Self> {
        let mut live = Self::holding_base(base, tensors)?;
        live.fill(workers)?;
        Ok(live)
    }

    /// Takes tensors that hold the base's bytes already: what they hold is believed, not read.
    ///
    /// # Errors
    /// `InvalidInput` as [`Live::new`].
    pub fn holding_base<'n>(
        base: &'a dyn ModelSource,
        tensors: impl IntoIterator<Item = (&'n str, &'a mut [u8])>,
    ) -> Result<Self> {
        let mut own = BTreeMap::new();
        for (name, bytes) in tensors {
            let bad = |why: String| Error::InvalidInput(format!("live tensor \"{}\" {why}", Escaped(name)));
            let info = base.info(name).ok_or_else(|| bad("is not in the base".into()))?;
            if bytes.len() as u64 != info.byte_len() {
                return Err(bad(format!("has {} bytes, must have {}", bytes.len(), info.byte_len())));
            }
            if own.insert(info.name.as_str(), (info, bytes)).is_some() {
                return Err(bad("is named twice".into()));
            }
        }
        Ok(Live { base, tensors: own, held: None })
    }

    fn fill(&mut self, workers: &Workers) -> Result<()> {
        self.base.will_need(&self.tensors.keys().copied().collect::<Vec<_>>());
        let mut pieces = Vec::new();
        for (name, (_, bytes)) in &mut self.tensors {
            pieces.extend(bytes.chunks_mut(PIECE).enumerate().map(|(i, piece)| (*name, i, Mutex::new(piece))));
        }
        let len_of = |piece: &Mutex<&mut [u8]>| piece.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        workers.progress().stage("loading", pieces.iter().map(|(.., piece)| len_of(piece)).sum());
        workers.for_each(
            pieces.len(),
            || (),
            |(), i| {
                let Some((name, number, piece)) = pieces.get(i) else { return Ok(()) };
                let mut piece = piece.lock().unwrap_or_else(PoisonError::into_inner);
                let unit = self.base.info(name).map_or(1, |info| info.dtype.unit_bytes());
                self.base.copy_units(name, (number * PIECE / unit) as u64, &mut piece, false)?;
                workers.progress().advance(piece.len() as u64);
                Ok(())
            },
        )?;
        self.base.unchanged()
    }

    /// The bytes of a tensor as they are.
    pub fn tensor(&self, name: &str) -> Option<&[u8]> {
        self.tensors.get(name).map(|(_, bytes)| &**bytes)
    }

    /// The set in play; none where the tensors hold the base.
    pub fn held(&self) -> Option<&Staged<'a>> {
        self.held.as_deref()
    }

    /// Computes what a model has where its packs keep anything, in blocks that all threads share. The tensors stay as they
    /// are and can be read meanwhile.
    ///
    /// # Errors
    /// `InvalidInput` for a model on another checkpoint, and for a tensor that is touched but not here; `Refused` for a set
    /// that carries a tensor which the base lacks or has in another shape, for an overlap under `refuse`, and for finite
    /// elements that would become infinite or NaN; `DigestMismatch` or `Malformed` for a damaged pack; `Io`.
    pub fn stage(&self, model: &StitchedModel, workers: &Workers) -> Result<Staged<'a>> {
        let touched = self.base.infos().into_iter().filter(|t| model.touches(&t.name));
        touched.map(|t| &t.name).try_for_each(|name| self.check_has(name))?;
        Staged::of(self.base, model, workers)
    }

    fn check_has(&self, name: &str) -> Result<()> {
        if self.tensors.contains_key(name) {
            return Ok(());
        }
        Err(Error::InvalidInput(format!("tensor \"{}\" is touched, but is not among the live tensors", Escaped(name))))
    }

    /// Puts a staged set in the place of the one in play. Only writes: what either set keeps, each block's in the order of
    /// addresses.
    ///
    /// # Errors
    /// None for a set that this value staged. `InvalidInput`, before anything is written, for one of another base or with
    /// tensors that are not here.
    pub fn commit(&mut self, staged: impl Into<Arc<Staged<'a>>>) -> Result<()> {
        let staged = staged.into();
        if !std::ptr::addr_eq(staged.base, self.base) {
            return Err(Error::InvalidInput("the set was staged on another checkpoint than the live tensors".into()));
        }
        staged.tensors.keys().try_for_each(|name| self.check_has(name))?;
        self.write(Some(&staged));
        self.held = Some(staged);
        Ok(())
    }

    /// Takes the set in play out: the tensors hold the base's bytes. Only writes.
    pub fn clear(&mut self) {
        self.write(None);
        self.held = None;
    }

    fn write(&mut self, next: Option<&Staged>) {
        let held = self.held.as_deref();
        for (name, (info, bytes)) in &mut self.tensors {
            let (old, new) = (Staged::blocks_of(held, name), Staged::blocks_of(next, name));
            staged::write_tensor(info.dtype.unit_bytes(), old, new, bytes);
        }
    }
}
