//! Small checkpoints, a place to put them, and a way to run the command on them. Nothing here uses the library, so that
//! what a test expects does not come from the code that it tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// One tensor: name, dtype as safetensors writes it, shape, bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Tensor {
    pub fn raw(name: &str, dtype: &str, shape: &[usize], data: Vec<u8>) -> Self {
        Tensor { name: name.into(), dtype: dtype.into(), shape: shape.to_vec(), data }
    }

    pub fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "{name}");
        Self::raw(name, "F32", shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    pub fn f64(name: &str, shape: &[usize], values: &[f64]) -> Self {
        Self::raw(name, "F64", shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    pub fn f16(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
        Self::raw(name, "F16", shape, data)
    }

    pub fn bf16(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let data = values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        Self::raw(name, "BF16", shape, data)
    }

    pub fn i64(name: &str, shape: &[usize], values: &[i64]) -> Self {
        Self::raw(name, "I64", shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    pub fn u8(name: &str, dtype: &str, shape: &[usize], values: &[u8]) -> Self {
        Self::raw(name, dtype, shape, values.to_vec())
    }

    /// The values of an F32 tensor.
    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "F32");
        self.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    pub fn named(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }
}

/// Numbers that look random and are the same every time (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From −1 to 1.
    pub fn unit(&mut self) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub fn units(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The base of most tests: five tensors of four dtypes, of which `plain` never changes.
pub fn base_model() -> Vec<Tensor> {
    let mut rng = Rng(1);
    vec![
        Tensor::bf16("a.weight", &[40, 32], &rng.units(40 * 32)),
        Tensor::f32("b.weight", &[16, 8], &rng.units(128)),
        Tensor::f16("c.bias", &[24], &rng.units(24)),
        Tensor::f32("plain", &[10], &rng.units(10)),
        Tensor::i64("ids", &[4], &[1, 2, 3, 4]),
    ]
}

/// A fine-tune of [`base_model`]: all of a, every third of b, four of c.
pub fn tuned_model(seed: u64) -> Vec<Tensor> {
    let mut rng = Rng(seed);
    let mut model = base_model();
    for t in &mut model {
        let every = match t.name.as_str() {
            "a.weight" => 1,
            "b.weight" => 3,
            "c.bias" => 6,
            _ => continue,
        };
        let n = t.shape.iter().product::<usize>();
        for i in (0..n).step_by(every) {
            let d = rng.unit() * 0.1;
            match t.dtype.as_str() {
                "BF16" => {
                    let at = t.data[i * 2..i * 2 + 2].try_into().unwrap();
                    let x = half::bf16::from_f32(half::bf16::from_le_bytes(at).to_f32() + d);
                    t.data[i * 2..i * 2 + 2].copy_from_slice(&x.to_le_bytes());
                }
                "F16" => {
                    let at = t.data[i * 2..i * 2 + 2].try_into().unwrap();
                    let x = half::f16::from_f32(half::f16::from_le_bytes(at).to_f32() + d);
                    t.data[i * 2..i * 2 + 2].copy_from_slice(&x.to_le_bytes());
                }
                _ => {
                    let at = t.data[i * 4..i * 4 + 4].try_into().unwrap();
                    let x = f32::from_le_bytes(at) + d;
                    t.data[i * 4..i * 4 + 4].copy_from_slice(&x.to_le_bytes());
                }
            }
        }
    }
    model
}

/// A safetensors file with this header text, as it stands.
pub fn raw_file(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(data);
    out
}

/// A safetensors file with its tensors in this order.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    safetensors_with(tensors, &[])
}

pub fn safetensors_with(tensors: &[Tensor], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        let map: serde_json::Map<_, _> = metadata.iter().map(|(k, v)| (k.to_string(), json!(v))).collect();
        header.insert("__metadata__".into(), map.into());
    }
    let mut data: Vec<u8> = Vec::new();
    for t in tensors {
        let at = data.len();
        data.extend(&t.data);
        let entry = json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [at, data.len()]});
        assert!(header.insert(t.name.clone(), entry).is_none(), "{} twice", t.name);
    }
    raw_file(serde_json::to_string(&header).unwrap().as_bytes(), &data)
}

