//! Bytes in memory, and sources behind a pointer.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::io::error::ReadError;
use crate::io::source::ReadAt;
use crate::io::stamp::Stamp;

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(out.len())?));
        match range.and_then(|range| self.get(range)) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(ReadError::past_end(offset, out.len(), self.size())),
        }
    }

    fn mapped(&self) -> Option<&[u8]> {
        Some(self)
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.as_slice().size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        self.as_slice().read_at(offset, out)
    }

    fn mapped(&self) -> Option<&[u8]> {
        Some(self)
    }
}

impl<S: ReadAt + ?Sized> ReadAt for Arc<S> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        (**self).read_at(offset, out)
    }

    fn will_need(&self, ranges: &[Range<u64>]) {
        (**self).will_need(ranges);
    }

    fn stamp(&self) -> Option<Stamp> {
        (**self).stamp()
    }

    fn check_unchanged(&self) -> Result<(), ReadError> {
        (**self).check_unchanged()
    }

    fn name(&self) -> Option<&Path> {
        (**self).name()
    }

    fn path(&self) -> Option<&Path> {
        (**self).path()
    }

    fn mapped(&self) -> Option<&[u8]> {
        (**self).mapped()
    }

    fn file(&self) -> Option<&File> {
        (**self).file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ReadErrorKind;

    #[test]
    fn a_read_ends_with_the_bytes_or_fails() {
        let bytes: Arc<[u8]> = Arc::from(&[1u8, 2, 3, 4, 5][..]);
        for source in [&bytes as &dyn ReadAt, &vec![1u8, 2, 3, 4, 5]] {
            let mut out = [0; 3];
            for (offset, expected) in [(0, Ok([1, 2, 3])), (2, Ok([3, 4, 5])), (3, Err(())), (u64::MAX, Err(()))] {
                let read = source.read_at(offset, &mut out);
                if let Err(e) = &read {
                    assert_eq!(e.kind(), ReadErrorKind::Truncated);
                }
                assert_eq!(read.map(|()| out).map_err(drop), expected, "from {offset}");
            }
            source.read_at(5, &mut []).unwrap();
        }
    }
}
