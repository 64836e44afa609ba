//! Options of every command, and how they open what is named.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::builder::TypedValueParser;
use stitchpack::checkpoint::BaseCheck;
use stitchpack::{Checkpoint, Error, OpenedPack, Result, VerifiedPack, Workers};

use super::interrupt::{CANCELLED, while_waiting};
use super::progress::Bar;

/// Most bytes of a pack on standard input.
const MOST_INPUT: u64 = 1 << 30;

/// Options of every command.
#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more about what is done
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Number of threads [default: one per core]
    #[arg(long, global = true, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Read checkpoints instead of mapping them, for files that may change
    #[arg(long, global = true)]
    no_mmap: bool,
}

impl Global {
    /// Threads and progress.
    pub fn workers(&self) -> Workers {
        let shown = !self.quiet && !self.json && std::io::stderr().is_terminal();
        Workers::new(self.threads, Arc::new(Bar::new(shown, &CANCELLED)))
    }

    /// Opens a checkpoint, mapped unless that was declined.
    pub fn checkpoint(&self, path: &Path) -> Result<Checkpoint> {
        if self.no_mmap {
            return Checkpoint::open(path);
        }
        #[expect(unsafe_code, reason = "the command line takes the risk of mapping, and --no-mmap declines it")]
        // SAFETY: whoever runs the command keeps the files as they are meanwhile; the manual says so.
        let mapped = unsafe { Checkpoint::map(path) };
        mapped
    }

    /// Opens the base of packs and checks that it is theirs, as far as they touch it.
    pub fn base_of(&self, packs: &[VerifiedPack], path: Option<&Path>) -> Result<Option<Checkpoint>> {
        let Some(path) = path else { return Ok(None) };
        let base = self.checkpoint(path)?;
        let touched = |name: &str| packs.iter().any(|pack| pack.touches(name));
        let identity = base.identity_with(BaseCheck::Touched, &touched, &self.workers())?;
        packs.iter().try_for_each(|pack| pack.check_base(&identity))?;
        Ok(Some(base))
    }
}

/// The path of an output. Whatever is written is whole or absent, which a stream cannot be, and results are on standard output already.
pub fn output() -> impl TypedValueParser<Value = PathBuf> {
    clap::builder::PathBufValueParser::new().try_map(|path| match path == Path::new("-") {
        true => Err("cannot write to standard output; name a file, or ./- for a file of that name"),
        false => Ok(path),
    })
}

/// Opens a pack from a file, or from standard input for `-`.
pub fn open_pack(path: &Path) -> Result<OpenedPack> {
    /// Whether standard input was read.
    static READ: AtomicBool = AtomicBool::new(false);
    if path != Path::new("-") {
        return OpenedPack::open(path);
    }
    let limits = stitchpack::Limits::default();
    if READ.swap(true, Ordering::Relaxed) {
        return Err(Error::InvalidInput("`-` is named twice, but standard input can be read once".into()));
    }
    let opened = while_waiting(|| OpenedPack::from_stream(std::io::stdin().lock(), MOST_INPUT, &limits));
    opened.map_err(|e| match e {
        Error::Io { .. } => e,
        e => Error::InFile { path: path.to_owned(), source: Box::new(e) },
    })
}

/// Opens packs whose sections are checked when they are read.
pub fn open_packs(paths: &[PathBuf]) -> Result<Vec<VerifiedPack>> {
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    if paths.contains(&Path::new("-")) {
        return paths.into_iter().map(|p| Ok(open_pack(p)?.verify_as_read())).collect();
    }
    VerifiedPack::open_all(&paths, &Workers::default())
}
