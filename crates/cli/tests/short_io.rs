//! A stream that gives a byte at a time, or is interrupted, is read whole; one that fails or never ends is an error.
//!
//! Contract: fault Q4; design, promise 10.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{self, Cursor, Read};

use stitchpack::{Limits, OpenedPack};
use support::{Lab, Rng};

/// Gives at most `most(i)` bytes at its i-th call, and sometimes none because a signal came.
struct Drip<F> {
    bytes: Cursor<Vec<u8>>,
    calls: usize,
    most: F,
    interrupted: bool,
}

impl<F: FnMut(usize) -> usize> Read for Drip<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.calls += 1;
        if self.interrupted && self.calls.is_multiple_of(3) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = (self.most)(self.calls).clamp(1, out.len().max(1)).min(out.len());
        let mut part = vec![0; most];
        let left = self.bytes.get_ref().len() - self.bytes.position() as usize;
        let n = most.min(left);
        self.bytes.read_exact(&mut part[..n])?;
        out[..n].copy_from_slice(&part[..n]);
        Ok(n)
    }
}

fn drip<F: FnMut(usize) -> usize>(bytes: &[u8], interrupted: bool, most: F) -> Drip<F> {
    Drip { bytes: Cursor::new(bytes.to_vec()), calls: 0, most, interrupted }
}

fn packs() -> Vec<Vec<u8>> {
    let lab = Lab::with_packs();
    vec![lab.read("exact.stitch"), lab.read("lossy.stitch")]
}

#[test]
fn a_slow_stream_does_not_look_like_a_short_one() {
    for pack in packs() {
        let whole = OpenedPack::from_bytes(pack.clone(), &Limits::default()).unwrap().verify().unwrap();
        for interrupted in [false, true] {
            for most in [1, 2, 3, 7, 43, 44, 45, 103, 104, 105, 4096] {
                let stream = drip(&pack, interrupted, |_| most);
                let read = OpenedPack::from_stream(stream, 1 << 20, &Limits::default()).unwrap().verify().unwrap();
                assert_eq!((read.id(), read.manifest()), (whole.id(), whole.manifest()), "{most} bytes a read");
            }
            let mut rng = Rng(5);
            for _ in 0..20 {
                let stream = drip(&pack, interrupted, |_| 1 + rng.below(64) as usize);
                let read = OpenedPack::from_stream(stream, 1 << 20, &Limits::default()).unwrap().verify().unwrap();
                assert_eq!(read.id(), whole.id());
            }
        }
    }
}

#[test]
fn a_stream_cut_at_any_byte_is_refused() {
    for pack in packs() {
        for len in 0..pack.len() {
            let error =
                OpenedPack::from_stream(drip(&pack[..len], false, |i| i), 1 << 20, &Limits::default()).unwrap_err();
            assert_eq!(error.exit_code(), 3, "{len} bytes: {error}");
        }
    }
}

#[test]
fn a_stream_longer_than_allowed_is_not_read_to_its_end() {
    let pack = &packs()[0];
    let len = pack.len() as u64;
    assert!(OpenedPack::from_stream(drip(pack, false, |_| 9), len, &Limits::default()).is_ok());
    let error = OpenedPack::from_stream(drip(pack, false, |_| 9), len - 1, &Limits::default()).unwrap_err();
    assert_eq!(error.exit_code(), 6, "{error}");
    let error = OpenedPack::from_stream(io::repeat(0x89), len, &Limits::default()).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
    // What follows a pack is seen, and no more of it is read than that takes.
    let mut endless = io::Cursor::new(pack).chain(io::repeat(0));
    let error = OpenedPack::from_stream(endless.by_ref().take(1 << 20), 1 << 20, &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("HDR-7"), "{error}");
    let mut counted = io::Cursor::new([pack.as_slice(), &[0; 9000]].concat());
    OpenedPack::from_stream(&mut counted, 1 << 20, &Limits::default()).unwrap_err();
    assert_eq!(counted.position(), (len + 1).max(4096));
}

#[test]
fn a_stream_that_fails_is_an_io_error_and_not_a_short_pack() {
    struct Fails(usize);
    impl Read for Fails {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.0 -= 1;
            out[0] = 0x89;
            Ok(1)
        }
    }
    for after in [0, 1, 8, 44, 200] {
        let error = OpenedPack::from_stream(Fails(after), 1 << 20, &Limits::default()).unwrap_err();
        assert_eq!((error.exit_code(), error.kind()), (7, "io"), "{error}");
    }
}

#[test]
fn standard_input_that_comes_in_pieces_is_a_pack() {
    use std::io::Write;
    let lab = Lab::with_packs();
    let pack = lab.read("lossy.stitch");
    let mut command = lab.command();
    command.args(["verify", "-", "-q"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for piece in pack.chunks(17) {
        stdin.write_all(piece).unwrap();
        stdin.flush().unwrap();
    }
    drop(stdin);
    let ran = support::Ran::of("verify -", child.wait_with_output().unwrap()).ok();
    assert!(ran.stdout.starts_with("ok "), "{}", ran.stdout);
}
