//! The drawings, as inline SVG. Each mark has a `<title>`, which browsers show as a tooltip.

use stitchpack::report::inspect::{Distribution, Grid, GridRow, Inspection, Share};

use super::super::text::{count, size};
use super::super::text::{elide, ending, magnitude, percent, short_percent};
use super::{safe, section};

/// Width of every drawing; heights follow from what is drawn.
const WIDTH: f64 = 960.0;

/// Widest label, in characters and in the units of a drawing.
const LABEL_CHARS: usize = 40;
const LABEL: f64 = 290.0;

/// Height of a row.
const ROW: f64 = 24.0;

/// A drawing of this height.
fn svg(height: f64, label: &str, content: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{label}\">\n{content}</svg>\n")
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{content}</text>\n")
}

/// A rectangle with a tooltip; `style` is further attributes.
fn rect((x, y): (f64, f64), (w, h): (f64, f64), style: &str, title: &str) -> String {
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" {style}><title>{title}</title></rect>\n"
    )
}

/// The class that colours a part of the file, here and in its table.
pub(super) fn colour_of(part: &str) -> &'static str {
    match part.split(',').next().unwrap_or("") {
        "masks" => "p0",
        "values" => "p1",
        "tables" => "p2",
        "files" => "p3",
        "digests" => "p4",
        _ => "p5",
    }
}

/// Parts of a whole, end to end.
pub(super) fn stack(parts: &[(String, u64)], whole: u64) -> String {
    let (mut x, mut out) = (0.0, String::new());
    for (name, bytes) in parts {
        let share = *bytes as f64 / whole.max(1) as f64;
        let title = format!("{}: {}, {}", safe(name), size(*bytes), percent(share));
        let style = format!("rx=\"2\" class=\"{}\"", colour_of(name));
        out += &rect((x, 4.0), ((share * WIDTH - 1.5).max(0.75), 30.0), &style, &title);
        x += share * WIDTH;
    }
    svg(46.0, "Where the bytes went", &out)
}

/// The heatmap.
pub(super) fn layers(i: &Inspection) -> String {
    let grid = i.grid(96, 120);
    if grid.rows.is_empty() {
        return String::new();
    }
    let wide = (WIDTH - LABEL - 70.0) / grid.columns.len() as f64;
    let cell = wide.min(96.0);
    let mut out = column_names(&grid, cell);
    for (n, row) in grid.rows.iter().enumerate() {
        out += &heat_row(&grid, row, cell, 22.0 + n as f64 * ROW);
    }
    let end = 22.0 + grid.rows.len() as f64 * ROW;
    out += &legend(&grid, end + 16.0);
    let left_out = match grid.rows_left_out {
        0 => String::new(),
        n => format!(" {n} smaller kinds of module are left out."),
    };
    let whole = percent(grid.total.density().unwrap_or(0.0));
    let sentence = format!(
        "The share of weights that the pack keeps, in percent: {whole} over all layers. The stronger the colour of a cell, the larger \
         the odds that a weight in it is kept.{left_out}"
    );
    section("Density by layer and kind of module", &sentence, &svg(end + 62.0, "Density by layer and module", &out))
}

fn column_names(grid: &Grid, cell: f64) -> String {
    let each = (26.0 / cell).ceil().max(1.0) as usize;
    let names = grid.columns.iter().enumerate().step_by(each);
    let name = |(n, column): (usize, &stitchpack::report::inspect::Column)| {
        text(LABEL + (n as f64 + 0.5) * cell, 14.0, "soft mid", &column.first.to_string())
    };
    let all = text(LABEL + grid.columns.len() as f64 * cell + 62.0, 14.0, "soft end", "all layers");
    names.map(name).collect::<String>() + &text(LABEL - 10.0, 14.0, "soft end", "layer") + &all
}

fn heat_row(grid: &Grid, row: &GridRow, cell: f64, y: f64) -> String {
    let mut out = text(LABEL - 10.0, y + 16.0, "end", &safe(&elide(&row.label, LABEL_CHARS)));
    for (n, (share, column)) in row.cells.iter().zip(&grid.columns).enumerate() {
        let layer = if column.first == column.last {
            format!("layer {}", column.first)
        } else {
            format!("layers {} to {}", column.first, column.last)
        };
        let place = format!("{}, {layer}", safe(&row.label));
        out += &heat_cell(grid, *share, &place, (LABEL + n as f64 * cell, y), cell);
    }
    let total = percent(row.total.density().unwrap_or(0.0));
    out + &text(LABEL + row.cells.len() as f64 * cell + 62.0, y + 16.0, "end", &total)
}

fn heat_cell(grid: &Grid, share: Option<Share>, place: &str, (x, y): (f64, f64), cell: f64) -> String {
    let gap = if cell > 12.0 { 2.0 } else { 0.5 };
    let at = ((x + gap / 2.0, y + 1.0), (cell - gap, ROW - 2.0));
    let found = share.and_then(|s| Some((s, s.density()?, grid.heat(s)?)));
    let Some((share, density, heat)) = found else {
        return rect(at.0, at.1, "rx=\"2\" class=\"track\"", &format!("{place}: not touched"));
    };
    let opacity = opacity(heat);
    let title = format!("{place}: {}, {} of {}", percent(density), count(share.kept), count(share.units));
    let style = format!("rx=\"2\" class=\"hot\" fill-opacity=\"{opacity:.2}\"");
    let number = if cell < 34.0 {
        String::new()
    } else {
        let class = if opacity > 0.68 { "mid on" } else { "mid" };
        text(x + cell / 2.0, y + 16.0, class, &safe(&short_percent(density)))
    };
    rect(at.0, at.1, &style, &title) + &number
}