/// What a model holds, by tensor name: read by the safetensors crate, from a file or from every shard of a folder.
pub fn read_model(path: &Path) -> BTreeMap<String, Tensor> {
    let files: Vec<PathBuf> = if path.is_dir() {
        let all = fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
        all.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect()
    } else {
        vec![path.to_owned()]
    };
    let mut out = BTreeMap::new();
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for (name, view) in parsed.iter() {
            let t = Tensor::raw(name, &view.dtype().to_string(), view.shape(), view.data().to_vec());
            assert!(out.insert(name.to_string(), t).is_none(), "{name} in two files");
        }
    }
    out
}

pub fn by_name(tensors: &[Tensor]) -> BTreeMap<String, Tensor> {
    tensors.iter().map(|t| (t.name.clone(), t.clone())).collect()
}

/// A folder to work in, with a digest cache of its own.
pub struct Lab {
    pub dir: tempfile::TempDir,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    pub fn new() -> Self {
        Lab { dir: tempfile::tempdir().unwrap() }
    }

    /// With `base.safetensors` and `tuned.safetensors`.
    pub fn with_pair() -> Self {
        let lab = Self::new();
        lab.model("base.safetensors", &base_model());
        lab.model("tuned.safetensors", &tuned_model(2));
        lab
    }

    /// With a pair, and the packs `exact.stitch` and `lossy.stitch` (20 %, f32 values, so no rescaling) of it.
    pub fn with_packs() -> Self {
        let lab = Self::with_pair();
        lab.run("create base.safetensors tuned.safetensors -o exact.stitch --exact").ok();
        lab.run("create base.safetensors tuned.safetensors -o lossy.stitch --density 20% --values f32").ok();
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// One safetensors file.
    pub fn model(&self, name: &str, tensors: &[Tensor]) -> PathBuf {
        self.write(name, safetensors(tensors))
    }

    /// A folder with one `model.safetensors` and a config.
    pub fn folder(&self, name: &str, tensors: &[Tensor]) -> PathBuf {
        self.write(&format!("{name}/config.json"), "{\"model_type\": \"test\"}");
        self.model(&format!("{name}/model.safetensors"), tensors);
        self.path(name)
    }

    /// A folder with shards and an index. Each shard holds the tensors of those numbers.
    pub fn sharded(&self, name: &str, tensors: &[Tensor], shards: &[&[usize]]) -> PathBuf {
        let mut map = serde_json::Map::new();
        for (i, shard) in shards.iter().enumerate() {
            let file = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
            let own: Vec<Tensor> = shard.iter().map(|j| tensors[*j].clone()).collect();
            self.model(&format!("{name}/{file}"), &own);
            map.extend(own.iter().map(|t| (t.name.clone(), json!(file))));
        }
        let total: usize = tensors.iter().map(|t| t.data.len()).sum();
        self.index(name, &json!({"metadata": {"total_size": total}, "weight_map": map}));
        self.write(&format!("{name}/config.json"), "{\"model_type\": \"test\"}");
        self.path(name)
    }

    pub fn index(&self, folder: &str, index: &Value) {
        let text = serde_json::to_string_pretty(index).unwrap();
        self.write(&format!("{folder}/model.safetensors.index.json"), text);
    }

    /// The command, in this folder and with this folder's cache.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stitchpack"));
        self.settle(&mut command);
        command
    }

    /// Gives a command this folder and its cache.
    pub fn settle(&self, command: &mut Command) {
        command.current_dir(self.dir.path()).env("STITCHPACK_CACHE", self.path(".cache")).stdin(Stdio::null());
    }

    /// Runs the command with arguments that are separated by blanks.
    pub fn run(&self, args: &str) -> Ran {
        self.run_args(&args.split_whitespace().collect::<Vec<_>>())
    }

    pub fn run_args(&self, args: &[&str]) -> Ran {
        Ran::of(&format!("{args:?}"), self.command().args(args).output().unwrap())
    }

    /// Runs the command with bytes on standard input.
    pub fn run_with_input(&self, args: &str, input: &[u8]) -> Ran {
        let mut command = self.command();
        command.args(args.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = input.to_vec();
        // The command may stop before it has read all.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Ran::of(args, output)
    }

    /// Names in a folder, sorted; the cache is left out.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let all = fs::read_dir(self.path(folder)).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = all.map(|n| n.to_string_lossy().into_owned()).filter(|n| n != ".cache").collect();
        names.sort();
        names
    }

