//! A checkpoint as a set of named tensors, whatever files they are in.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::folder::{self, Folder};
use crate::checkpoint::header::Header;
use crate::error::{Error, Escaped, Result};
use crate::io::{self, LocalFile, ReadAt};
use crate::limits::Limits;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;

/// A base or fine-tuned model on disk: one `.safetensors` file or a Hugging Face folder. Never modified.
#[derive(Debug)]
pub struct Checkpoint {
    root: PathBuf,
    is_folder: bool,
    pub(crate) files: Vec<CheckpointFile>,
    pub(crate) index: Option<String>,
    /// By name.
    tensors: Vec<Place>,
}

/// One safetensors file.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    pub name: String,
    pub bytes: Arc<dyn ReadAt>,
    /// The length field and the header, as they are in the file.
    pub head: Vec<u8>,
    pub metadata: Option<HashMap<String, String>>,
    /// Tensors in the order of their data.
    pub order: Vec<Arc<TensorInfo>>,
}

/// Where a tensor's data is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub info: Arc<TensorInfo>,
    pub file: usize,
    /// Its place in the order of the file.
    pub number: usize,
    /// From the start of the file.
    pub offset: u64,
}

impl Checkpoint {
    /// Opens a checkpoint that is read by system calls.
    ///
    /// # Errors
    /// `Io` for what is missing or unreadable, `Malformed` for what is no checkpoint.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_files(path.as_ref(), |file| LocalFile::open(file))
    }

    /// Opens a checkpoint whose files are mapped into memory: the fast way.
    ///
    /// # Safety
    /// Nobody may change the files while the value lives: one that shrinks kills the process, one that is overwritten
    /// changes bytes that were already checked. Replacing a file by rename is harmless.
    #[expect(unsafe_code, reason = "mapping a file is the caller's promise that it stays as it is")]
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Self> {
        // SAFETY: the caller makes the promise that `LocalFile::map` asks for.
        Self::open_files(path.as_ref(), |file| unsafe { LocalFile::map(file) })
    }

    fn open_files(root: &Path, open: impl Fn(&Path) -> Result<LocalFile>) -> Result<Self> {
        let is_folder = std::fs::metadata(root).map_err(|e| Error::io(root, e))?.is_dir();
        let (names, index) = if is_folder {
            let folder = Folder::open(root)?;
            (folder.weights.into_iter().map(|n| (n.clone(), root.join(n))).collect(), folder.index)
        } else {
            let name = root.file_name().map_or("model.safetensors".into(), |n| n.to_string_lossy().into_owned());
            (vec![(name, root.to_owned())], None)
        };
        let limits = Limits::default();
        let mut files = Vec::new();
        for (name, path) in names {
            files.push(read_file(name, Arc::new(open(&path)?), &limits).map_err(|e| e.in_file(&path))?);
        }
        let tensors = gather(&files, &limits).map_err(|e| e.in_file(root))?;
        if let Some((name, map)) = &index {
            check_index(map, &tensors, &files).map_err(|e| e.in_file(&root.join(name)))?;
        }
        let index = index.map(|(name, _)| name);
        Ok(Checkpoint { root: root.to_owned(), is_folder, files, index, tensors })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whether this is a folder, with files beside the weights.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// All tensors, by name in byte order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter().map(|place| &*place.info)
    }

    /// One tensor's dtype and shape.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        find(&self.tensors, name).map(|place| &*place.info)
    }

    /// Bytes of the weight files, headers included: the denominator of a pack's size.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes.size()).sum()
    }

    /// What the files say of themselves in `__metadata__`, file after file.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.files.iter().filter_map(|f| f.metadata.as_ref()).flatten();
        all.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A range of a tensor's bytes, counted from its start: borrowed where the file is mapped.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown name or a range past the end; `Io` where reading fails or the file was changed.
    pub fn bytes(&self, name: &str, range: Range<u64>) -> Result<Cow<'_, [u8]>> {
        let place = find(&self.tensors, name);
        let place = place.filter(|p| range.start <= range.end && range.end <= p.info.byte_len());
        let Some(place) = place else {
            let detail = format!("no bytes {range:?} of a tensor \"{}\"", Escaped(name));
            return Err(Error::InvalidInput(detail));
        };
        self.at(place, range)
    }

    /// Fills `out` with a tensor's bytes from byte `start`. Bytes that are needed `once` are read by a system call: mapped, each
    /// page of them would have to be entered in a table and taken out again.
    ///
    /// # Errors
    /// As [`Checkpoint::bytes`].
    pub(crate) fn copy_into(&self, name: &str, start: u64, out: &mut [u8], once: bool) -> Result<()> {
        match self.file_of(name) {
            Some((place, file)) if once || file.bytes.mapped().is_none() => {
                let end = start.saturating_add(out.len() as u64);
                if end > place.info.byte_len() {
                    return Err(Error::InvalidInput(format!(
                        "no bytes {start}..{end} of a tensor \"{}\"",
                        Escaped(name)
                    )));
                }
                io::read_into(&*file.bytes, place.offset + start, out)
            }
            _ => {
                out.copy_from_slice(&self.bytes(name, start..start.saturating_add(out.len() as u64))?);
                Ok(())
            }
        }
    }

    /// The file that holds a tensor, and where the tensor begins in it.
    pub(crate) fn place(&self, name: &str) -> Option<(&File, u64)> {
        let (place, file) = self.file_of(name)?;
        Some((file.bytes.file()?, place.offset))
    }

    fn file_of(&self, name: &str) -> Option<(&Place, &CheckpointFile)> {
        let place = find(&self.tensors, name)?;
        Some((place, self.files.get(place.file)?))
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.tensors.iter()
    }

    pub(crate) fn at(&self, place: &Place, range: Range<u64>) -> Result<Cow<'_, [u8]>> {
        let file = self.files.get(place.file).ok_or_else(|| Error::Internal("a tensor without a file".into()))?;
        io::bytes(&*file.bytes, place.offset + range.start..place.offset + range.end)
    }

    /// Files of the folder that are not weights, by name; none for a single file.
    pub fn companions(&self) -> Result<Vec<(String, PathBuf)>> {
        if self.is_folder { folder::companions(&self.root) } else { Ok(Vec::new()) }
    }

    /// The weight files, the index where there is one, and the files beside them: what no output may replace.
    pub(crate) fn own_paths(&self) -> Vec<PathBuf> {
        let index = self.index.iter().map(|name| self.root.join(name));
        // A folder that cannot be listed any more has no files that could be replaced.
        let companions = self.companions().unwrap_or_default().into_iter().map(|(_, path)| path);
        self.files.iter().filter_map(|f| f.bytes.path().map(Path::to_owned)).chain(index).chain(companions).collect()
    }

    /// Fails when a file was changed since it was opened, as far as the system shows it.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let check = |file: &CheckpointFile| file.bytes.check_unchanged().map_err(|e| e.of(file.bytes.name()));
        self.files.iter().try_for_each(check)
    }
}

