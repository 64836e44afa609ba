//! spec/reports.md against what the command prints: every field that is printed is in the page with its type, and every field
//! of the page is printed by some run below.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;
use support::{Lab, Ran, Tensor, base_model, reseal, tuned_model};

/// Field → type, for each section of the page.
type Page = BTreeMap<String, BTreeMap<String, String>>;

const EVERY: &str = "Every document";
const FAILURE: &str = "A failure";

fn text() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/reports.md")).unwrap()
}

/// Tables of three columns whose first cell is code, under the heading's words or the commands that it names.
fn page() -> Page {
    let mut page = Page::new();
    for section in text().split("\n## ").skip(1) {
        let (heading, body) = section.split_once('\n').unwrap();
        let quoted: Vec<&str> = heading.split('`').skip(1).step_by(2).collect();
        let names = if quoted.is_empty() { vec![heading] } else { quoted };
        let rows = body.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>()).filter(|cells| cells.len() == 5);
        let fields: BTreeMap<String, String> =
            cells.map(|cells| (cells[1].trim_matches('`').to_string(), cells[2].to_string())).collect();
        names.iter().for_each(|name| drop(page.insert((*name).into(), fields.clone())));
    }
    page
}

/// What was printed of the fields of each section.
#[derive(Default)]
struct Seen(BTreeMap<String, BTreeSet<String>>);

impl Seen {
    /// Looks at all of a document.
    fn look(&mut self, page: &Page, document: &Value) {
        let command = document["command"].as_str().unwrap_or("");
        for (name, value) in document.as_object().unwrap() {
            let section = match name.as_str() {
                "schema" | "command" | "ok" => EVERY,
                "error" => FAILURE,
                _ => command,
            };
            self.field(page, section, name, value);
        }
    }

    fn field(&mut self, page: &Page, section: &str, name: &str, value: &Value) {
        let kind = page.get(section).and_then(|fields| fields.get(name));
        let kind = kind.unwrap_or_else(|| panic!("{section}: `{name}` is not in spec/reports.md: {value}"));
        self.0.entry(section.into()).or_default().insert(name.into());
        self.value(page, section, name, kind, value);
    }

    fn value(&mut self, page: &Page, section: &str, name: &str, kind: &str, value: &Value) {
        let wrong = format!("{section}: `{name}` is {value}, the page says {kind}");
        if let Some(kind) = kind.strip_suffix(" or null") {
            if !value.is_null() {
                self.value(page, section, name, kind, value);
            }
            return;
        }
        if let Some(kind) = kind.strip_prefix("array of ") {
            let items = value.as_array().expect(&wrong);
            let place = if kind == "object" { format!("{name}[]") } else { name.to_string() };
            return items.iter().for_each(|item| self.value(page, section, &place, kind, item));
        }
        if let Some(kind) = kind.strip_prefix("map of ") {
            let map = value.as_object().expect(&wrong);
            return map.values().for_each(|item| self.value(page, section, name, kind, item));
        }
        let fits = match kind {
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "object" | "error" | "recipe" => value.is_object(),
            other => panic!("spec/reports.md: {other} is no type"),
        };
        assert!(fits, "{wrong}");
        let section = if kind == "error" { FAILURE } else { section };
        let name = if kind == "error" { "error" } else { name };
        for (key, inner) in value.as_object().filter(|_| kind != "recipe").into_iter().flatten() {
            self.field(page, section, &format!("{name}.{key}"), inner);
        }
    }
}

/// Folders `base` and `tuned` with a tied tensor, a new one, one that is gone, layers, and a companion file that differs.
fn folders(lab: &Lab) {
    let values = |x: f32| (0..64).map(|i| 1.0 + x * (i as f32 + 1.0)).collect::<Vec<_>>();
    let model = |x: f32| {
        let mut all = vec![
            Tensor::f32("m.layers.0.q.weight", &[8, 8], &values(x)),
            Tensor::f32("m.layers.1.q.weight", &[8, 8], &values(x * 3.0)),
            Tensor::f32("head.weight", &[8, 8], &values(x * 2.0)),
            Tensor::f32("tied.weight", &[8, 8], &values(x * 2.0)),
        ];
        all.push(Tensor::f32(if x == 0.0 { "only_in_base" } else { "new" }, &[2], &[1.0, 2.0]));
        all
    };
    lab.folder("base", &model(0.0));
    lab.folder("tuned", &model(0.01));
    lab.write("tuned/config.json", "{\"other\": 1}");
}

const RUNS: &[&str] = &[
    "create base tuned -o a.stitch --density 50% --new-tensors carry --carry-files --meta task=x --exclude m.layers.1* --include *",
    "create base tuned -o b.stitch --exact --new-tensors skip --force",
    "create base.safetensors tuned.safetensors -o e.stitch --eval ./score --keep 50%",
    "create base.safetensors tuned.safetensors --exact --dry-run",
    "fold base.safetensors exact.stitch -o folded.stitch",
    "inspect a.stitch",
    "inspect exact.stitch --base base.safetensors",
    "verify exact.stitch lossy.stitch --base base.safetensors",
    "verify lossy.stitch --base base.safetensors --base-check touched",
    "apply base.safetensors exact.stitch -o model",
    "lock base.safetensors exact.stitch",
    "export base.safetensors exact.stitch --format weight-patch -o patch.safetensors",
    "overlap exact.stitch lossy.stitch --base base.safetensors",
    "diff base tuned",
];