    /// Unfinished output in a folder.
    pub fn leftovers(&self, folder: &str) -> Vec<String> {
        self.names(folder).into_iter().filter(|n| n.starts_with(".stitch-tmp-")).collect()
    }

    /// Everything below the folder but the cache, each file with a digest of what it holds: to see that a failed run
    /// changed nothing.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn walk(folder: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let kind = fs::symlink_metadata(&path).unwrap().file_type();
                if path.ends_with(".cache") {
                    continue;
                }
                if kind.is_dir() {
                    out.insert(path.clone(), Vec::new());
                    walk(&path, out);
                } else if kind.is_file() {
                    out.insert(path.clone(), fs::read(&path).unwrap());
                } else {
                    out.insert(path, Vec::new());
                }
            }
        }
        let mut out = BTreeMap::new();
        walk(self.dir.path(), &mut out);
        out
    }
}

/// How a run of the command ended.
pub struct Ran {
    pub what: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(what: &str, output: Output) -> Self {
        Ran {
            what: what.into(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It was done.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.what, self.stderr);
        self
    }

    /// It failed with this exit code, and said why as every error is said: the last line of standard error, which begins
    /// with `error: ` and a lower-case letter, a digit, a path or a quote, holds no control character and is short.
    #[track_caller]
    pub fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.what, self.stderr);
        let lines: Vec<&str> = self.stderr.lines().collect();
        let errors = lines.iter().filter(|l| !l.starts_with("warning: ")).count();
        assert_eq!(errors, 1, "{}: one line for an error\n{}", self.what, self.stderr);
        let line = self.error_line();
        assert!(line.len() <= 500, "{}: {} bytes\n{line}", self.what, line.len());
        assert!(!line.chars().any(|c| c.is_control()), "{}: {line:?}", self.what);
        self
    }

    /// It failed with this exit code, and the error says each of these.
    #[track_caller]
    pub fn fails_with(self, code: i32, words: &[&str]) -> Self {
        let ran = self.fails(code);
        for word in words {
            assert!(ran.stderr.contains(word), "{}: {word:?} is not in\n{}", ran.what, ran.stderr);
        }
        ran
    }

    /// The parser of arguments refused it: exit code 2, and the words are in what it said.
    #[track_caller]
    pub fn refused_by_parser(self, words: &[&str]) -> Self {
        assert_eq!(self.code, 2, "{}\n{}", self.what, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{}: {word:?} is not in\n{}", self.what, self.stderr);
        }
        self
    }

    /// The text of the error, without `error: `.
    #[track_caller]
    pub fn error_line(&self) -> &str {
        let line = self.stderr.lines().last().unwrap_or("");
        line.strip_prefix("error: ").unwrap_or_else(|| panic!("{}: no error line in\n{}", self.what, self.stderr))
    }

    /// Standard output as the one JSON document that it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{}: {e}\n{}", self.what, self.stdout))
    }
}

/// The fields of a command's report, after a look at what every document has.
#[track_caller]
pub fn report(document: &Value) -> Value {
    let mut fields = document.as_object().unwrap().clone();
    assert_eq!(fields.remove("schema"), Some(1.into()));
    assert!(fields.remove("command").is_some_and(|command| command.is_string()));
    assert!(fields.remove("ok").is_some_and(|ok| ok.is_boolean()));
    fields.into()
}

/// The keys of a JSON object, sorted.
pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A pack's header again with fields of another value and its digest (bytes 8 to 40) made right, as a writer of another
/// version would make it.
pub fn reseal(pack: &mut [u8]) {
    let len = u32::from_le_bytes(pack[40..44].try_into().unwrap()) as usize;
    let mut hasher = blake3::Hasher::new_derive_key("stitchpack 1 header");
    hasher.update(&pack[..8]).update(&pack[40..len]);
    pack[8..40].copy_from_slice(hasher.finalize().as_bytes());
}

/// Whether this process may do everything (then permissions stop nothing).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program is there.
pub fn has_program(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).stdout(Stdio::null()).status();
    found.is_ok_and(|s| s.success())
}

/// Makes the files of a folder look as if nobody had touched them for a while: their times cannot be set back (the system
/// keeps ctime to itself), so this waits until a fresh change would show.
pub fn wait_until_settled() {
    std::thread::sleep(std::time::Duration::from_millis(2300));
}