fn read_file(name: String, bytes: Arc<dyn ReadAt>, limits: &Limits) -> Result<CheckpointFile> {
    let bad = |detail: String| Error::malformed("CKP-1", "safetensors file", detail);
    if bytes.size() < 8 {
        return Err(bad(format!("has {} bytes, too few for a header", bytes.size())));
    }
    let len: [u8; 8] = io::bytes(&*bytes, 0..8)?.as_ref().try_into().map_err(|_| bad("has no header".into()))?;
    let len = u64::from_le_bytes(len);
    if len > bytes.size() - 8 {
        return Err(bad(format!(
            "says its header has {len} bytes, but {} are left; is it cut, or no safetensors file?",
            bytes.size() - 8
        )));
    }
    Limits::check("safetensors header size in bytes", len, limits.header_bytes)?;
    let head = io::bytes(&*bytes, 0..8 + len)?.into_owned();
    let header = Header::parse(&head[8..], limits)?;
    let data = bytes.size() - 8 - len;
    if header.data_len != data {
        return Err(bad(format!("has {data} bytes of data, its header says {}", header.data_len)));
    }
    let order = header.tensors.into_iter().map(|(info, _)| Arc::new(info)).collect();
    Ok(CheckpointFile { name, bytes, head, metadata: header.metadata, order })
}

/// All tensors of all files; a name in two files is refused. [CKP-5]
fn gather(files: &[CheckpointFile], limits: &Limits) -> Result<Vec<Place>> {
    let mut tensors = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let mut offset = file.head.len() as u64;
        for (number, info) in file.order.iter().enumerate() {
            tensors.push(Place { info: info.clone(), file: i, number, offset });
            offset += info.byte_len();
        }
    }
    // Of equal names the one of the earlier file stays first.
    tensors.sort_by(|a, b| a.info.name.cmp(&b.info.name));
    let twice = tensors.windows(2).filter_map(|pair| match pair {
        [a, b] if a.info.name == b.info.name => Some((a, b)),
        _ => None,
    });
    if let Some((a, b)) = twice.min_by_key(|(_, b)| (b.file, b.offset)) {
        let name_of = |place: &Place| files.get(place.file).map_or("", |f| &f.name);
        let detail = format!("is in both \"{}\" and \"{}\"", Escaped(name_of(a)), Escaped(name_of(b)));
        return Err(Error::malformed("CKP-5", format!("tensor \"{}\"", Escaped(&a.info.name)), detail));
    }
    Limits::check("number of tensors", tensors.len() as u64, limits.tensors)?;
    Ok(tensors)
}

/// The tensor of a name, among tensors in order of name.
fn find<'t>(tensors: &'t [Place], name: &str) -> Option<&'t Place> {
    let i = tensors.binary_search_by(|place| place.info.name.as_str().cmp(name)).ok()?;
    tensors.get(i)
}

/// Every tensor that an index names is in the file that it names. [CKP-4]
fn check_index(map: &BTreeMap<String, String>, tensors: &[Place], files: &[CheckpointFile]) -> Result<()> {
    for (name, file) in map {
        let found = find(tensors, name).and_then(|p| files.get(p.file)).map(|f| f.name.as_str());
        if found != Some(file) {
            let detail = match found {
                Some(other) => format!("is said to be in \"{}\", but is in \"{}\"", Escaped(file), Escaped(other)),
                None => format!("is said to be in \"{}\", but is not there", Escaped(file)),
            };
            return Err(Error::malformed("CKP-4", format!("tensor \"{}\"", Escaped(name)), detail));
        }
    }
    Ok(())
}

impl TensorSource for Checkpoint {
    fn units(&self, name: &str, start: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        let unit = self.tensor(name).map_or(1, |info| info.dtype.unit_bytes() as u64);
        self.bytes(name, start.saturating_mul(unit)..start.saturating_add(len).saturating_mul(unit))
    }
}
