//! `stitchpack create --eval COMMAND --keep SHARE`: the user's own measure decides how large a pack has to be.

use std::path::Path;
use std::process::{Command, Stdio};

use stitchpack::create::CreateOptions;
use stitchpack::create::by_eval::{Smallest, smallest};
use stitchpack::error::Escaped;
use stitchpack::method::density::Density;
use stitchpack::{Checkpoint, Error, Result};

use super::console::Console;
use super::text::{fine_percent as percent, size};

/// A command that measures a model, and the share of what fine-tuning gained that a pack must keep.
#[derive(clap::Args)]
#[command(next_help_heading = "Size by evaluation")]
pub struct Eval {
    /// Make the smallest pack that this command finds good enough
    ///
    /// The shell runs the command with the path of a candidate model in place of {} or at the end. The last line of its output must be the
    /// score.
    #[arg(long = "eval", value_name = "COMMAND", conflicts_with_all = ["exact", "density", "mask", "dry_run", "after", "require_exact"])]
    command: Option<String>,
    /// Share of the gain over the base that the pack must keep [default: 95%]
    #[arg(long, value_name = "SHARE", requires = "command")]
    keep: Option<String>,
}

impl Eval {
    /// Whether anything is to be measured.
    pub fn is_asked(&self) -> bool {
        self.command.is_some()
    }

    /// Finds and writes the smallest pack that keeps enough.
    pub fn create(
        &self,
        base: &Checkpoint,
        fine_tuned: &Checkpoint,
        out: &Path,
        options: &CreateOptions,
        console: &Console,
    ) -> Result<Smallest> {
        let command = self.command.as_deref().unwrap_or_default();
        let share = self.keep.as_deref().unwrap_or("95%");
        let share: Density = share.parse().map_err(|_| {
            Error::InvalidInput(format!("--keep \"{share}\" is not a share from 0 to 1 such as 0.95 or 95%"))
        })?;
        let (numerator, denominator) = share.fraction();
        let share = numerator as f64 / denominator as f64;
        smallest(base, fine_tuned, out, options, share, &mut |path| {
            let score = measure(command, path)?;
            console.note(format!("measured {score}"));
            Ok(score)
        })
    }
}

/// Runs the command on a model; what it says on standard error passes through.
fn measure(command: &str, model: &Path) -> Result<f64> {
    let line = if command.contains("{}") { command.replace("{}", "\"$1\"") } else { format!("{command} \"$1\"") };
    let shell =
        Command::new("sh").args(["-c", &line, "sh"]).arg(model).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = shell.map_err(|source| Error::Io { path: "sh".into(), source })?;
    let model = model.to_string_lossy();
    if !output.status.success() {
        let detail = format!("the evaluation of {} ended with {}", Escaped(&model), output.status);
        return Err(Error::Refused(detail));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").trim();
    last.parse::<f64>().map_err(|_| {
        Error::Refused(format!(
            "the last line of the evaluation of {} is \"{}\", must be a number and nothing else",
            Escaped(&model),
            Escaped(last)
        ))
    })
}

/// Quality against bytes, a line a candidate.
pub fn report(found: &Smallest, console: &Console) {
    console.line(format!("measured base {}, fine-tuned {}", found.base, found.fine_tuned));
    for trial in &found.trials {
        let share = trial.pack_bytes as f64 / found.created.fine_tuned_bytes.max(1) as f64;
        let mark = if *trial == found.chosen { "  chosen" } else { "" };
        console.line(format!(
            "  {:>9} {:>8}  {}  keeps {}{mark}",
            size(trial.pack_bytes),
            percent(share),
            trial.score,
            percent(trial.kept)
        ));
    }
}
