//! Layers as columns, kinds of module as rows, density as numbers, shades or colours.

use stitchpack::error::Escaped;
use stitchpack::report::inspect::{Grid, GridRow, Inspection, Share};

use super::{MOST_ROWS, Style};
use crate::text::{elide, percent, short_percent};

/// Backgrounds of a heatmap from sparse to dense, of the 256 colours; and whether black is legible on them.
const HEAT: [(u8, bool); 7] = [(17, false), (18, false), (25, false), (31, false), (37, true), (79, true), (157, true)];

/// A heatmap that fits the width: numbers where there is room for them, shades where not.
pub(super) struct Heatmap {
    pub grid: Grid,
    /// Columns of text for a row's name, and for a cell.
    pub label: usize,
    cell: usize,
}

impl Heatmap {
    /// Columns of text after the cells: the whole row as a number.
    const TOTAL: usize = 10;

    pub fn of(i: &Inspection, style: Style) -> Self {
        let longest = |grid: &Grid| grid.rows.iter().map(|r| r.label.chars().count()).max().unwrap_or(0);
        let room = |label: usize| style.width - 3 - label - Self::TOTAL;
        let all = i.grid(usize::MAX, MOST_ROWS);
        let (n, wanted) = (all.columns.len(), longest(&all));
        for (cell, least) in [(5, 26), (2, 20), (1, 20)] {
            let label = wanted.min((style.width - 3 - Self::TOTAL).saturating_sub(n * cell)).min(40);
            if label >= wanted.min(least) {
                return Heatmap { grid: all, label, cell };
            }
        }
        let label = wanted.min(26);
        let grid = i.grid(room(label), MOST_ROWS);
        Heatmap { grid, label, cell: 1 }
    }

    /// The layer numbers, as many as there is room for.
    pub fn columns(&self) -> String {
        let longest = self.grid.columns.iter().map(|c| c.first.to_string().len()).max().unwrap_or(1);
        let step = [1, 2, 5, 10, 20, 50].into_iter().find(|step| step * self.cell > longest).unwrap_or(100);
        let mut line = String::new();
        for (i, column) in self.grid.columns.iter().enumerate().step_by(step) {
            let name = column.first.to_string();
            let name = if self.cell == 5 { format!("{name:>4}") } else { name };
            let used = line.chars().count();
            line.extend(std::iter::repeat_n(' ', (i * self.cell).saturating_sub(used)));
            line.push_str(&name);
        }
        let end = self.grid.columns.len() * self.cell;
        let used = line.chars().count().min(end);
        format!("{line}{}{:>width$}", " ".repeat(end - used), "all", width = Self::TOTAL - 1)
    }

    pub fn row(&self, row: &GridRow, style: Style) -> String {
        let cells: String = row.cells.iter().map(|cell| self.cell(*cell, style)).collect();
        let name = elide(&Escaped(&row.label).to_string(), self.label);
        let total = percent(row.total.density().unwrap_or(0.0));
        format!("  {name:<label$} {cells} {total:>8}", label = self.label)
    }

    fn cell(&self, share: Option<Share>, style: Style) -> String {
        let width = self.cell;
        let found = share.and_then(|s| Some((s.density()?, self.grid.heat(s)?)));
        let Some((density, heat)) = found else { return format!("{:>width$}", "·") };
        let text = match (width, style.colour) {
            (5, true) => format!("{:>4} ", short_percent(density)),
            (5, false) => format!("{:>4}{}", short_percent(density), shade(heat)),
            (_, true) => " ".repeat(width),
            (_, false) => shade(heat).to_string().repeat(width),
        };
        if style.colour { heated(heat, &text) } else { text }
    }

    /// What the marks mean.
    pub fn legend(&self, style: Style) -> String {
        let density = |heat: f64| percent(self.grid.density_at(heat).unwrap_or(0.0));
        let marks = if style.colour {
            [-3.0, -1.0, 1.0, 3.0].map(|heat| format!("{} {}", heated(heat, "  "), density(heat))).join("  ")
        } else {
            format!("░ under {}  ▒ under {}  ▓ under {}  █ more", density(-1.0), density(0.0), density(1.0))
        };
        format!("{marks}  · untouched")
    }
}

fn shade(heat: f64) -> char {
    match heat {
        h if h < -1.0 => '░',
        h if h < 0.0 => '▒',
        h if h < 1.0 => '▓',
        _ => '█',
    }
}

fn heated(heat: f64, text: &str) -> String {
    let level = (heat + 3.0).round().clamp(0.0, 6.0) as usize;
    let (background, dark) = HEAT.get(level).copied().unwrap_or_default();
    let ink = if dark { 16 } else { 231 };
    format!("\x1b[48;5;{background};38;5;{ink}m{text}\x1b[0m")
}
