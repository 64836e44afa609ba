//! Lies with right digests: every case of `common/lying_packs.rs` gets the one right answer, with the rule that it breaks, and
//! costs no more memory than it has earned (promise 10).
//!
//! What a case may allocate, all of it at once and counted by the allocator: 16 MiB and 64 times its own bytes.
#![allow(clippy::unwrap_used, clippy::let_underscore_must_use)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::classes;
use common::lying_packs::{self as lies, Case, Expect, Frame, Good, Parts};
use common::models::{Model, Tensor};
use common::naive;
use common::site::{Site, options, sparse};
use stitchpack::limits::Limits;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::{Error, MergeOptions, OpenedPack};

/// Counts what each thread holds, and the most that it ever held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // While a thread ends there is nothing to count with, and nothing that is asked about.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

#[allow(unsafe_code, reason = "an allocator is the only honest witness of what is allocated")]
// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // Both can be held while one is copied to the other.
        count(new as isize);
        count(-(layout.size() as isize));
        unsafe { System.realloc(at, layout, new) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` held above what was held before, in bytes.
fn spent(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    work();
    (MOST.get() - before) as usize
}

#[test]
fn the_allocator_does_not_count() {
    let most = spent(|| drop(std::hint::black_box(vec![1u8; 3 << 20])));
    assert!((3 << 20..4 << 20).contains(&most), "{most}");
}

/// All of them are told apart in one go, so that one wrong answer does not hide the next.
fn judge(cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for case in &cases {
        let mut answer = None;
        let most = spent(|| answer = case.judge());
        wrong.extend(answer);
        let earned = (16 << 20) + 64 * case.pack.len();
        if most > earned {
            wrong.push(format!("{}: held {most} bytes at once, may hold {earned}", case.name));
        }
    }
    assert!(!cases.is_empty());
    assert!(wrong.is_empty(), "{} of {} answers are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_header_lies_unseen() {
    judge(lies::h_cases(Good::packs()));
}

#[test]
fn a_manifest_lies_unseen() {
    judge(lies::m_cases(Good::packs()));
}

#[test]
fn a_tensor_row_lies_unseen() {
    judge(lies::t_cases(Good::packs()));
}

#[test]
fn a_mask_lies_unseen() {
    judge(lies::k_cases(Good::packs()));
}

#[test]
fn a_value_lies_unseen() {
    judge(lies::v_cases(Good::packs()));
}

#[test]
fn a_class_lies_unseen() {
    judge(lies::e_cases(Good::packs()));
}

/// Adapters that claim far more than they hold, and those of the fuzz target. [ADP-1] [ADP-2] [ADP-3]
#[test]
fn an_adapter_costs_what_it_has() {
    let case = |config: String, header: String| {
        let lengths = [config.len(), header.len()].map(|len| (len as u16).to_le_bytes());
        [lengths.concat(), config.into_bytes(), header.into_bytes()].concat()
    };
    let halves = |rank: u64, rows: u64, columns: u64, dtype: &str| {
        let (key, a) = ("base_model.model.long.lora_", rank * columns);
        let (one, two) = (format!("[0,{a}]"), format!("[{a},{}]", a + rows * rank));
        format!(
            r#"{{"{key}A.weight":{{"dtype":"{dtype}","shape":[{rank},{columns}],"data_offsets":{one}}},"{key}B.weight":{{"dtype":"{dtype}","shape":[{rows},{rank}],"data_offsets":{two}}}}}"#
        )
    };
    let lora = |rank: u64, more: &str| format!(r#"{{"peft_type":"LORA","r":{rank},"lora_alpha":1{more}}}"#);
    let patterns: Vec<String> = (0..4000).map(|i| format!("\"p{i}\":{i}")).collect();
    let mut cases = vec![
        case(lora(200, ""), halves(200, 2, 300, "F8_E4M3")),
        case(lora(u64::MAX, ""), halves(1 << 40, 2, 300, "F8_E4M3")),
        case(lora(1 << 40, ""), halves(1 << 40, 0, 0, "BF16")),
        case(lora(1, &format!(r#","rank_pattern":{{{}}}"#, patterns.join(","))), halves(1, 2, 300, "F8_E4M3")),
        case("[".repeat(60_000), halves(1, 2, 300, "F32")),
        case(lora(1, ""), "[".repeat(60_000)),
    ];
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/adapter")).unwrap() {
        cases.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    common::adapters::from_bytes(&cases[0]);
    for case in &cases {
        let (most, earned) = (spent(|| common::adapters::from_bytes(case)), (16 << 20) + 64 * case.len());
        assert!(most <= earned, "held {most} bytes at once, may hold {earned}: {}", String::from_utf8_lossy(case));
    }
}

/// What needs the base to be decoded is decoded as soon as one is there, and not believed before. [CLS-1]
#[test]
fn a_block_that_needs_the_base_lies_unseen() {
    type Lie = fn(&mut lies::BlockParts);
    let codes: [(&str, Lie); 2] =
        [("codes cut", |b| b.codes.truncate(b.codes.len() - 2)), ("state of the codes", |b| b.codes[5] ^= 1)];
    let masks: [(&str, Lie); 2] =
        [("mask cut", |b| b.mask.truncate(b.mask.len() - 2)), ("state of the mask", |b| b.mask[0] ^= 1)];
    let by_base = [&masks[..], &codes].concat();
    let dense = codes.to_vec();
    for (models, made, number, name, lies) in [
        (Good::by_base_models(), &Good::packs().by_base, 1, "\"b\"", by_base),
        (Good::dense_models(), &Good::packs().dense, 0, "\"w\"", dense),
    ] {
        let site = Site::new(&models.0);
        for (what, lie) in lies {
            let mut parts = Parts::of(made);
            lie(&mut parts.owns[number].blocks[0]);
            let pack = OpenedPack::from_bytes(parts.seal(), &Limits::default()).unwrap().verify().unwrap();
            assert!(pack.needs_base().unwrap());
            assert!(!pack.check_content(None).unwrap(), "{what}: the content is not checked");
            let e = pack.check_content(Some(&site.base)).expect_err(what);
            assert_eq!(e.exit_code(), 3, "{what}: {e}");
            assert!(e.to_string().contains(name), "the tensor is named: {e}");
            // Nor does it get into a model.
            std::fs::write(site.pack_path("p"), parts.seal()).unwrap();
            let before = site.names();
            let found = site.apply(&[("p", 1.0)], &MergeOptions::default(), "out", 2);
            assert_eq!(found.unwrap_err().exit_code(), 3, "{what}");
            assert_eq!(site.names(), before);
        }
        let good = OpenedPack::from_bytes(made.clone(), &Limits::default()).unwrap().verify().unwrap();
        assert!(good.check_content(Some(&site.base)).unwrap());
    }
}

/// A row that names the model of a later one is refused also where that model is at hand already. [CLS-2]
#[test]
fn the_order_of_reading_hides_a_lie() {
    let (base, _) = Good::classed_models();
    let site = Site::new(&base);
    let mut parts = Parts::of(&Good::packs().classed);
    let (a, b) = (parts.owns[0].coder.clone(), parts.owns[1].coder.clone());
    let (model, columns) = a[4..].split_at(classes::model_len(&a));
    let other = |coder: &[u8]| [&[coder[0] ^ 4][..], &coder[1..4]].concat();
    parts.owns[0].coder = [&other(&a)[..], &1u32.to_le_bytes(), columns].concat();
    parts.owns[1].coder = [&other(&b)[..], model, &b[8..]].concat();
    parts.owns[2].coder[4..8].copy_from_slice(&1u32.to_le_bytes());
    let pack = OpenedPack::from_bytes(parts.seal(), &Limits::default()).unwrap().verify_as_read();
    let pack = pack.bind(&site.identity).unwrap();
    let refused = |name: &str| pack.delta(name).unwrap().blocks().is_err();
    assert_eq!(["c", "b", "a"].map(refused), [false, false, true]);
}

#[test]
fn a_frame_lies_unseen() {
    judge(lies::c_cases(Good::packs()));
}

#[test]
fn a_digest_lies_unseen() {
    judge(lies::x_cases(Good::packs()));
}

/// The lies are told about packs that are accepted when put together again untouched.
#[test]
fn taking_apart_and_putting_together_is_itself_a_lie() {
    let good = Good::packs();
    let packs = [
        &good.sign,
        &good.exact,
        &good.codebook,
        &good.int8,
        &good.int4,
        &good.f32,
        &good.f16,
        &good.bf16,
        &good.classed,
        &good.by_base,
        &good.empty,
    ];
    let base = Good::by_base_models().0;
    for pack in packs {
        let mut parts = Parts { base: base.clone(), ..Parts::of(pack) };
        let whole = parts.clone();
        assert_eq!(parts.content_id(), parts.manifest.content, "the content id by the book");
        let again = OpenedPack::from_bytes(parts.seal(), &Limits::default()).unwrap().verify().unwrap();
        assert_eq!(again.manifest().content, parts.manifest.content);
        // Smaller blocks, plain masks: other bytes, the same content. [CID-1]
        parts.manifest.block_log2 = 10;
        let kinds: Vec<_> = lies::own_rows(&parts.manifest).map(|o| ValueKind::from_code(o.kind).unwrap()).collect();
        let rows: Vec<usize> = (0..parts.manifest.tensors.len())
            .filter(|i| matches!(parts.manifest.tensors[*i].delta, stitchpack::format::manifest::DeltaRow::Own(_)))
            .collect();
        for ((own, kind), row) in parts.owns.iter_mut().zip(kinds).zip(rows) {
            let dtype = Dtype::from_code(whole.manifest.tensors[row].dtype).unwrap();
            let kept = whole.kept_of(row, own, kind, dtype);
            let units = lies::units(&whole.manifest, row);
            own.coder.clear();
            own.blocks = (0..units.div_ceil(1024))
                .map(|i| {
                    let n = 1024.min(units - i * 1024);
                    let mine: Vec<_> = kept.iter().filter(|(p, _)| p / 1024 == i).collect();
                    let positions: Vec<u64> = mine.iter().map(|(p, _)| p % 1024).collect();
                    let codes: Vec<u64> = mine.iter().map(|(_, c)| *c).collect();
                    let (mask_codec, mask) = match positions.len() as u64 {
                        0 => return lies::BlockParts::default(),
                        k if k == n => (1, vec![]),
                        _ if i % 2 == 0 => (2, lies::bitmap(&positions, n)),
                        _ => (3, lies::gaps(&positions)),
                    };
                    let codes = lies::pack(&codes, kind, dtype);
                    lies::BlockParts { mask_codec, value_codec: 0, kept: positions.len() as u32, mask, codes }
                })
                .collect();
        }
        let again = OpenedPack::from_bytes(parts.seal(), &Limits::default()).unwrap().verify().unwrap();
        assert_eq!(again.manifest().content, whole.manifest.content);
    }
}

/// C-01: the largest block that there can be, everything kept, from hardly any bytes. What it costs is fixed by the format,
/// 2^20 units, and does not grow with what the pack claims.
#[test]
fn a_block_costs_more_than_the_largest_block() {
    let good = Good::packs();
    let n = 1u64 << 20;
    let mut parts = lies::forged(good, n, &[0], 3);
    parts.manifest.block_log2 = 20;
    parts.manifest.tensors[0].dtype = Dtype::F64.code();
    parts.manifest.tensors[0].shape = vec![n * 3];
    let frame = {
        // Steps of 1: the lowest plane is of twos, all others of zeros.
        let mut codes = vec![2u8; n as usize];
        codes.resize(8 << 20, 0);
        zstd::bulk::compress(&codes, 3).unwrap()
    };
    let block = lies::BlockParts { mask_codec: 1, value_codec: 1, kept: n as u32, mask: vec![], codes: frame };
    parts.owns[0].blocks = vec![block; 3];
    lies::own_rows_mut(&mut parts.manifest).next().unwrap().kept = n * 3;
    let pack = parts.seal();
    assert!(pack.len() < 128 << 10, "{}", pack.len());
    let most = spent(|| {
        let answer = OpenedPack::from_bytes(pack.clone(), &Limits::default()).and_then(OpenedPack::verify);
        // All of it is legal, but the content id is another's.
        assert!(matches!(answer, Err(Error::Malformed { rule: "CID-1", .. })), "{answer:?}");
    });
    assert!(most < (48 << 20) + 64 * pack.len(), "{most}");
}

/// C-01: a section that is a frame earns at most 256 bytes for each of its own.
#[test]
fn a_section_earns_more_than_its_ratio() {
    let good = Good::packs();
    for n in [1 << 20, 24 << 20u64] {
        let mut frame = Frame::zeros(n).bytes();
        // Blocks of no bytes make a frame as long as is wanted.
        let at = frame.len() - 4;
        let empty = [0u8, 0, 0].repeat((n / 256 / 3) as usize + 1);
        frame.splice(at..at, empty);
        let mut parts = Parts::of(&good.empty);
        parts.files = vec![("a".into(), frame, n)];
        let pack = parts.seal();
        let most = spent(|| {
            let answer = OpenedPack::from_bytes(pack.clone(), &Limits::default()).and_then(OpenedPack::verify);
            assert!(matches!(answer, Err(Error::Malformed { rule: "CID-1", .. })), "{answer:?}");
        });
        assert!(most < (16 << 20) + 2 * 256 * pack.len(), "{n}: {most} for {}", pack.len());
    }
}

/// T-08: a name like a path is a label.
#[test]
fn a_name_is_used_as_a_path() {
    let name = "../../escape";
    let base = Model::new(vec![Tensor::f32s(name, &[2], &[1.0, 2.0]), Tensor::f32s("/abs", &[1], &[3.0])]);
    let tuned = Model::new(vec![Tensor::f32s(name, &[2], &[1.0, 2.5]), Tensor::f32s("/abs", &[1], &[4.0])]);
    let site = Site::new(&base);
    site.create("p", &tuned, &options(stitchpack::create::Method::Exact)).unwrap();
    let before = site.names();
    site.apply(&[("p", 1.0)], &MergeOptions::default(), "out", 1).unwrap();
    assert_eq!(Model::read_folder(&site.path("out"))[name], tuned.tensors[0]);
    let after: Vec<_> = site.names().into_iter().filter(|n| n != "out").collect();
    assert_eq!(before, after);
    assert!(!site.root().parent().unwrap().join("escape").exists());
}

/// T-10, K-09: what looks odd and is legal.
#[test]
fn a_scalar_or_an_empty_tensor_is_refused() {
    let base = Model::new(vec![
        Tensor::f32s("scalar", &[], &[1.0]),
        Tensor::f32s("none", &[0, 7], &[]),
        Tensor::f32s("one", &[1, 1, 1, 1, 1, 1, 1, 1], &[1.0]),
    ]);
    let mut tuned = base.clone();
    tuned.tensors[0] = Tensor::f32s("scalar", &[], &[-1.0]);
    tuned.tensors[2].bytes = 2f32.to_le_bytes().to_vec();
    let site = Site::new(&base);
    for (name, method) in [("exact", stitchpack::create::Method::Exact), ("lossy", sparse("1", ValueKind::Int8))] {
        site.create(name, &tuned, &options(method)).unwrap();
        let found = Model::read(&site.apply_file(&[(name, 1.0)], &MergeOptions::default()).unwrap());
        assert_eq!(found, tuned, "{name}");
    }
}

/// A carried tensor without elements has no table and no bytes; the pack must still open.
#[test]
fn a_pack_that_carries_only_an_empty_tensor_does_not_open() {
    let base = Model::new(vec![Tensor::f32s("a", &[1], &[1.0])]);
    let mut tuned = base.clone();
    tuned.tensors.push(Tensor::f32s("nothing", &[0], &[]));
    let site = Site::new(&base);
    let mut carry = options(stitchpack::create::Method::Exact);
    carry.new_tensors = stitchpack::create::NewTensors::Carry;
    site.create("p", &tuned, &carry).unwrap();
    let found = Model::read(&site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap());
    assert_eq!(found, tuned);
}

/// V-10, V-11: the largest scale times the largest code is no number, or none that the tensor can hold.
#[test]
fn an_attacked_scale_makes_infinities() {
    let base = Model::new(vec![lies::f32_tensor("w", &[10, 33], |i| i as f32)]);
    let tuned = Model::new(vec![lies::f32_tensor("w", &[10, 33], |i| i as f32 + (i % 5) as f32 / 8.0)]);
    let site = Site::new(&base);
    site.create("p", &tuned, &options(sparse("0.3", ValueKind::Int8))).unwrap();
    let mut parts = Parts::of(&site.pack_bytes("p"));
    parts.owns[0].floats[0] = f32::MAX;
    std::fs::write(site.pack_path("p"), parts.seal_with_content()).unwrap();
    let before = site.names();
    for out in ["out", "out.safetensors"] {
        let e = site.apply(&[("p", 1.0)], &MergeOptions::default(), out, 2).unwrap_err();
        assert_eq!(e.exit_code(), 6, "{e}");
        assert!(e.to_string().contains("\"w\""), "{e}");
        assert_eq!(site.names(), before, "nothing is left behind");
    }
}

/// Steps on a float tensor in a pack that is not exact: legal, never written by us. No gain amplifies them. [GAI-2] [STI-6]
#[test]
fn steps_in_a_lossy_pack_are_amplified() {
    let (base, tuned) = (
        Model::new(vec![Tensor::f32s("t", &[3], &[1.0, -0.0, 3.0])]),
        Model::new(vec![Tensor::f32s("t", &[3], &[1.5, 0.0, f32::NAN])]),
    );
    let site = Site::new(&base);
    site.create("p", &tuned, &options(stitchpack::create::Method::Exact)).unwrap();
    let mut parts = Parts::of(&site.pack_bytes("p"));
    (parts.manifest.all_steps, parts.manifest.exact, parts.manifest.gain) = (false, false, 3.0);
    std::fs::write(site.pack_path("p"), parts.seal_with_content()).unwrap();
    let found = Model::read(&site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap());
    assert_eq!(found.tensors[0].units(), tuned.tensors[0].units());
}

/// T-17, K-10: right digests, another tensor: the wrong base, not silence.
#[test]
fn a_renamed_dtype_or_a_transposed_shape_binds() {
    let base = Model::new(vec![Tensor::f32s("t", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    let tuned = Model::new(vec![Tensor::f32s("t", &[2, 3], &[1.0, 2.0, 3.0, 4.5, 5.0, 6.0])]);
    let site = Site::new(&base);
    site.create("p", &tuned, &options(stitchpack::create::Method::Exact)).unwrap();
    let bytes = site.pack_bytes("p");
    let edits: [fn(&mut Parts); 4] = [
        |p| p.manifest.tensors[0].dtype = Dtype::I32.code(),
        |p| p.manifest.tensors[0].shape = vec![3, 2],
        |p| p.manifest.tensors[0].name = "u".into(),
        |p| lies::own_rows_mut(&mut p.manifest).next().unwrap().base = Some(naive::digest("tensor", b"other")),
    ];
    for (i, edit) in edits.into_iter().enumerate() {
        let mut parts = Parts::of(&bytes);
        edit(&mut parts);
        let pack = OpenedPack::from_bytes(parts.seal_with_content(), &Limits::default()).unwrap();
        let e = pack.verify().unwrap().bind(&site.identity).unwrap_err();
        assert_eq!(e.exit_code(), 5, "edit {i}: {e}");
    }
}

/// What a file says is escaped before a terminal sees it.
#[test]
fn an_error_moves_the_cursor() {
    let good = Good::packs();
    for case in lies::all(good).iter().filter(|c| c.expect != Expect::Accepted) {
        let answer = OpenedPack::from_bytes(case.pack.clone(), &Limits::default()).and_then(OpenedPack::verify);
        let text = answer.map(drop).unwrap_err().to_string();
        let odd = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
        assert!(!text.contains(odd), "{}: {text:?}", case.name);
        assert!(text.len() < 1000, "{}: {} bytes of error", case.name, text.len());
    }
}
