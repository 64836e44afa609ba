//! Data on standard output, everything else on standard error.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use serde::Serialize;
use stitchpack::error::is_unprintable;
use stitchpack::report::document;
use stitchpack::{Error, Verification};

use super::Failed;

/// How the command talks.
pub struct Console {
    pub json: bool,
    quiet: bool,
    /// Why standard output could not be written, where that was no closed pipe.
    lost: Mutex<Option<std::io::Error>>,
}

impl Console {
    pub fn new(json: bool, quiet: bool) -> Self {
        Console { json, quiet, lost: Mutex::default() }
    }

    /// Bytes on standard output. A closed pipe is not an error.
    pub fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        let lost = written.err().filter(|e| e.kind() != std::io::ErrorKind::BrokenPipe);
        if let (Some(e), Ok(mut slot)) = (lost, self.lost.lock()) {
            slot.get_or_insert(e);
        }
    }

    /// Fails where results did not all reach standard output.
    pub fn finish(&self) -> Result<(), Error> {
        match self.lost.lock().ok().and_then(|mut slot| slot.take()) {
            Some(source) => Err(Error::Io { path: "standard output".into(), source }),
            None => Ok(()),
        }
    }

    /// A line of data on standard output.
    pub fn line(&self, text: impl AsRef<str>) {
        self.raw(format!("{}\n", text.as_ref()).as_bytes());
    }

    /// The one JSON document of `--json`. What could move a cursor or turn text around is escaped in it.
    fn document(&self, value: &serde_json::Value) {
        let mut out = String::new();
        for c in format!("{value:#}").chars() {
            match c {
                '\n' => out.push(c),
                c if is_unprintable(c) => {
                    c.encode_utf16(&mut [0; 2]).iter().for_each(|u| out += &format!("\\u{u:04x}"))
                }
                c => out.push(c),
            }
        }
        self.line(out);
    }

    /// A remark for the person, on standard error.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            self.stderr(text.as_ref());
        }
    }

    /// Something that may be a mistake.
    pub fn warn(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.stderr(&format!("warning: {}", text.as_ref()));
        }
    }

    /// The report of a command that succeeded, as the one JSON document.
    pub fn report(&self, command: &str, report: &impl Serialize) -> Result<(), Error> {
        self.document(&document::success(command, report)?);
        Ok(())
    }

    /// Why the command failed: a line for each reason on standard error, with `--json` one document. Gives the exit code.
    pub fn failed(&self, command: &str, failed: &Failed) -> u8 {
        let (errors, report): (Vec<&Error>, _) = match failed {
            Failed::Error(e) => (vec![e], None),
            Failed::Verification(found) => (found.errors().collect(), Some(&**found)),
        };
        errors.iter().for_each(|e| self.stderr_error(e));
        if let (true, Some(first)) = (self.json, errors.first()) {
            self.failure(Some(command), first, report);
        }
        errors.first().map_or(70, |e| e.exit_code())
    }

    /// The document of a failure.
    pub fn failure(&self, command: Option<&str>, error: &Error, report: Option<&Verification>) {
        match document::failure(command, error, report) {
            Ok(document) => self.document(&document),
            Err(e) => self.stderr_error(&e),
        }
    }

    fn stderr_error(&self, e: &Error) {
        // What to do is never cut.
        let tail = match e.root() {
            Error::BaseMismatch(m) => m.advice.len() + 2,
            _ => 0,
        };
        drop(writeln!(std::io::stderr(), "{}", one_line(&format!("error: {e}"), tail)));
    }

    fn stderr(&self, text: &str) {
        drop(writeln!(std::io::stderr(), "{}", one_line(text, 0)));
    }

    /// Whether standard output takes colour.
    pub fn colour(&self) -> bool {
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
    }
}

/// Text that may quote a file or an argument as one line of at most 480 bytes, which cannot move a cursor. What is too
/// long loses its middle, between two words: the end, of at least `tail` bytes, says what to do.
fn one_line(text: &str, tail: usize) -> String {
    const MOST: usize = 480;
    const TAIL: usize = 130;
    /// How far a space may be.
    const WORD: usize = 100;
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| if is_unprintable(c) { out.extend(c.escape_unicode()) } else { out.push(c) });
    if out.len() > MOST {
        let kept = tail.clamp(TAIL, MOST - TAIL);
        let (end, start) = (MOST - kept - " … ".len(), out.len() - kept);
        let head = (0..=end).rev().find(|i| out.is_char_boundary(*i)).unwrap_or(0);
        let tail = (start..out.len()).find(|i| out.is_char_boundary(*i)).unwrap_or(out.len());
        let word_end = out.get(..head).and_then(|s| s.rfind(' ')).filter(|i| head - i <= WORD).unwrap_or(head);
        let word_start =
            out.get(tail - 1..).and_then(|s| s.find(' ')).filter(|i| *i <= WORD).map_or(tail, |i| tail + i);
        out.replace_range(word_end..word_start, " … ");
    }
    out
}
