//! An inspection for a terminal.
//!
//! Every text that comes from a pack goes through `Escaped` before it is cut to a width, and numbers are never cut.

mod heatmap;

use stitchpack::error::Escaped;
use stitchpack::report::inspect::Inspection;

use super::text::{self, elide, ending, escaped, magnitude, percent, wrap};
use super::text::{count, size};
use heatmap::Heatmap;

/// How to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether the terminal shows the 256 colours.
    pub colour: bool,
    /// Columns of the terminal. Lines are no wider, unless it is narrower than 72.
    pub width: usize,
}

/// Kinds of module, tensors and notes that are listed before "and more".
const MOST_ROWS: usize = 40;
const MOST_OUTSIDE: usize = 10;
const MOST_TENSORS: usize = 10;
const MOST_NOTES: usize = 20;

/// What to print.
pub fn text(inspection: &Inspection, style: &Style) -> String {
    let style = Style { width: style.width.max(72), ..*style };
    let mut page = Page { out: String::new(), style };
    page.summary(inspection);
    page.notes(inspection);
    page.bytes(inspection);
    page.layers(inspection);
    page.outside(inspection);
    page.sizes(inspection);
    page.top(inspection);
    page.out
}

/// A text under way.
struct Page {
    out: String,
    style: Style,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn heading(&mut self, text: &str) {
        let text = paint(self.style.colour, "1", text);
        let gap = if self.out.is_empty() { "" } else { "\n" };
        self.line(&format!("{gap}{text}"));
    }

    /// A name and what there is to say, wrapped.
    fn fact(&mut self, name: &str, value: &str) {
        const INDENT: usize = 14;
        let name = paint(self.style.colour, "2", &format!("{name:<width$}", width = INDENT - 2));
        for (i, row) in wrap(value, self.style.width - INDENT).iter().enumerate() {
            let lead = if i == 0 { format!("  {name}") } else { " ".repeat(INDENT) };
            self.line(&format!("{lead}{row}"));
        }
    }

    fn summary(&mut self, i: &Inspection) {
        self.heading("Stitch pack");
        self.fact("id", &i.id);
        self.fact("content id", &i.content_id);
        self.fact("base", &i.base);
        self.fact("result", i.result.as_deref().unwrap_or("not recorded"));
        self.fact("written by", &format!("{}, format {}", Escaped(&i.tool), i.format));
        self.fact("made by", &text::made_by(i));
        self.fact("outcome", &text::outcome(i));
        self.fact("keeps", &text::keeps(i));
        for (name, globs) in [("include", &i.origin.include), ("exclude", &i.origin.exclude)] {
            if !globs.is_empty() {
                let globs: Vec<String> = globs.iter().map(|g| Escaped(g).to_string()).collect();
                self.fact(name, &globs.join(" "));
            }
        }
        for file in &i.files {
            self.fact("file", &format!("{}, {}", Escaped(&file.name), size(file.bytes)));
        }
    }

    fn notes(&mut self, i: &Inspection) {
        if i.notes.is_empty() {
            return;
        }
        self.heading("Notes");
        for (key, value) in i.notes.iter().take(MOST_NOTES) {
            let key = Escaped(key).to_string();
            if key.chars().count() <= 11 {
                self.fact(&key, &escaped(value));
            } else {
                self.line(&format!("  {}", elide(&key, self.style.width - 2)));
                self.fact("", &escaped(value));
            }
        }
        self.more(i.notes.len().saturating_sub(MOST_NOTES), "notes");
    }

    fn more(&mut self, left_out: usize, what: &str) {
        if left_out > 0 {
            self.line(&format!("  and {left_out} more {what}"));
        }
    }

    fn bytes(&mut self, i: &Inspection) {
        self.heading("Where the bytes went");
        let room = self.style.width - 50;
        for (name, bytes) in i.bytes.parts() {
            let part = bytes as f64 / i.bytes.file.max(1) as f64;
            let bar = paint(self.style.colour, "36", &bar(part, room.min(30)));
            self.line(&format!("  {:<24} {:>9}  {:>7}   {bar}", elide(&name, 24), size(bytes), percent(part)));
        }
        self.line(&format!("  {:<24} {:>9}", "in all", size(i.bytes.file)));
        let width = self.style.width - 2;
        for row in text::cost(i).iter().flat_map(|sentence| wrap(sentence, width)) {
            self.line(&format!("  {row}"));
        }
    }

    fn layers(&mut self, i: &Inspection) {
        let map = Heatmap::of(i, self.style);
        let grid = &map.grid;
        if grid.rows.is_empty() {
            return;
        }
        self.heading("Density by layer and kind of module");
        self.line(&format!("  {:label$} {}", "", map.columns(), label = map.label));
        for row in &grid.rows {
            let line = map.row(row, self.style);
            self.line(&line);
        }
        self.more(grid.rows_left_out, "kinds of module");
        let legend = map.legend(self.style);
        self.line(&format!("  {legend}"));
    }

    fn outside(&mut self, i: &Inspection) {
        let modules = i.outside_layers();
        if modules.is_empty() {
            return;
        }
        self.heading("Density outside the layers");
        let label = self.style.width - 36;
        for module in modules.iter().take(MOST_OUTSIDE) {
            let name = ending(&Escaped(&module.module).to_string(), label);
            let density = module.density.unwrap_or(0.0);
            let bar = paint(self.style.colour, "36", &bar(density, 20));
            self.line(&format!("  {name:<label$} {:>7}  {bar}", percent(density)));
        }
        self.more(modules.len().saturating_sub(MOST_OUTSIDE), "tensors");
    }

