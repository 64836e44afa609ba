//! Which files a model consists of: their names, headers and the order of their tensors.

use std::collections::{BTreeMap, HashMap};

use crate::checkpoint::folder::{Index, SINGLE};
use crate::checkpoint::header;
use crate::error::Result;
use crate::model::tensor::TensorInfo;

/// One safetensors file of a model.
#[derive(Debug, Clone)]
pub struct LayoutFile {
    /// Its name.
    pub name: String,
    /// The length field and the header, byte for byte.
    pub head: Vec<u8>,
    /// `__metadata__`.
    pub metadata: Option<HashMap<String, String>>,
    /// The tensors in the order of their data, which follows the header and lies end to end.
    pub tensors: Vec<TensorInfo>,
}

/// The files of a model that hold weights.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Whether they lie in a folder of the model's own.
    pub is_folder: bool,
    /// The safetensors files, in order.
    pub files: Vec<LayoutFile>,
    /// The index that says which file holds which tensor: its file name and its bytes.
    pub index: Option<(String, Vec<u8>)>,
}

impl LayoutFile {
    fn new(name: String, metadata: Option<HashMap<String, String>>, tensors: Vec<TensorInfo>) -> Result<Self> {
        let head = header::encode(&tensors, metadata.as_ref())?;
        Ok(LayoutFile { name, head, metadata, tensors })
    }

    /// Bytes of the file.
    pub fn byte_len(&self) -> u64 {
        self.tensors.iter().fold(self.head.len() as u64, |len, t| len.saturating_add(t.byte_len()))
    }
}

impl Layout {
    /// One file of tensors in this order.
    ///
    /// # Errors
    /// `Internal` where the header cannot be encoded.
    pub fn of(tensors: Vec<TensorInfo>) -> Result<Self> {
        let files = vec![LayoutFile::new(SINGLE.into(), None, tensors)?];
        Ok(Layout { is_folder: false, files, index: None })
    }

    /// Bytes of all files but the index.
    pub fn byte_len(&self) -> u64 {
        self.files.iter().map(LayoutFile::byte_len).sum()
    }

    /// The same files with tensors that replace those of their name. What there is no tensor of yet goes to the end of the last
    /// file. Only where it has to does a file get a new header. [OUT-1]
    pub(crate) fn with(mut self, carried: &BTreeMap<String, TensorInfo>) -> Result<Self> {
        if carried.is_empty() {
            return Ok(self);
        }
        let mut added = carried.clone();
        for file in &mut self.files {
            for tensor in &mut file.tensors {
                added.remove(&tensor.name);
                if let Some(own) = carried.get(&tensor.name).filter(|own| *own != tensor) {
                    *tensor = own.clone();
                    file.head.clear();
                }
            }
        }
        if let (Some(last), false) = (self.files.last_mut(), added.is_empty()) {
            last.tensors.extend(added.into_values());
            last.head.clear();
        }
        for file in self.files.iter_mut().filter(|file| file.head.is_empty()) {
            file.head = header::encode(&file.tensors, file.metadata.as_ref())?;
        }
        if let Some((_, bytes)) = &mut self.index {
            *bytes = Index::with(bytes, self.files.iter().map(|file| (file.name.as_str(), file.tensors.as_slice())))?;
        }
        Ok(self)
    }

    /// All tensors in one file, in the order of the files.
    pub(crate) fn joined(mut self, name: String) -> Result<Self> {
        (self.is_folder, self.index) = (false, None);
        if let [only] = self.files.as_mut_slice() {
            only.name = name;
            return Ok(self);
        }
        let metadata = self.files.first_mut().and_then(|file| file.metadata.take());
        let tensors = self.files.into_iter().flat_map(|file| file.tensors).collect();
        Ok(Layout { is_folder: false, files: vec![LayoutFile::new(name, metadata, tensors)?], index: None })
    }
}
