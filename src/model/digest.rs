//! BLAKE3 digests, each role under its own context: spec/format.md, "Digests".

use std::fmt;

use blake3::Hasher;
use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};

/// What a digest is of. Two roles never give the same digest for the same bytes. [DIG-1]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A pack's header; this digest is the pack id.
    Header,
    /// A manifest, as stored.
    Manifest,
    /// A section, as stored.
    Section,
    /// The data of one tensor of a checkpoint.
    Tensor,
    /// A whole checkpoint: names, dtypes, shapes and tensor digests.
    Checkpoint,
    /// What a pack decodes to.
    Content,
    /// What one delta decodes to.
    Delta,
    /// A companion file that a pack carries.
    File,
    /// An entry of the digest cache.
    Cache,
}

impl Role {
    /// The context string, as `blake3::derive_key` takes it.
    pub fn context(self) -> &'static str {
        match self {
            Role::Header => "stitchpack 1 header",
            Role::Manifest => "stitchpack 1 manifest",
            Role::Section => "stitchpack 1 section",
            Role::Tensor => "stitchpack 1 tensor",
            Role::Checkpoint => "stitchpack 1 checkpoint",
            Role::Content => "stitchpack 1 content",
            Role::Delta => "stitchpack 1 delta",
            Role::File => "stitchpack 1 file",
            Role::Cache => "stitchpack 1 cache",
        }
    }
}

/// A BLAKE3 output of 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes` in a role.
    pub fn of(role: Role, bytes: &[u8]) -> Digest {
        Digester::new(role).with(bytes).finish()
    }

    /// Reads 64 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<Digest> {
        if text.len() != 64 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let hash = blake3::Hash::from_hex(text).ok()?;
        Some(Digest(*hash.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest taken piece by piece, in order.
#[derive(Clone)]
pub struct Digester(Hasher);

impl Digester {
    /// Starts a digest in a role.
    pub fn new(role: Role) -> Self {
        Digester(Hasher::new_derive_key(role.context()))
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds bytes, and gives itself back.
    pub fn with(mut self, bytes: &[u8]) -> Self {
        self.add(bytes);
        self
    }

    /// The digest of all that was added.
    pub fn finish(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// The digest of one tensor's data ([`Role::Tensor`]), from pieces that may be hashed in any order and by any thread.
///
/// Every piece but the last has [`TensorDigester::PIECE`] bytes, so each is a whole subtree of BLAKE3 and the outcome is the
/// ordinary digest of the whole.
#[derive(Clone, Copy)]
pub struct TensorDigester {
    key: hazmat::ContextKey,
    len: u64,
}

impl TensorDigester {
    /// Bytes of a piece; a power of two, as BLAKE3's tree asks.
    pub const PIECE: u64 = 1 << 18;

    /// For a tensor of `len` bytes.
    pub fn new(len: u64) -> Self {
        TensorDigester { key: hazmat::hash_derive_key_context(Role::Tensor.context()), len }
    }

    /// Number of pieces; at least one.
    pub fn pieces(&self) -> u64 {
        self.len.div_ceil(Self::PIECE).max(1)
    }

    /// The value of piece `i`. A tensor of one piece gives its digest at once.
    pub fn piece(&self, i: u64, bytes: &[u8]) -> ChainingValue {
        let mut hasher = Hasher::new_from_context_key(&self.key);
        if self.pieces() == 1 {
            return *hasher.update(bytes).finalize().as_bytes();
        }
        hasher.set_input_offset(i * Self::PIECE).update(bytes).finalize_non_root()
    }

    /// Joins the pieces, in order.
    pub fn finish(&self, pieces: &[ChainingValue]) -> Digest {
        match pieces {
            [only] => Digest(*only),
            _ => {
                let (left, right) = pieces.split_at(left_len(pieces.len()));
                let mode = Mode::DeriveKeyMaterial(&self.key);
                Digest(*hazmat::merge_subtrees_root(&self.join(left), &self.join(right), mode).as_bytes())
            }
        }
    }

    fn join(&self, pieces: &[ChainingValue]) -> ChainingValue {
        if let [only] = pieces {
            return *only;
        }
        let (left, right) = pieces.split_at(left_len(pieces.len()));
        let mode = Mode::DeriveKeyMaterial(&self.key);
        hazmat::merge_subtrees_non_root(&self.join(left), &self.join(right), mode)
    }
}

/// BLAKE3's tree: the left part is the largest power of two below the whole.
fn left_len(n: usize) -> usize {
    n.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_plain_digest() {
        let p = TensorDigester::PIECE as usize;
        let data: Vec<u8> = (0..5 * p + 7).map(|i| (i % 251) as u8).collect();
        for len in [0, 1, p - 1, p, p + 1, 2 * p, 3 * p, 3 * p + 1, 4 * p, 5 * p + 7] {
            let d = TensorDigester::new(len as u64);
            let data = &data[..len];
            let mut values: Vec<_> = data.chunks(p).enumerate().map(|(i, c)| d.piece(i as u64, c)).collect();
            if values.is_empty() {
                values.push(d.piece(0, &[]));
            }
            assert_eq!(values.len() as u64, d.pieces());
            assert_eq!(d.finish(&values), Digest::of(Role::Tensor, data), "{len}");
        }
    }
}