    fn sizes(&mut self, i: &Inspection) {
        if let (Some(first), Some(last)) = (i.magnitudes.bins.first(), i.magnitudes.bins.last()) {
            self.heading("Kept deltas by magnitude, after scale and gain");
            let counts: Vec<u64> = i.magnitudes.bins.iter().map(|b| b.count).collect();
            self.line(&format!("  {} {} {}", magnitude(first.from), spark(&counts), magnitude(last.to)));
            self.zeros(i.magnitudes.zeros);
        }
        if !i.steps.bins.is_empty() {
            self.heading("Kept steps by length");
            let all = i.steps.count().max(1) as f64;
            for bin in &i.steps.bins {
                let part = bin.count as f64 / all;
                let bar = paint(self.style.colour, "36", &bar(part, 30));
                let name = if bin.from == bin.to { count(bin.from) } else { format!("to {}", count(bin.to)) };
                self.line(&format!("  {name:>12} {:>15} {:>8}   {bar}", count(bin.count), percent(part)));
            }
        }
    }

    fn zeros(&mut self, zeros: u64) {
        if zeros > 0 {
            self.line(&format!("  and {} that are 0 after quantizing", count(zeros)));
        }
    }

    fn top(&mut self, i: &Inspection) {
        let top = text::largest(i, MOST_TENSORS);
        if top.is_empty() {
            return;
        }
        self.heading("Tensors that keep most");
        let label = self.style.width - 43;
        let columns = format!("  {:<label$} {:>13} {:>8} {:>8} {:>7}", "", "kept", "of pack", "density", "bits");
        self.line(&paint(self.style.colour, "2", &columns));
        for tensor in top {
            let name = ending(&Escaped(&tensor.name).to_string(), label);
            let part = tensor.kept as f64 / text::kept_in_all(i).max(1) as f64;
            let density = percent(tensor.density.unwrap_or(0.0));
            let bits = text::bits_of(tensor).map_or("-".into(), |b| format!("{b:.2}"));
            let kept = count(tensor.kept);
            self.line(&format!("  {name:<label$} {kept:>13} {:>8} {density:>8} {bits:>7}", percent(part)));
        }
    }
}

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

/// A bar of a share of `width` columns, in eighths of a column; a sliver for anything above 0.
fn bar(share: f64, width: usize) -> String {
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8).copied().unwrap_or("");
    format!("{}{part}", "█".repeat(eighths / 8))
}

/// Counts as a row of small bars.
fn spark(counts: &[u64]) -> String {
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let level = |n: &u64| (*n as f64 / most * 8.0).ceil() as usize;
    counts.iter().map(|n| [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"].get(level(n)).copied().unwrap_or("█")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use stitchpack::create::{CreateOptions, Lossy, Method, create};
    use stitchpack::{Checkpoint, OpenedPack};

    /// Legal in the name of a tensor.
    pub const HOSTILE: &str = "<img src=x onerror=\"alert('1')\"> & more of a rather long name";

    /// A pack with this text in the names of its tensors and in its notes.
    pub fn sample(text: &str) -> Inspection {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = |file: &str, step: f32| {
            let names = (0..70).map(|layer| format!("m.layers.{layer}.{text}")).chain([text.to_string()]);
            let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
            for name in names {
                let start = data.len();
                data.extend((0..64).flat_map(|i| (1.0 + step * i as f32).to_le_bytes()));
                let offsets = [start, data.len()];
                header.insert(name, serde_json::json!({"dtype": "F32", "shape": [64], "data_offsets": offsets}));
            }
            let json = serde_json::to_vec(&header).unwrap();
            let path = folder.path().join(file);
            std::fs::write(&path, [&(json.len() as u64).to_le_bytes()[..], &json, &data].concat()).unwrap();
            Checkpoint::open(path).unwrap()
        };
        let (base, tuned) = (checkpoint("base.safetensors", 0.0), checkpoint("tuned.safetensors", 0.01));
        let notes = [("task".to_string(), format!("{text}\x1b[31m\n{}", "long ".repeat(40)))].into();
        let density = "0.25".parse().unwrap();
        let method = Method::Lossy(Lossy { density, ..Lossy::default() });
        let out = folder.path().join("a.stitch");
        create(&base, &tuned, &out, &CreateOptions { method, notes, ..CreateOptions::default() }).unwrap();
        stitchpack::report::inspect::inspect(&OpenedPack::open(&out).unwrap().verify().unwrap(), None).unwrap()
    }

    #[test]
    fn lines_fit_and_hold_no_controls() {
        let inspection = sample(HOSTILE);
        for width in [40, 72, 80, 99, 200] {
            let page = text(&inspection, &Style { colour: false, width });
            for line in page.lines() {
                assert!(line.chars().count() <= width.max(72) && !line.contains('\x1b'), "{width}: {line}");
            }
        }
        let page = text(&inspection, &Style { colour: true, width: 80 });
        assert!(page.contains("\x1b[1m") && !page.contains("\x1b[31m"));
    }

    #[test]
    fn bars_have_eighths() {
        assert_eq!((bar(0.5, 3).as_str(), bar(0.0001, 3).as_str(), bar(0.0, 3).as_str()), ("█▌", "▏", ""));
        assert_eq!(spark(&[0, 1, 8]), " ▁█");
    }
}
