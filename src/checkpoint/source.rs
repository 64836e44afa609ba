//! Whatever packs can be made of: a checkpoint on disk, or a model that packs on a checkpoint make.

use std::path::PathBuf;

use crate::checkpoint::identity::BaseCheck;
use crate::checkpoint::reader::Checkpoint;
use crate::error::{Error, Result};
use crate::files::read_regular;
use crate::model::identity::BaseIdentity;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

/// A whole model: tensors, companion files, and the files on disk that it is read from.
pub trait ModelSource: TensorSource {
    /// All tensors, by name in byte order.
    fn infos(&self) -> Vec<&TensorInfo>;

    /// Dtype and shape of one tensor.
    fn info(&self, name: &str) -> Option<&TensorInfo>;

    /// Digests of the tensors, as many as `check` asks for; `wanted` says which are needed at least.
    ///
    /// # Errors
    /// `Io` where reading fails; for a computed model also what its packs give.
    fn identity_of(&self, check: BaseCheck, wanted: &dyn Fn(&str) -> bool, workers: &Workers) -> Result<BaseIdentity>;

    /// Bytes of the weight files, headers included.
    fn weight_bytes(&self) -> u64;

    /// Whether there can be companion files.
    fn has_companions(&self) -> bool;

    /// Names of the companion files.
    ///
    /// # Errors
    /// `Io` where the folder cannot be listed.
    fn companion_names(&self) -> Result<Vec<String>>;

    /// The bytes of one companion file.
    ///
    /// # Errors
    /// `Io` where it cannot be read; `InvalidInput` where there is none of that name.
    fn companion(&self, name: &str) -> Result<Vec<u8>>;

    /// Files that no output may replace.
    fn input_paths(&self) -> Vec<PathBuf>;

    /// Fails where a file was changed since it was opened, as far as the system shows it.
    ///
    /// # Errors
    /// `Io` for the changed file.
    fn unchanged(&self) -> Result<()>;
}

impl ModelSource for Checkpoint {
    fn infos(&self) -> Vec<&TensorInfo> {
        self.tensors().collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor(name)
    }

    fn identity_of(&self, check: BaseCheck, wanted: &dyn Fn(&str) -> bool, workers: &Workers) -> Result<BaseIdentity> {
        self.identity_with(check, wanted, workers)
    }

    fn weight_bytes(&self) -> u64 {
        self.file_bytes()
    }

    fn has_companions(&self) -> bool {
        self.is_folder()
    }

    fn companion_names(&self) -> Result<Vec<String>> {
        Ok(self.companions()?.into_iter().map(|(name, _)| name).collect())
    }

    fn companion(&self, name: &str) -> Result<Vec<u8>> {
        let found = self.companions()?.into_iter().find(|(n, _)| n == name);
        let (_, path) = found.ok_or_else(|| Error::InvalidInput(format!("there is no file \"{name}\"")))?;
        read_regular(&path)
    }

    fn input_paths(&self) -> Vec<PathBuf> {
        self.own_paths()
    }

    fn unchanged(&self) -> Result<()> {
        self.check_unchanged()
    }
}
