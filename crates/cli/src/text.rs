//! Sentences, numbers and texts that both views use.

use std::path::Path;

use stitchpack::error::Escaped;
use stitchpack::report::inspect::{Inspection, TensorReport};

/// How the pack was made, in a sentence.
pub fn made_by(i: &Inspection) -> String {
    let origin = &i.origin;
    let mut parts = vec![Escaped(&origin.localizer).to_string()];
    if !origin.scope.is_empty() {
        parts.push(format!("scope {}", Escaped(&origin.scope)));
    }
    parts.extend(origin.density.map(|d| format!("density {}", percent(d))));
    let kinds: Vec<&str> = i.bytes.values.iter().map(|v| v.name.as_str()).collect();
    if !kinds.is_empty() {
        parts.push(format!("values {}", kinds.join(" and ")));
    }
    if i.gain != 1.0 {
        parts.push(format!("gain {} (rescale {})", i.gain, Escaped(&origin.rescale)));
    }
    parts.join(", ")
}

/// What applying the pack gives.
pub fn outcome(i: &Inspection) -> String {
    match (i.exact, i.all_steps, i.origin.energy) {
        (true, ..) => "exact: applied alone, it gives the whole fine-tuned model bit for bit".into(),
        (false, true, _) => {
            "steps: what it touches is stored exactly, but not all of the fine-tuned model is in it".into()
        }
        (false, false, Some(e)) => {
            format!("lossy: what is kept holds {} of the squared norm of all deltas", percent(e))
        }
        (false, false, None) => "lossy".into(),
    }
}

/// How much is kept.
pub fn keeps(i: &Inspection) -> String {
    let t = &i.totals;
    let mut text = format!("{} weights in {}", count(t.kept), counted(t.tensors, "tensor"));
    if let Some(density) = t.density {
        text.push_str(&format!(": {} of {} candidates", percent(density), count(t.candidates)));
    }
    if t.same_as > 0 {
        text.push_str(&format!("; {} tensors are the same as another", count(t.same_as)));
    }
    if t.carried > 0 {
        text.push_str(&format!("; {} tensors carried whole", count(t.carried)));
    }
    text
}

/// What a kept weight costs, and the floor, in two sentences.
pub fn cost(i: &Inspection) -> Vec<String> {
    let c = &i.cost;
    let (Some(mask), Some(values), Some(tables), Some(rest)) = (c.mask, c.values, c.tables, c.rest) else {
        return Vec::new();
    };
    let all = mask + values + tables + rest;
    let mut out = vec![format!(
        "a kept weight: {all:.2} bits = mask {mask:.2} + values {values:.2} + tables {tables:.2} + rest {rest:.2}"
    )];
    if let (Some(one), Some(each)) = (c.floor_one_density, c.floor_by_tensor) {
        out.push(format!("floor of its mask: {one:.2} bits knowing the density, {each:.2} knowing each tensor's"));
    }
    out
}

/// Units kept, carried and borrowed ones too.
pub fn kept_in_all(i: &Inspection) -> u64 {
    i.tensors.iter().map(|t| t.kept).sum()
}

/// The tensors with the most kept units.
pub fn largest(i: &Inspection, most: usize) -> Vec<&TensorReport> {
    let mut all: Vec<_> = i.tensors.iter().filter(|t| t.kept > 0).collect();
    all.sort_by_key(|t| std::cmp::Reverse(t.kept));
    all.truncate(most);
    all
}

/// Bits of mask and codes that a kept weight of a tensor takes; none for a tensor that borrows.
pub fn bits_of(t: &TensorReport) -> Option<f64> {
    (t.same_as.is_none() && t.kept > 0).then(|| (t.mask_bytes + t.value_bytes) as f64 * 8.0 / t.kept as f64)
}

/// A share from 0 to 1 in at most 7 characters, `<0.01 %` for the smallest.
pub fn percent(share: f64) -> String {
    let x = share * 100.0;
    match x {
        _ if x == 0.0 => "0 %".into(),
        _ if x < 0.01 => "<0.01 %".into(),
        _ if x < 0.995 => format!("{x:.2} %"),
        _ if x < 99.95 => format!("{x:.1} %"),
        _ => format!("{x:.0} %"),
    }
}

