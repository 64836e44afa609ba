//! The command `stitchpack`: one file a command. Everything it does goes through the public API of the library.

mod apply;
mod completions;
mod console;
mod create;
mod diff;
mod eval;
mod export;
mod fold;
mod global;
mod html;
mod inspect;
mod interrupt;
mod lock;
mod man;
mod merge;
mod overlap;
mod progress;
mod terminal;
mod text;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use stitchpack::{Error, Result, Verification};

use console::Console;
use global::Global;

/// Ship, store and load many fine-tunes of one base model as small, verified stitch packs.
#[derive(Parser)]
#[command(name = "stitchpack", version, about, max_term_width = 80, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, or yes; 2 usage; 3 malformed; 4 integrity (a digest does not
match); 5 wrong base; 6 refused (a limit, a policy, an overlap under refuse);
7 IO; 8 a version or feature newer than this reader; 70 a bug; 130 interrupted.";

#[derive(Subcommand)]
enum Command {
    Create(Box<create::Args>),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Apply(apply::Args),
    Lock(lock::Args),
    Fold(fold::Args),
    Export(export::Args),
    Overlap(overlap::Args),
    Diff(diff::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Why a command failed.
enum Failed {
    Error(Error),
    /// `verify` looks at every pack, also after a failure; the first one's exit code is the command's.
    Verification(Box<Verification>),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Error(error)
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return refused_by_parser(&e),
    };
    interrupt::listen();
    let console = Console::new(cli.global.json, cli.global.quiet);
    let command = cli.command.name();
    match run(cli.command, &cli.global, &console).and_then(|()| Ok(console.finish()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => ExitCode::from(console.failed(command, &failed)),
    }
}

/// Says what is wrong with the arguments, or what was asked for by `--help` and `--version`.
fn refused_by_parser(e: &clap::Error) -> ExitCode {
    // A closed pipe is no error, and there is nobody left to tell.
    drop(e.print());
    if !e.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let args: Vec<_> = std::env::args_os().skip(1).take_while(|arg| arg != "--").collect();
    if args.iter().any(|arg| arg == "--json") {
        let names: Vec<String> = Cli::command().get_subcommands().map(|c| c.get_name().to_string()).collect();
        let command = args.iter().filter_map(|arg| arg.to_str()).find(|arg| names.iter().any(|name| name == arg));
        let text = e.render().to_string();
        let words: Vec<&str> = text.split("\n\n").next().unwrap_or(&text).split_whitespace().collect();
        let message = words.join(" ");
        let message = message.strip_prefix("error: ").unwrap_or(&message);
        Console::new(true, false).failure(command, &Error::InvalidInput(message.into()), None);
    }
    ExitCode::from(2)
}

impl Command {
    /// The name on the command line and in `--json`.
    fn name(&self) -> &'static str {
        match self {
            Command::Create(_) => "create",
            Command::Inspect(_) => "inspect",
            Command::Verify(_) => "verify",
            Command::Apply(_) => "apply",
            Command::Lock(_) => "lock",
            Command::Fold(_) => "fold",
            Command::Export(_) => "export",
            Command::Overlap(_) => "overlap",
            Command::Diff(_) => "diff",
            Command::Completions(_) => "completions",
            Command::Man(_) => "man",
        }
    }
}

fn run(command: Command, global: &Global, console: &Console) -> std::result::Result<(), Failed> {
    let done: Result<()> = match command {
        Command::Verify(args) => return verify::run(args, global, console),
        Command::Create(args) => create::run(*args, global, console),
        Command::Inspect(args) => inspect::run(args, global, console),
        Command::Apply(args) => apply::run(args, global, console),
        Command::Lock(args) => lock::run(args, global, console),
        Command::Fold(args) => fold::run(args, global, console),
        Command::Export(args) => export::run(args, global, console),
        Command::Overlap(args) => overlap::run(args, global, console),
        Command::Diff(args) => diff::run(args, global, console),
        Command::Completions(args) => completions::run(args, console),
        Command::Man(args) => man::run(args),
    };
    Ok(done?)
}
