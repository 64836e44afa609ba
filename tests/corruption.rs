//! Damage: every flipped bit, every truncation and every extension of a small pack is an error that says so (promise 7), never
//! an answer and never a panic; and whoever applies a damaged pack leaves nothing behind (promise 9). [HDR-1] [HDR-2] [HDR-3]
//! [HDR-7] [DIG-2] [OUT-5]
//!
//! Exhaustive over packs that hold everything that the format has: signs, steps on mixed dtypes with a carried tensor, a
//! codebook with notes, scales a row, and a carried file. X-01, H-02, H-14
#![allow(clippy::unwrap_used)]

mod common;

use common::lying_packs::{Good, f32_tensor};
use common::models::{Model, Tensor};
use common::site::{Site, merge, options, sparse, workers};
use stitchpack::create::NewTensors;
use stitchpack::limits::Limits;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::{ApplyOptions, Checkpoint, Error, Layer, OpenedPack, StitchedModel};

/// A folder and what was trained from it: a codebook pack with notes, a carried tensor and a carried file.
fn folders(site: &Site) -> (Checkpoint, Checkpoint) {
    let (base, tuned) = Good::codebook_models();
    let mut tuned = tuned;
    tuned.tensors.push(Tensor::of_units("z.new", Dtype::F16, &[4], &[1, 2, 3, 0x7e01]));
    let (from, to) = (site.path("from"), site.path("to"));
    base.write_folder(&from, 9);
    tuned.write_folder(&to, 9);
    std::fs::write(to.join("tokenizer.json"), b"{\"a\": [1, 2, 3]}").unwrap();
    (Checkpoint::open(from).unwrap(), Checkpoint::open(to).unwrap())
}

fn carrying() -> Vec<u8> {
    let site = Site::new(&Model::new(vec![f32_tensor("a", &[1], |_| 1.0)]));
    let (from, to) = folders(&site);
    let mut how = options(sparse("0.1", ValueKind::Codebook));
    how.notes = [("task".to_string(), "tests".to_string())].into();
    (how.new_tensors, how.carry_files) = (NewTensors::Carry, true);
    stitchpack::create(&from, &to, &site.pack_path("p"), &how).unwrap();
    let pack = site.pack_bytes("p");
    let manifest = OpenedPack::from_bytes(pack.clone(), &Limits::default()).unwrap().manifest().clone();
    assert_eq!((manifest.files.len(), manifest.notes.len(), manifest.tensors.len()), (1, 1, 2));
    pack
}

/// What a reader says; `None` where it accepts.
fn answer(pack: &[u8]) -> Option<Error> {
    OpenedPack::from_bytes(pack, &Limits::default()).and_then(OpenedPack::verify).err()
}

fn every_bit(pack: &[u8]) {
    assert!(answer(pack).is_none(), "the pack is fine before it is damaged");
    let mut bytes = pack.to_vec();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            let e = answer(&bytes).unwrap_or_else(|| panic!("bit {bit} of byte {at} is not missed"));
            let right: &[u8] = match at {
                0..8 => &[3],
                40..44 => &[3, 4],
                _ => &[4],
            };
            assert!(right.contains(&e.exit_code()), "bit {bit} of byte {at}: {e}");
            bytes[at] ^= 1 << bit;
        }
    }
}

fn every_length(pack: &[u8]) {
    for len in 0..pack.len() {
        let e = answer(&pack[..len]).unwrap_or_else(|| panic!("{len} of {} bytes are enough", pack.len()));
        assert_eq!(e.exit_code(), 3, "{len} of {} bytes: {e}", pack.len());
    }
    for more in 1..=64 {
        for byte in [0, 0x5a, 0xff] {
            let e = answer(&[pack, &vec![byte; more]].concat())
                .unwrap_or_else(|| panic!("{more} bytes more are not missed"));
            assert_eq!(e.exit_code(), 3, "{more} bytes more: {e}");
        }
    }
}

#[test]
fn damage_to_signs_passes() {
    every_bit(&Good::packs().sign);
    every_length(&Good::packs().sign);
}

#[test]
fn damage_to_an_exact_pack_passes() {
    every_bit(&Good::packs().exact);
    every_length(&Good::packs().exact);
}

#[test]
fn damage_to_a_codebook_and_a_carried_file_passes() {
    let pack = carrying();
    every_bit(&pack);
    every_length(&pack);
}

#[test]
fn damage_to_scales_a_row_passes() {
    every_bit(&Good::packs().int8);
    every_length(&Good::packs().int8);
}

#[test]
fn damage_to_what_is_coded_by_class_passes() {
    every_bit(&Good::packs().classed);
    every_length(&Good::packs().classed);
    every_bit(&Good::packs().by_base);
    every_length(&Good::packs().by_base);
}

#[test]
fn damage_to_an_empty_pack_passes() {
    every_bit(&Good::packs().empty);
    every_length(&Good::packs().empty);
}

