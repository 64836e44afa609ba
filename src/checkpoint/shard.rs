//! The safetensors files of a checkpoint, and where each tensor lies in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::checkpoint::header::Header;
use crate::error::{Error, Escaped, Result};
use crate::io::{self, ReadAt};
use crate::limits::Limits;
use crate::model::tensor::TensorInfo;

/// Bytes from the start of a file that are announced before the length of its header is known.
const ANNOUNCED: u64 = 128 << 10;

/// One safetensors file.
#[derive(Debug)]
pub(super) struct Shard {
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
pub(super) struct Place {
    pub info: Arc<TensorInfo>,
    pub file: usize,
    /// Its place in the order of the file.
    pub number: usize,
    /// From the start of the file.
    pub offset: u64,
}

impl Shard {
    /// Announces what [`Shard::open`] will read.
    pub fn announce(bytes: &dyn ReadAt) {
        io::announce(bytes, 0..bytes.size().min(ANNOUNCED));
    }

    /// Reads the header of a file.
    pub fn open(name: String, bytes: Arc<dyn ReadAt>, limits: &Limits) -> Result<Self> {
        let bad = |detail: String| Error::malformed("CKP-1", "safetensors file", detail);
        let size = bytes.size();
        if size < 8 {
            return Err(bad(format!("has {size} bytes, too few for a header")));
        }
        let mut len = [0; 8];
        io::read_into(&*bytes, 0, &mut len)?;
        let len = u64::from_le_bytes(len);
        if len > size - 8 {
            return Err(bad(format!(
                "says its header has {len} bytes, but {} are left; is it cut, or no safetensors file?",
                size - 8
            )));
        }
        Limits::check("safetensors header size in bytes", len, limits.header_bytes)?;
        if 8 + len > ANNOUNCED {
            io::announce(&*bytes, ANNOUNCED..8 + len);
        }
        let head = io::bytes(&*bytes, 0..8 + len)?.into_owned();
        let header = Header::parse(&head[8..], limits)?;
        let data = size - 8 - len;
        if header.data_len != data {
            return Err(bad(format!("has {data} bytes of data, its header says {}", header.data_len)));
        }
        let order = header.tensors.into_iter().map(|(info, _)| Arc::new(info)).collect();
        Ok(Shard { name, bytes, head, metadata: header.metadata, order })
    }

    /// Fails where the file was changed since it was opened, as far as that shows.
    pub fn check_unchanged(&self) -> Result<()> {
        self.bytes.check_unchanged().map_err(|e| e.of(self.bytes.name()))
    }
}

/// All tensors of all files; a name in two files is refused. [CKP-5]
pub(super) fn gather(files: &[Shard], limits: &Limits) -> Result<Vec<Place>> {
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
pub(super) fn find<'t>(tensors: &'t [Place], name: &str) -> Option<&'t Place> {
    let i = tensors.binary_search_by(|place| place.info.name.as_str().cmp(name)).ok()?;
    tensors.get(i)
}

/// Every tensor that an index names is in the file that it names. [CKP-4]
pub(super) fn check_index(map: &BTreeMap<String, String>, tensors: &[Place], files: &[Shard]) -> Result<()> {
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
