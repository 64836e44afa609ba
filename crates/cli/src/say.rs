//! Data on standard output, everything else on standard error.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use stitchpack::error::{Escaped, is_unprintable};
use stitchpack::{Error, Progress};

/// How the command talks.
pub struct Say {
    pub json: bool,
    quiet: bool,
    /// Why standard output could not be written, where that was no closed pipe.
    lost: Mutex<Option<std::io::Error>>,
}

impl Say {
    pub fn new(json: bool, quiet: bool) -> Self {
        Say { json, quiet, lost: Mutex::default() }
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

    /// The one JSON document of `--json`.
    pub fn document(&self, value: &serde_json::Value) {
        self.line(format!("{value:#}"));
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

    /// Why the command failed: a line for each reason on standard error, and with `--json` a document about the first, and about
    /// each pack where `verify` looked at them.
    pub fn errors(&self, errors: &[Error], packs: &[serde_json::Value]) {
        errors.iter().for_each(|e| self.stderr(&format!("error: {e}")));
        if let (true, Some(first)) = (self.json, errors.first()) {
            let mut document = serde_json::json!({"error": error_document(first)});
            if !packs.is_empty() {
                document["packs"] = packs.into();
            }
            self.document(&document);
        }
    }

    fn stderr(&self, text: &str) {
        drop(writeln!(std::io::stderr(), "{}", one_line(text)));
    }

    /// Whether standard output takes colour.
    pub fn colour(&self) -> bool {
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
    }
}

/// Text that may quote a file or an argument as one line of at most 480 bytes, which cannot move a cursor. What is too
/// long loses its middle, between two words: the end says what to do.
fn one_line(text: &str) -> String {
    const MOST: usize = 480;
    const TAIL: usize = 130;
    /// How far a space may be.
    const WORD: usize = 100;
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| if is_unprintable(c) { out.extend(c.escape_unicode()) } else { out.push(c) });
    if out.len() > MOST {
        let (end, start) = (MOST - TAIL - " … ".len(), out.len() - TAIL);
        let head = (0..=end).rev().find(|i| out.is_char_boundary(*i)).unwrap_or(0);
        let tail = (start..out.len()).find(|i| out.is_char_boundary(*i)).unwrap_or(out.len());
        let word_end = out.get(..head).and_then(|s| s.rfind(' ')).filter(|i| head - i <= WORD).unwrap_or(head);
        let word_start =
            out.get(tail - 1..).and_then(|s| s.find(' ')).filter(|i| *i <= WORD).map_or(tail, |i| tail + i);
        out.replace_range(word_end..word_start, " … ");
    }
    out
}

/// An error, for programs.
pub fn error_document(e: &Error) -> serde_json::Value {
    let mut error = serde_json::json!({"kind": e.kind(), "exit_code": e.exit_code(), "message": e.to_string()});
    match e.root() {
        Error::Malformed { rule, place, detail } => {
            error["rule"] = (*rule).into();
            error["place"] = place.clone().into();
            error["detail"] = detail.clone().into();
        }
        Error::DigestMismatch { place, expected, found } => {
            error["place"] = place.clone().into();
            error["expected"] = hex(expected).into();
            error["found"] = hex(found).into();
        }
        Error::BaseMismatch(m) => {
            error["diagnosis"] = m.diagnosis.clone().into();
            error["differing"] = m.differing.into();
            error["touched"] = m.touched.into();
            error["expected"] = hex(&m.expected).into();
            error["found"] = m.found.as_ref().map(hex).into();
            let tensors: Vec<_> = m.tensors.iter().map(|(n, w)| serde_json::json!({"name": n, "why": w})).collect();
            error["tensors"] = tensors.into();
        }
        _ => {}
    }
    error
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A progress bar with bytes, rate and time left, where somebody is looking.
pub struct Bar {
    shown: bool,
    cancelled: &'static AtomicBool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    pub fn new(shown: bool, cancelled: &'static AtomicBool) -> Self {
        Bar { shown, cancelled, bar: Mutex::new(None) }
    }
}

impl Progress for Bar {
    fn stage(&self, name: &'static str, total: u64) {
        if !self.shown {
            return;
        }
        let template = "{msg:>18} {wide_bar:.cyan/blue} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        bar.set_message(name);
        let old = self.bar.lock().ok().and_then(|mut slot| slot.replace(bar));
        old.iter().for_each(ProgressBar::finish_and_clear);
    }

    fn advance(&self, bytes: u64) {
        if let (true, Ok(slot)) = (self.shown, self.bar.lock()) {
            slot.iter().for_each(|bar| bar.inc(bytes));
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Ok(mut slot) = self.bar.lock() {
            slot.take().iter().for_each(ProgressBar::finish_and_clear);
        }
    }
}

/// Bytes as a person reads them; 1 MB is 1,000,000 bytes.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=999 => format!("{bytes} B"),
        1_000..=999_999 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A count with a comma for every three digits.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// How many of something there are.
pub fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A share as a percentage with three significant digits or so.
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    if p >= 10.0 { format!("{p:.1} %") } else { format!("{p:.3} %") }
}

/// A list of names for a remark: the first few, escaped.
pub fn names(list: &[String]) -> String {
    let first: Vec<String> = list.iter().take(5).map(|n| format!("\"{}\"", Escaped(n))).collect();
    let more = list.len().saturating_sub(5);
    if more > 0 { format!("{} and {more} more", first.join(", ")) } else { first.join(", ") }
}