/// Bytes of the file that were exchanged for others of the same file.
#[test]
fn swapped_and_repeated_ranges_pass() {
    for pack in [&Good::packs().sign, &Good::packs().exact] {
        for (from, to, len) in [(0, 104, 104), (104, 140, 32), (8, 72, 32), (72, 8, 32), (150, 120, 16), (200, 300, 64)]
        {
            let mut bytes = pack.clone();
            bytes.copy_within(from..from + len, to);
            assert!(bytes == *pack || answer(&bytes).is_some(), "{len} bytes from {from} to {to}");
        }
    }
}

/// The lazy way: sections are hashed when they are read, so a damaged one is met only while a model is being written.
fn apply_lazily(site: &Site, out: &str, threads: usize) -> Result<(), Error> {
    let pack = OpenedPack::open(site.pack_path("p"))?.verify_as_read().bind(&site.identity)?;
    let layers = vec![Layer { pack, weight: 1.0 }];
    let model = StitchedModel::new(&site.base, layers, &merge(OverlapRule::Average, 1.0))?;
    let options = ApplyOptions { workers: workers(threads), ..ApplyOptions::default() };
    stitchpack::apply(&model, &site.identity, &site.path(out), &options).map(drop)
}

#[test]
fn a_damaged_section_leaves_a_folder_behind() {
    let (base, tuned) = Good::sign_models();
    let site = Site::new(&base);
    site.create("p", &tuned, &options(sparse("0.1", ValueKind::Sign))).unwrap();
    let pack = site.pack_bytes("p");
    let manifest = u32::from_le_bytes(pack[64..68].try_into().unwrap()) as usize;
    apply_lazily(&site, "fine", 2).unwrap();
    let before = site.names();
    for at in (104..pack.len() - manifest).step_by(3) {
        let mut bytes = pack.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(site.pack_path("p"), &bytes).unwrap();
        let out = if at % 2 == 0 { "out" } else { "out.safetensors" };
        let e = apply_lazily(&site, out, 1 + at % 3).err().unwrap_or_else(|| panic!("byte {at} is not missed"));
        assert_eq!(e.exit_code(), 4, "byte {at}: {e}");
        assert_eq!(site.names(), before, "byte {at}");
    }
}

#[test]
fn a_damaged_carried_file_leaves_a_folder_behind() {
    let (base, tuned) = Good::codebook_models();
    let site = Site::new(&base);
    let (from, to) = folders(&site);
    let mut how = options(sparse("0.1", ValueKind::Codebook));
    (how.new_tensors, how.carry_files) = (NewTensors::Carry, true);
    stitchpack::create(&from, &to, &site.pack_path("p"), &how).unwrap();
    drop(tuned);
    let identity = from.identity(&workers(1)).unwrap();
    let apply = |out: &str| {
        let pack = OpenedPack::open(site.pack_path("p"))?.verify_as_read().bind(&identity)?;
        let model = StitchedModel::new(&from, vec![Layer { pack, weight: 1.0 }], &merge(OverlapRule::Average, 1.0))?;
        stitchpack::apply(&model, &identity, &site.path(out), &ApplyOptions::default())
    };
    apply("fine").unwrap();
    let carried = std::fs::read(site.path("fine/tokenizer.json")).unwrap();
    assert_eq!(carried, b"{\"a\": [1, 2, 3]}");
    let mut pack = site.pack_bytes("p");
    let at = pack.windows(carried.len()).position(|w| w == carried).expect("the small file is stored plain");
    pack[at] ^= 0x20;
    std::fs::write(site.pack_path("p"), &pack).unwrap();
    let before = site.names();
    let e = apply("out").unwrap_err();
    assert_eq!(e.exit_code(), 4, "{e}");
    assert!(e.to_string().contains("file section 0"), "the section is named: {e}");
    assert_eq!(site.names(), before);
}

/// A pack that changes after it was opened is read again, and hashed again. [DIG-2]
#[test]
fn a_section_that_changes_after_verifying_is_used() {
    let (base, tuned) = Good::sign_models();
    let site = Site::new(&base);
    site.create("p", &tuned, &options(sparse("0.1", ValueKind::Sign))).unwrap();
    let bound = site.bind("p").unwrap();
    let mut bytes = site.pack_bytes("p");
    bytes[104] ^= 1;
    // In place: the open file is this one.
    std::fs::write(site.pack_path("p"), &bytes).unwrap();
    let layers = vec![Layer { pack: bound, weight: 1.0 }];
    let model = StitchedModel::new(&site.base, layers, &merge(OverlapRule::Average, 1.0)).unwrap();
    let options = ApplyOptions { workers: workers(1), ..ApplyOptions::default() };
    let applied = stitchpack::apply(&model, &site.identity, &site.path("out.safetensors"), &options);
    match applied {
        Err(e) => assert_eq!(e.exit_code(), 4, "{e}"),
        // A section that was kept in memory is the one that was hashed.
        Ok(_) => {
            let found = Model::read(&std::fs::read(site.path("out.safetensors")).unwrap());
            bytes[104] ^= 1;
            std::fs::write(site.pack_path("p"), &bytes).unwrap();
            std::fs::remove_file(site.path("out.safetensors")).unwrap();
            let expected = Model::read(&site.apply_file(&[("p", 1.0)], &merge(OverlapRule::Average, 1.0)).unwrap());
            assert_eq!(found, expected);
        }
    }
}
