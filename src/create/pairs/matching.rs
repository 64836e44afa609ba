//! Each tensor of the fine-tuned checkpoint with its partner in the base, or what becomes of it without one.

use crate::checkpoint::ModelSource;
use crate::create::options::{CreateOptions, NewTensors};
use crate::create::pairs::globs::Chosen;
use crate::create::pairs::pair::Pair;
use crate::error::{Error, Escaped, Result};
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;

/// What became of the tensors that take part.
#[derive(Default)]
pub(super) struct Matched {
    pub pairs: Vec<Pair>,
    /// Tensors of the fine-tuned checkpoint that have no partner of their shape.
    new: Vec<TensorInfo>,
    /// Pairs of dtypes that do not go together, described.
    odd: Vec<String>,
    pub excluded: usize,
}

impl Matched {
    pub fn of(fine_tuned: &dyn ModelSource, identity: &BaseIdentity, chosen: &Chosen, cast: bool) -> Result<Self> {
        let mut this = Matched::default();
        for tuned in fine_tuned.infos() {
            if chosen.includes(&tuned.name) {
                this.add(tuned, identity, cast)?;
            } else {
                this.excluded += 1;
            }
        }
        if this.odd.is_empty() {
            return Ok(this);
        }
        let hint = "--cast rounds the fine-tuned values to the base's dtype where both are floats";
        Err(Error::Refused(format!("{}; {hint}", listed("the dtype differs", &this.odd))))
    }

    fn add(&mut self, tuned: &TensorInfo, identity: &BaseIdentity, cast: bool) -> Result<()> {
        let Some((info, digest)) = identity.tensor(&tuned.name).filter(|(info, _)| info.shape == tuned.shape) else {
            self.new.push(tuned.clone());
            return Ok(());
        };
        let castable = cast && info.dtype.is_float() && tuned.dtype.is_float();
        if info.dtype != tuned.dtype && !castable {
            let name = Escaped(&info.name);
            let (base, fine_tuned) = (info.dtype, tuned.dtype);
            self.odd.push(format!("\"{name}\" is {base} in the base and {fine_tuned} in the fine-tuned checkpoint"));
            return Ok(());
        }
        let digest = digest.ok_or_else(|| Error::Internal("a base tensor without a digest".into()))?;
        let cast_from = (info.dtype != tuned.dtype).then_some(tuned.dtype);
        self.pairs.push(Pair { info: info.clone(), digest, cast_from, same_as: None });
        Ok(())
    }

    /// Whether no tensor takes part, on whatever side.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.new.is_empty()
    }

    /// What is carried and what is left out of the tensors without a partner; refuses them where nothing else was said.
    pub fn decide_new(
        &mut self,
        base: &dyn ModelSource,
        only_in_base: &[String],
        options: &CreateOptions,
    ) -> Result<(Vec<TensorInfo>, Vec<String>)> {
        let new = std::mem::take(&mut self.new);
        match options.new_tensors {
            NewTensors::Carry => Ok((new, Vec::new())),
            NewTensors::Skip => Ok((Vec::new(), new.into_iter().map(|t| t.name).collect())),
            NewTensors::Refuse if new.is_empty() && only_in_base.is_empty() => Ok((new, Vec::new())),
            NewTensors::Refuse => Err(refusal(base, &new, only_in_base)),
        }
    }
}

fn refusal(base: &dyn ModelSource, new: &[TensorInfo], only_in_base: &[String]) -> Error {
    let describe = |t: &TensorInfo| match base.info(&t.name) {
        Some(b) => format!(
            "\"{}\" has shape {:?} in the base and {:?} in the fine-tuned checkpoint",
            Escaped(&t.name),
            b.shape,
            t.shape
        ),
        None => format!("\"{}\" is only in the fine-tuned checkpoint", Escaped(&t.name)),
    };
    let missing = only_in_base.iter().map(|name| format!("\"{}\" is only in the base", Escaped(name)));
    let all: Vec<String> = new.iter().map(describe).chain(missing).collect();
    let hint = "--new-tensors carry takes new and resized tensors along whole, --new-tensors skip leaves them out; tensors that only the base has stay as they are";
    Error::Refused(format!("{}; {hint}", listed("the checkpoints have different tensors", &all)))
}

fn listed(what: &str, items: &[String]) -> String {
    let more = items.len().saturating_sub(5);
    let first = items.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{what}: {first} and {more} more") } else { format!("{what}: {first}") }
}
