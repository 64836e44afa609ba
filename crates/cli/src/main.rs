//! The command `stitchpack`: one file a command. Everything it does goes through the public API of the library.

mod apply;
mod create;
mod diff;
mod eval;
mod export;
mod fold;
mod inspect;
mod inspect_html;
mod inspect_view;
mod overlap;
mod say;
mod verify;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::builder::TypedValueParser;
use clap::{CommandFactory, Parser, Subcommand};
use stitchpack::{Checkpoint, Error, Result, VerifiedPack, Workers};

use say::{Bar, Say};

/// Ship, store and load many fine-tunes of one base model as small, verified stitch packs.
#[derive(Parser)]
#[command(name = "stitchpack", version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// Options of every command.
#[derive(clap::Args)]
pub struct Global {
    /// Print one JSON document on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print more about what is done
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Number of threads [default: one a core]
    #[arg(long, global = true, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Read checkpoints by system calls instead of mapping them (network file systems, files that others may change)
    #[arg(long, global = true)]
    no_mmap: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 done, or yes; 2 usage; 3 malformed; 4 integrity (a digest does not match); 5 wrong base; \
6 refused (a limit, a policy, an overlap under refuse); 7 IO; 8 a version or feature newer than this reader; 70 a bug; 130 interrupted.";

#[derive(Subcommand)]
enum Command {
    Create(Box<create::Args>),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Apply(apply::Args),
    Lock(apply::LockArgs),
    Fold(fold::Args),
    Export(export::Args),
    Overlap(overlap::Args),
    Diff(diff::Args),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages to a folder
    Man {
        /// The folder
        folder: std::path::PathBuf,
    },
}

/// Set when the person asks to stop.
static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Whether standard input was read.
static READ: AtomicBool = AtomicBool::new(false);

/// Set while standard input is waited for; nothing has been written then.
static WAITING: AtomicBool = AtomicBool::new(false);

/// Asks the work to stop. Reading standard input cannot be asked, and whoever interrupts twice does not want to wait: then the
/// process ends at once, and what is unfinished is removed by a later run.
fn interrupted() {
    if CANCELLED.swap(true, Ordering::Relaxed) || WAITING.load(Ordering::Relaxed) {
        eprintln!("error: {}", Error::Interrupted);
        std::process::exit(130);
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // A closed pipe is no error, and there is nobody left to tell.
            drop(e.print());
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    // Without a handler an interrupt still ends the process, and leaves only what a later run removes.
    drop(ctrlc::set_handler(interrupted));
    let say = Say::new(cli.global.json, cli.global.quiet);
    match run(cli.command, &cli.global, &say).and_then(|()| Ok(say.finish()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failures { errors, packs }) => {
            say.errors(&errors, &packs);
            ExitCode::from(errors.first().map_or(70, Error::exit_code))
        }
    }
}

/// Why the command failed: of several reasons, as `verify` may have, the first is the exit code's.
struct Failures {
    errors: Vec<Error>,
    /// For `--json`, what `verify` found of each pack; empty elsewhere.
    packs: Vec<serde_json::Value>,
}

impl From<Error> for Failures {
    fn from(error: Error) -> Self {
        Failures { errors: vec![error], packs: Vec::new() }
    }
}

fn run(command: Command, global: &Global, say: &Say) -> std::result::Result<(), Failures> {
    match command {
        Command::Create(args) => Ok(create::run(*args, global, say)?),
        Command::Inspect(args) => Ok(inspect::run(args, global, say)?),
        Command::Verify(args) => verify::run(args, global, say),
        Command::Apply(args) => Ok(apply::run(args, global, say)?),
        Command::Lock(args) => Ok(apply::run_lock(args, global, say)?),
        Command::Fold(args) => Ok(fold::run(args, global, say)?),
        Command::Export(args) => Ok(export::run(args, global, say)?),
        Command::Overlap(args) => Ok(overlap::run(args, global, say)?),
        Command::Diff(args) => Ok(diff::run(args, global, say)?),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "stitchpack", &mut out);
            say.raw(&out);
            Ok(())
        }
        Command::Man { folder } => {
            let io = |source| Error::Io { path: folder.clone(), source };
            std::fs::create_dir_all(&folder).map_err(io)?;
            Ok(clap_mangen::generate_to(Cli::command(), &folder).map_err(io)?)
        }
    }
}

impl Global {
    /// Threads and progress.
    fn workers(&self) -> Workers {
        let shown = !self.quiet && !self.json && std::io::stderr().is_terminal();
        Workers::new(self.threads, Arc::new(Bar::new(shown, &CANCELLED)))
    }

    /// Opens a checkpoint, mapped unless that was declined.
    fn checkpoint(&self, path: &Path) -> Result<Checkpoint> {
        if self.no_mmap {
            return Checkpoint::open(path);
        }
        #[expect(unsafe_code, reason = "the command line takes the risk of mapping, and --no-mmap declines it")]
        // SAFETY: whoever runs the command keeps the files as they are meanwhile; the manual says so.
        let mapped = unsafe { Checkpoint::map(path) };
        mapped
    }
}

/// The path of an output. Whatever is written is whole or absent, which a stream cannot be, and results are on standard output already.
fn output() -> impl TypedValueParser<Value = std::path::PathBuf> {
    clap::builder::PathBufValueParser::new().try_map(|path| match path == Path::new("-") {
        true => Err("nothing is written to standard output; name a file, or ./- for one of that name"),
        false => Ok(path),
    })
}

/// Opens a pack from a file, or from standard input for `-`.
fn open_pack(path: &Path) -> Result<stitchpack::OpenedPack> {
    if path == Path::new("-") {
        let limits = stitchpack::Limits::default();
        if READ.swap(true, Ordering::Relaxed) {
            return Err(Error::InvalidInput("`-` is named twice, but standard input can be read once".into()));
        }
        WAITING.store(true, Ordering::Relaxed);
        let opened = stitchpack::OpenedPack::from_stream(std::io::stdin().lock(), 1 << 30, &limits);
        WAITING.store(false, Ordering::Relaxed);
        return opened.map_err(|e| match e {
            Error::Io { .. } => e,
            e => Error::InFile { path: path.to_owned(), source: Box::new(e) },
        });
    }
    stitchpack::OpenedPack::open(path)
}

/// Opens packs whose sections are checked when they are read.
fn open_packs(paths: &[std::path::PathBuf]) -> Result<Vec<VerifiedPack>> {
    let paths: Vec<&Path> = paths.iter().map(std::path::PathBuf::as_path).collect();
    if paths.contains(&Path::new("-")) {
        return paths.into_iter().map(|p| Ok(open_pack(p)?.verify_as_read())).collect();
    }
    VerifiedPack::open_all(&paths, &Workers::default())
}

/// Opens the base of packs and checks that it is theirs, as far as they touch it.
fn base_of(packs: &[VerifiedPack], path: Option<&Path>, global: &Global) -> Result<Option<Checkpoint>> {
    let Some(path) = path else { return Ok(None) };
    let base = global.checkpoint(path)?;
    let touched: std::collections::HashSet<String> =
        packs.iter().flat_map(VerifiedPack::tensors).map(|t| t.name).collect();
    let check = stitchpack::checkpoint::BaseCheck::Touched;
    let identity = base.identity_with(check, &|name| touched.contains(name), &global.workers())?;
    packs.iter().try_for_each(|pack| pack.check_base(&identity))?;
    Ok(Some(base))
}
