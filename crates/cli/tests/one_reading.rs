//! `apply` reads every byte of a base once: it is digested while it is stitched. Shown by the bytes that the system counts.
//!
//! Contract: BAS-2, BAS-3; design, promise 8.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::Command;

use stitchpack::OpenedPack;
use support::{Lab, Ran, Rng, Tensor, wait_until_settled};

const SIDE: usize = 1024;

/// 14 MB: two tensors that share their bytes, one of four blocks of which exponents say what moves, one that no pack touches, one
/// that a pack carries in another shape, and one without elements.
fn base() -> Vec<Tensor> {
    let square = |name: &str, seed: u64| Tensor::bf16(name, &[SIDE, SIDE], &Rng(seed).units(SIDE * SIDE));
    let plain = Tensor::f32("plain", &[SIDE, SIDE], &Rng(4).units(SIDE * SIDE));
    let empty = Tensor::f32("empty", &[0, 4], &[]);
    vec![square("a", 1), square("tied", 1), square("b", 2), plain, square("resized", 3), empty]
}

/// Small numbers move, large ones are rounded back to what they were.
fn tuned() -> Vec<Tensor> {
    let mut model = base();
    for t in model.iter_mut().filter(|t| ["a", "tied", "b"].contains(&t.name.as_str())) {
        for unit in t.data.as_chunks_mut::<2>().0 {
            *unit = half::bf16::from_f32(half::bf16::from_le_bytes(*unit).to_f32() + 0.0001).to_le_bytes();
        }
    }
    model[4] = Tensor::bf16("resized", &[2, 2], &[1.0; 4]);
    model
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.model("base.safetensors", &base());
    lab.model("tuned.safetensors", &tuned());
    lab.sharded("sharded", &base(), &[&[0, 3], &[5, 1], &[2, 4]]);
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --exact --new-tensors carry").ok();
    // Where making the pack was slow, its base is remembered.
    drop(fs::remove_dir_all(lab.path(".cache")));
    lab
}

/// Runs the command without mapping, and counts the bytes that it read by system calls. None where the system does not count.
fn reading(lab: &Lab, args: &str) -> Option<u64> {
    let script = "\"$0\" \"$@\" --no-mmap -q > /dev/null && cat /proc/$$/io";
    let mut command = Command::new("sh");
    lab.settle(command.args(["-c", script, env!("CARGO_BIN_EXE_stitchpack")]).args(args.split_whitespace()));
    if !fs::exists("/proc/self/io").unwrap() {
        return None;
    }
    let ran = Ran::of(args, command.output().unwrap()).ok();
    let count = ran.stdout.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    Some(count.parse().unwrap())
}

/// Beside the base only the pack and what a process reads to begin: less than any tensor has.
#[track_caller]
fn is_once(read: Option<u64>, bytes: u64, what: &str) {
    let Some(read) = read else { return eprintln!("the system does not count what is read") };
    assert!(read >= bytes, "{what}: {read} bytes of {bytes} were read");
    assert!(read < bytes + 1_500_000, "{what}: {read} bytes were read, {bytes} are there");
}

#[test]
fn every_byte_of_a_base_is_read_once() {
    let lab = lab();
    let pack = OpenedPack::open(lab.path("p.stitch")).unwrap().verify().unwrap();
    assert!(pack.needs_base().unwrap(), "no block is coded by what the base has");
    assert!(fs::metadata(lab.path("p.stitch")).unwrap().len() < 500_000);
    let bytes: u64 = base().iter().map(|t| t.data.len() as u64).sum();
    wait_until_settled();
    for from in ["base.safetensors", "sharded"] {
        for (out, threads) in [("out.safetensors", 1), ("folder", 2)] {
            let rest = format!("{from} p.stitch --force --threads {threads}");
            is_once(reading(&lab, &format!("apply {rest} --check -o {out} --base-check full")), bytes, &rest);
            is_once(reading(&lab, &format!("lock {rest} --base-check full")), bytes, &rest);
            is_once(reading(&lab, &format!("apply {rest} -o {out} --base-check touched")), bytes, &rest);
        }
    }
    assert_eq!(cached(&lab), 0, "only the cached check writes to the cache");
    for (from, entries) in [("base.safetensors", 1), ("sharded", 4)] {
        let args = format!("apply {from} p.stitch -o out.safetensors --force --check");
        is_once(reading(&lab, &args), bytes, &args);
        assert_eq!(cached(&lab), entries, "{from}: the reading did not fill the cache");
        is_once(reading(&lab, &args), bytes - (2 * SIDE * SIDE) as u64, "what is replaced is known");
    }
    // One file of three was written again.
    let shard = "sharded/model-00001-of-00003.safetensors";
    fs::write(lab.path(shard), lab.read(shard)).unwrap();
    wait_until_settled();
    lab.run("apply sharded p.stitch -o out.safetensors --force --check").ok();
    assert_eq!(cached(&lab), 5);
    lab.run("apply sharded p.stitch -o out.safetensors --force --check").ok();
}

/// The number of entries in the digest cache.
fn cached(lab: &Lab) -> usize {
    fs::read_dir(lab.path(".cache/digests-1")).map_or(0, Iterator::count)
}

#[test]
fn what_is_written_does_not_depend_on_the_check_or_the_threads() {
    let lab = lab();
    let expected = support::by_name(&tuned());
    let mut files = Vec::new();
    for check in ["full", "cached", "touched"] {
        for threads in [1, 2, 5] {
            let how = format!("base.safetensors p.stitch --force --base-check {check} --threads {threads}");
            let recipe = lab.run(&format!("apply {how} -o out.safetensors --json")).ok().json()["recipe"].clone();
            let locked = lab.run(&format!("lock {how} --json")).ok().json()["recipe"].clone();
            assert_eq!(recipe, locked, "{how}");
            assert_eq!(support::read_model(&lab.path("out.safetensors")), expected, "{how}");
            files.push((lab.read("out.safetensors"), recipe));
        }
    }
    assert!(files.windows(2).all(|pair| pair[0] == pair[1]));
}