/// A run, its exit code and the kind of its error.
const FAILURES: &[(&str, i32, &str)] = &[
    ("verify --densty 1", 2, "usage"),
    ("nothing", 2, "usage"),
    ("overlap exact.stitch", 2, "usage"),
    ("verify noise.stitch lossy.stitch exact.stitch", 3, "malformed"),
    ("verify damaged.stitch", 4, "integrity"),
    ("verify exact.stitch --result base.safetensors --base base.safetensors", 4, "integrity"),
    ("apply tuned.safetensors exact.stitch -o o", 5, "wrong-base"),
    ("diff deep.safetensors deep.safetensors", 6, "limit"),
    ("apply base.safetensors exact.stitch lossy.stitch -o o", 6, "refused"),
    ("inspect nowhere.stitch", 7, "io"),
    ("verify newer.stitch", 8, "unsupported"),
];

fn prepared() -> Lab {
    let lab = Lab::with_packs();
    folders(&lab);
    lab.write("noise.stitch", [7; 300]);
    let mut damaged = lab.read("exact.stitch");
    damaged[150] ^= 1;
    lab.write("damaged.stitch", &damaged);
    let mut newer = lab.read("exact.stitch");
    newer[44] = 9;
    reseal(&mut newer);
    lab.write("newer.stitch", &newer);
    lab.model("deep.safetensors", &[Tensor::f32("w", &[1; 9], &[0.0])]);
    // The number of bytes that differ from the base.
    lab.write("score", "#!/bin/sh\ncmp -l base.safetensors \"$1\" | wc -l\n");
    let mut mode = std::fs::metadata(lab.path("score")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(lab.path("score"), mode).unwrap();
    lab
}

#[test]
fn a_field_that_is_printed_or_described_alone_is_found() {
    let (lab, page) = (prepared(), page());
    let mut seen = Seen::default();
    for args in RUNS {
        let document = lab.run(&format!("{args} --json")).ok().json();
        let command = args.split(' ').next().unwrap();
        assert_eq!((&document["schema"], &document["ok"]), (&1.into(), &true.into()), "{args}");
        assert_eq!(document["command"], command);
        seen.look(&page, &document);
    }
    for (args, code, kind) in FAILURES {
        let ran = lab.run(&format!("{args} --json"));
        assert_eq!(ran.code, *code, "{args}: {}", ran.stderr);
        let document = ran.json();
        assert_eq!((&document["schema"], &document["ok"]), (&1.into(), &false.into()), "{args}");
        assert_eq!((&document["error"]["kind"], &document["error"]["exit_code"]), (&(*kind).into(), &(*code).into()));
        seen.look(&page, &document);
    }
    for (section, fields) in page.iter().filter(|(section, _)| *section != "Exit codes") {
        let found = seen.0.remove(section).unwrap_or_default();
        // A fold measures nothing.
        let elsewhere = |field: &str| section == "fold" && field.starts_with("evaluation");
        let idle: Vec<_> = fields.keys().filter(|field| !found.contains(*field)).filter(|f| !elsewhere(f)).collect();
        assert!(idle.is_empty(), "{section}: the page has {idle:?}, which no run printed");
    }
}

#[test]
fn an_exit_code_that_the_page_does_not_know_is_found() {
    let text = text();
    let table = text.split("\n## Exit codes").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")).map(|row| row.split(" | ").collect::<Vec<_>>());
    let mut said: BTreeMap<(i32, String), bool> = BTreeMap::new();
    for row in rows.filter(|row| row[0].parse::<i32>().is_ok_and(|code| code > 0)) {
        let reserved = row[2].starts_with("reserved");
        said.insert((row[0].parse().unwrap(), row[1].trim_matches('`').to_string()), reserved);
    }
    for (args, code, kind) in FAILURES {
        assert_eq!(said.remove(&(*code, (*kind).to_string())).or(Some(false)), Some(false), "{args}");
    }
    let left: Vec<_> = said.into_iter().filter(|(_, reserved)| !reserved).map(|((code, _), _)| code).collect();
    assert_eq!(left, [70, 130], "a bug and an interrupt are not tried here");
}

#[test]
fn a_usage_error_with_json_is_no_document() {
    let lab = Lab::with_packs();
    let document = |args: &str| lab.run(args).refused_by_parser(&[]).json();
    let found = document("verify --json");
    assert_eq!((&found["command"], &found["error"]["kind"]), (&"verify".into(), &"usage".into()));
    assert!(found["error"]["message"].as_str().unwrap().contains("PACKS"), "{found}");
    assert_eq!(document("nothing --json")["command"], Value::Null);
    assert!(lab.run("verify").refused_by_parser(&["PACKS"]).stdout.is_empty());
    // After `--` it is a file's name.
    assert!(lab.run("overlap -- --json").refused_by_parser(&[]).stdout.is_empty());
}

/// Runs the command with arguments that need not be UTF-8.
fn run_bytes(lab: &Lab, args: &[&[u8]]) -> Ran {
    let args: Vec<&std::ffi::OsStr> = args.iter().map(|arg| std::ffi::OsStr::from_bytes(arg)).collect();
    Ran::of(&format!("{args:?}"), lab.command().args(&args).output().unwrap())
}

fn copy(lab: &Lab, from: &str, to: &[u8]) {
    std::fs::copy(lab.path(from), lab.dir.path().join(std::ffi::OsStr::from_bytes(to))).unwrap();
}

#[test]
fn a_path_that_is_not_utf8_is_a_panic() {
    let lab = Lab::with_packs();
    let (pack, base): (&[u8], &[u8]) = (b"c\xff.stitch", b"b\xff.safetensors");
    copy(&lab, "lossy.stitch", pack);
    copy(&lab, "base.safetensors", base);
    for json in [&["--json".as_bytes()][..], &[]] {
        let run = |args: &[&[u8]]| run_bytes(&lab, &[args, json].concat());
        let path = |ran: &Ran, at: &str| {
            let shown = if json.is_empty() { ran.stdout.clone() } else { ran.json().pointer(at).unwrap().to_string() };
            assert!(shown.contains("c\u{fffd}"), "{shown}");
        };
        path(&run(&[b"verify", pack]).ok(), "/packs/0/path");
        assert_eq!(run(&[b"verify", pack, b"noise"]).code, 7);
        path(&run(&[b"overlap", pack, b"lossy.stitch"]).ok(), "/packs/0");
        let made =
            run(&[b"create", base, b"tuned.safetensors", b"--exact", b"-o", b"c\xffnew.stitch", b"--force"]).ok();
        path(&made, "/path");
        path(&run(&[b"apply", base, pack, b"-o", b"c\xff.safetensors", b"--force"]).ok(), "/path");
        path(&run(&[b"lock", base, b"c\xff.stitch@0.5", b"-o", b"c\xff.json", b"--force"]).ok(), "/path");
        let patch: &[u8] = b"c\xffp.safetensors";
        path(&run(&[b"export", base, pack, b"--format", b"weight-patch", b"-o", patch, b"--force"]).ok(), "/path");
        path(&run(&[b"fold", base, pack, b"-o", b"c\xfffold.stitch", b"--force"]).ok(), "/path");
        run(&[b"inspect", pack]).ok();
    }
}

#[test]
fn a_file_name_writes_on_the_terminal() {
    let lab = Lab::with_packs();
    let name = "a\nok 000 trusted\u{1b}[31m\u{202e}\u{9b}.stitch";
    copy(&lab, "lossy.stitch", name.as_bytes());
    lab.folder("base", &base_model());
    lab.folder("tuned", &tuned_model(2));
    let runs: [&[&str]; 7] = [
        &["verify", name],
        &["overlap", name, "lossy.stitch"],
        &["apply", "base.safetensors", name, "-o", "out\n\u{1b}.safetensors"],
        &["lock", "base.safetensors", name, "-o", "lock\n\u{1b}.json"],
        &["fold", "base.safetensors", name, "-o", "fold\n\u{1b}.stitch"],
        &["export", "base.safetensors", name, "--format", "weight-patch", "-o", "x\n\u{1b}.safetensors"],
        &["create", "base", "tuned", "--exact", "-o", "made\n\u{1b}.stitch"],
    ];
    for args in runs {
        let ran = lab.run_args(args).ok();
        for (at, line) in ran.stdout.lines().chain(ran.stderr.lines()).enumerate() {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{args:?}: {line:?}");
            assert!(at == 0 || !line.starts_with("ok "), "{args:?}: a forged line {line:?}");
        }
        let out = args.iter().rev().find(|arg| arg.contains('\u{1b}') && **arg != name);
        if let Some(out) = out {
            std::fs::remove_file(lab.path(out)).unwrap();
        }
        let json = lab.run_args(&[args, &["--json"]].concat()).ok();
        assert!(!json.stdout.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')), "{:?}", json.stdout);
        json.json();
    }
    // What is noted on a pack is in the page; a file of such a name no pack can carry.
    lab.run_args(&["create", "base", "tuned", "--exact", "-o", "p.stitch", "--meta", "a=<b>\u{202e}\u{1b}x"]).ok();
    lab.run_args(&["inspect", "p.stitch", "--html", "p.html"]).ok();
    let page = String::from_utf8(lab.read("p.html")).unwrap();
    assert!(page.contains("&lt;b&gt;\\u{202e}\\u{1b}x") && !page.contains('\u{202e}'), "{page}");
}