/// A share in percent, without the sign, in at most 4 characters.
pub fn short_percent(share: f64) -> String {
    match share * 100.0 {
        x if x >= 99.95 => format!("{x:.0}"),
        x if x >= 0.095 || x == 0.0 => format!("{x:.1}"),
        x if x >= 0.01 => format!("{x:.2}").trim_start_matches('0').into(),
        _ => "<.01".into(),
    }
}

/// A magnitude in two digits: plain where that is short, with an exponent where not.
pub fn magnitude(x: f64) -> String {
    match x {
        _ if x == 0.0 => "0".into(),
        _ if (0.01..1000.0).contains(&x) => format!("{:.*}", if x < 1.0 { 3 } else { 1 }, x),
        _ => format!("{x:.1e}"),
    }
}

/// All of a text, safe for a terminal.
pub fn escaped(text: &str) -> String {
    text.chars().map(|c| Escaped(c.encode_utf8(&mut [0; 4])).to_string()).collect()
}

/// Cuts the middle out of a text that is too long.
pub fn elide(text: &str, width: usize) -> String {
    let n = text.chars().count();
    if n <= width {
        return text.to_string();
    }
    let head = width.saturating_sub(1) / 3;
    let tail = width.saturating_sub(1) - head;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(n - tail).collect();
    format!("{start}…{end}")
}

/// Cuts the start off a text that is too long: in the name of a tensor the end tells more.
pub fn ending(text: &str, width: usize) -> String {
    let n = text.chars().count();
    if n <= width {
        return text.to_string();
    }
    let end: String = text.chars().skip(n + 1 - width.max(1)).collect();
    format!("…{end}")
}

/// Breaks a text into lines, between words where it can.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let used = lines.last().map_or(0, |l| l.chars().count());
            let gap = usize::from(used > 0);
            if used + gap + word.len() <= width {
                if let Some(line) = lines.last_mut() {
                    line.extend(std::iter::repeat_n(' ', gap).chain(word));
                }
                break;
            }
            if used > 0 {
                lines.push(String::new());
                continue;
            }
            let rest = word.split_off(width);
            if let Some(line) = lines.last_mut() {
                line.extend(word);
            }
            lines.push(String::new());
            word = rest;
        }
    }
    lines
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
pub fn fine_percent(share: f64) -> String {
    let p = share * 100.0;
    if p >= 10.0 { format!("{p:.1} %") } else { format!("{p:.3} %") }
}

/// A list of names for a remark: the first few, escaped.
pub fn names(list: &[String]) -> String {
    let first: Vec<String> = list.iter().take(5).map(|n| format!("\"{}\"", Escaped(n))).collect();
    let more = list.len().saturating_sub(5);
    if more > 0 { format!("{} and {more} more", first.join(", ")) } else { first.join(", ") }
}

/// A path, safe for a terminal.
pub fn path_text(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let shares = [0.0, 0.00001, 0.005, 0.05, 0.9994, 0.9999, 1.0].map(percent);
        assert_eq!(shares, ["0 %", "<0.01 %", "0.50 %", "5.0 %", "99.9 %", "100 %", "100 %"]);
        let shares = [0.0, 0.00001, 0.0005, 0.005, 0.05, 0.5, 1.0].map(short_percent);
        assert_eq!(shares, ["0.0", "<.01", ".05", "0.5", "5.0", "50.0", "100"]);
    }

    #[test]
    fn texts_are_cut_and_wrapped() {
        assert_eq!(elide("abcdefghij", 7), "ab…ghij");
        assert_eq!(ending("abcdefghij", 7), "…efghij");
        assert_eq!((elide("abc", 3), ending("abc", 3)), ("abc".into(), "abc".into()));
        assert_eq!(wrap("a bc def ghijklmnop q", 5), ["a bc", "def", "ghijk", "lmnop", "q"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(escaped("a\n\u{202e}b"), "a\\u{a}\\u{202e}b");
    }
}
