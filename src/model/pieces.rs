//! What the digests of tensors are made of, gathered by threads in any order.

use crate::model::digest::{Digest, TensorDigester};
use crate::model::tensor::TensorInfo;

/// Values of pieces, each with the number of its tensor and its own.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Vec<((usize, u64), [u8; 32])>);

impl Pieces {
    /// Digests bytes of a tensor from byte `start`, where a piece begins, to the end of a piece or of the tensor.
    pub fn add(&mut self, tensor: usize, info: &TensorInfo, start: u64, bytes: &[u8]) {
        let digester = TensorDigester::new(info.byte_len());
        let numbers = start / TensorDigester::PIECE..;
        for (number, piece) in numbers.zip(bytes.chunks(TensorDigester::PIECE as usize)) {
            self.0.push(((tensor, number), digester.piece(number, piece)));
        }
    }

    /// The digests of tensors, each with its number, from the pieces that threads gathered of them.
    pub fn join<'a>(
        gathered: impl Iterator<Item = Pieces>,
        tensors: impl Iterator<Item = (usize, &'a TensorInfo)>,
    ) -> Vec<Digest> {
        let mut pieces: Vec<_> = gathered.flat_map(|pieces| pieces.0).collect();
        pieces.sort_unstable_by_key(|(key, _)| *key);
        let digest = |(tensor, info): (usize, &TensorInfo)| {
            let digester = TensorDigester::new(info.byte_len());
            let from = pieces.partition_point(|((t, _), _)| *t < tensor);
            let own = pieces.iter().skip(from).take_while(|((t, _), _)| *t == tensor);
            let mut values: Vec<_> = own.map(|(_, value)| *value).collect();
            if values.is_empty() {
                values.push(digester.piece(0, &[]));
            }
            digester.finish(&values)
        };
        tensors.map(digest).collect()
    }
}