/// How dark a heat from −3 to 3 is.
fn opacity(heat: f64) -> f64 {
    0.08 + 0.92 * (heat + 3.0) / 6.0
}

fn legend(grid: &Grid, y: f64) -> String {
    let mut out = String::new();
    for step in 0..=6 {
        let heat = f64::from(step) - 3.0;
        let x = LABEL + f64::from(step) * 56.0;
        let density = percent(grid.density_at(heat).unwrap_or(0.0));
        let style = format!("class=\"hot\" fill-opacity=\"{:.2}\"", opacity(heat));
        out += &rect((x, y), (56.0, 10.0), &style, &density);
        out += &text(x + 28.0, y + 24.0, "soft mid", &safe(&density));
    }
    out += &rect((LABEL + 412.0, y), (28.0, 10.0), "class=\"track\"", "not touched");
    out + &text(LABEL + 426.0, y + 24.0, "soft mid", "untouched")
}

/// Tensors that belong to no layer, as bars.
pub(super) fn outside(i: &Inspection) -> String {
    let modules = i.outside_layers();
    let most = modules.iter().filter_map(|m| m.density).fold(0.0, f64::max);
    let mut out = String::new();
    for (n, module) in modules.iter().take(40).enumerate() {
        let (y, density) = (n as f64 * ROW, module.density.unwrap_or(0.0));
        let name = safe(&module.module);
        let title = format!("{name}: {}, {} of {}", percent(density), count(module.kept), count(module.units));
        let width = 560.0 * density / if most > 0.0 { most } else { 1.0 };
        out += &text(LABEL - 10.0, y + 16.0, "end", &safe(&ending(&module.module, LABEL_CHARS)));
        out += &rect((LABEL, y + 4.0), (width.max(1.0), ROW - 8.0), "rx=\"2\" class=\"hot\"", &title);
        out += &text(LABEL + width + 8.0, y + 16.0, "soft", &safe(&percent(density)));
    }
    if out.is_empty() {
        return String::new();
    }
    let height = modules.len().min(40) as f64 * ROW + 4.0;
    section("Density outside the layers", "", &svg(height, "Density outside the layers", &out))
}

/// The distribution of kept deltas.
pub(super) fn magnitudes(i: &Inspection) -> String {
    let edges = |n: usize| i.magnitudes.bins.get(n).map(|b| (magnitude(b.from), magnitude(b.to)));
    let name = |n: usize| edges(n).map(|(from, to)| format!("from {from} to below {to}"));
    let tick = |n: usize| edges(n).map(|(from, _)| from);
    let sentence = "The size of what the pack adds to a weight, after scale and gain. Bins widen with the size.";
    histogram("Kept deltas by magnitude", sentence, &i.magnitudes, name, tick)
}

/// The distribution of kept steps.
pub(super) fn steps(i: &Inspection) -> String {
    let range = |n: usize| {
        let bin = i.steps.bins.get(n)?;
        Some(if bin.from == bin.to { count(bin.from) } else { format!("{}–{}", count(bin.from), count(bin.to)) })
    };
    let first = |n: usize| i.steps.bins.get(n).map(|bin| count(bin.from));
    let sentence = "How many representable numbers a weight moved by.";
    histogram("Kept steps by length", sentence, &i.steps, range, first)
}

/// Bars over bins; `name` is the tooltip of a bin, `tick` what stands below it.
fn histogram<T>(
    heading: &str,
    sentence: &str,
    distribution: &Distribution<T>,
    name: impl Fn(usize) -> Option<String>,
    tick: impl Fn(usize) -> Option<String>,
) -> String {
    const HIGH: f64 = 200.0;
    let bins = &distribution.bins;
    let most = bins.iter().map(|b| b.count).max().unwrap_or(0);
    if most == 0 {
        return String::new();
    }
    let wide = (WIDTH / bins.len() as f64).min(90.0);
    let all = distribution.count() as f64;
    let longest = (0..bins.len()).filter_map(&tick).map(|t| t.len()).max().unwrap_or(0);
    let each = ((longest as f64 * 6.5 + 12.0) / wide).ceil() as usize;
    let mut out = String::new();
    for (n, bin) in bins.iter().enumerate() {
        let (x, share) = (n as f64 * wide, bin.count as f64 / all);
        let high = if bin.count > 0 { (HIGH * bin.count as f64 / most as f64).max(1.0) } else { 0.0 };
        let title = format!("{}: {}, {}", name(n).unwrap_or_default(), count(bin.count), percent(share));
        out += &rect((x + 1.0, 20.0 + HIGH - high), (wide - 2.0, high), "rx=\"2\" class=\"hot\"", &title);
        if wide >= 44.0 && bin.count > 0 {
            out += &text(x + wide / 2.0, 14.0 + HIGH - high, "soft mid", &safe(&percent(share)));
        }
        if n % each == 0 {
            let (at, class) = if each == 1 { (x + wide / 2.0, "soft mid") } else { (x + 1.0, "soft") };
            out += &text(at, 36.0 + HIGH, class, &tick(n).unwrap_or_default());
        }
    }
    let base = 20.5 + HIGH;
    out += &format!(
        "<line x1=\"0\" x2=\"{:.0}\" y1=\"{base}\" y2=\"{base}\" class=\"axis\"/>\n",
        wide * bins.len() as f64
    );
    let zeros = match distribution.zeros {
        0 => String::new(),
        n => format!(" {} more are 0.", count(n)),
    };
    section(heading, &format!("{sentence}{zeros}"), &svg(44.0 + HIGH, heading, &out))
}
