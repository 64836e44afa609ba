//! An inspection as one HTML file that needs nothing else: no script, no font, no network.
//!
//! Every text that comes from a pack goes through [`safe`].

mod charts;

use stitchpack::error::Escaped;
use stitchpack::report::inspect::Inspection;

use super::text::{self, percent};
use super::text::{count, size};

/// Tensors and notes that are listed.
const MOST_TENSORS: usize = 20;
const MOST_NOTES: usize = 100;

/// The page.
pub fn html(inspection: &Inspection) -> String {
    let title = format!("Stitch pack {}", inspection.id.get(..16).unwrap_or(&inspection.id));
    let title = safe(inspection.notes.get("task").unwrap_or(&title));
    let body = [
        head(inspection, &title),
        figures(inspection),
        bytes(inspection),
        charts::layers(inspection),
        charts::outside(inspection),
        charts::magnitudes(inspection),
        charts::steps(inspection),
        tensors(inspection),
        facts(inspection),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{}\
         <footer>1 MB is 1,000,000 bytes. Sizes and densities were read from the pack; how it was made, and what is \
         noted on it, is what its maker says.</footer>\n</main>\n</body>\n</html>\n",
        include_str!("html/page.css"),
        body.concat()
    )
}

/// A text that no browser takes for markup, with its controls and direction marks made visible.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push_str(&Escaped(c.encode_utf8(&mut [0; 4])).to_string()),
        }
    }
    out
}

/// A card with a heading and a sentence.
fn section(heading: &str, sentence: &str, content: &str) -> String {
    let sentence = if sentence.is_empty() { String::new() } else { format!("<p>{sentence}</p>\n") };
    format!("<section>\n<h2>{heading}</h2>\n{sentence}{content}</section>\n")
}

fn head(i: &Inspection, title: &str) -> String {
    format!("<header>\n<h1>{title}</h1>\n<p>Pack id <code>{}</code></p>\n</header>\n", safe(&i.id))
}

/// The numbers that people ask for first.
fn figures(i: &Inspection) -> String {
    let figure = |value: String, name: &str| format!("<div><b>{value}</b><span>{name}</span></div>\n");
    let mut out = figure(size(i.bytes.file), "the file");
    out += &figure(count(i.totals.kept), "weights kept");
    if let Some(density) = i.totals.density {
        out += &figure(percent(density), &format!("of {} candidates", count(i.totals.candidates)));
    }
    if i.totals.kept > 0 {
        let bits = (i.bytes.file - i.bytes.files) as f64 * 8.0 / i.totals.kept as f64;
        out += &figure(format!("{bits:.2}"), "bits a kept weight");
    }
    let outcome = match i.origin.energy {
        _ if i.exact => figure("exact".into(), "gives the whole fine-tuned model bit for bit"),
        _ if i.all_steps => figure("steps".into(), "stored exactly, but not all of the fine-tuned model"),
        Some(energy) => figure(percent(energy), "of the squared norm of all deltas"),
        None => String::new(),
    };
    format!("<div class=\"figures\">\n{out}{outcome}</div>\n")
}

fn bytes(i: &Inspection) -> String {
    let parts = i.bytes.parts();
    let mut rows = String::new();
    for (name, bytes) in &parts {
        let part = *bytes as f64 / i.bytes.file.max(1) as f64;
        rows += &format!(
            "<tr><td class=\"mark\"><i class=\"dot {}\"></i></td><td>{}</td>\
             <td class=\"n\">{} B</td><td class=\"n\">{}</td></tr>\n",
            charts::colour_of(name),
            safe(name),
            count(*bytes),
            percent(part)
        );
    }
    let sentences: Vec<String> = text::cost(i).iter().map(|s| format!("{}.", capital(s))).collect();
    let content = format!("{}<table>\n{rows}</table>\n", charts::stack(&parts, i.bytes.file));
    section("Where the bytes went", &safe(&sentences.join(" ")), &content)
}

fn tensors(i: &Inspection) -> String {
    let all = text::kept_in_all(i).max(1) as f64;
    let mut rows = String::new();
    for t in text::largest(i, MOST_TENSORS) {
        let bits = text::bits_of(t).map_or("–".into(), |b| format!("{b:.2}"));
        rows += &format!(
            "<tr><td class=\"name\"><code>{}</code></td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{bits}</td></tr>\n",
            safe(&t.name),
            count(t.kept),
            percent(t.kept as f64 / all),
            percent(t.density.unwrap_or(0.0)),
        );
    }
    if rows.is_empty() {
        return String::new();
    }
    let head = "<thead><tr><th>tensor</th><th class=\"n\">kept</th><th class=\"n\">of the pack</th>\
                <th class=\"n\">density</th><th class=\"n\">bits a weight</th></tr></thead>";
    section("Tensors that keep most", "", &format!("<table>\n{head}\n<tbody>\n{rows}</tbody></table>\n"))
}

/// What the pack says of itself.
fn facts(i: &Inspection) -> String {
    let code = |text: &str| format!("<code>{}</code>", safe(text));
    let mut rows = vec![
        ("pack id".to_string(), code(&i.id)),
        ("content id".into(), code(&i.content_id)),
        ("base".into(), code(&i.base)),
        ("result".into(), i.result.as_deref().map_or("not recorded".into(), code)),
        ("written by".into(), safe(&format!("{}, format {}", i.tool, i.format))),
        ("made by".into(), safe(&text::made_by(i))),
        ("outcome".into(), safe(&text::outcome(i))),
        ("keeps".into(), safe(&text::keeps(i))),
    ];
    for (name, globs) in [("include", &i.origin.include), ("exclude", &i.origin.exclude)] {
        if !globs.is_empty() {
            rows.push((name.into(), code(&globs.join(" "))));
        }
    }
    rows.extend(i.files.iter().map(|f| ("file".into(), format!("{}, {}", safe(&f.name), size(f.bytes)))));
    rows.extend(i.notes.iter().take(MOST_NOTES).map(|(key, value)| (safe(key), safe(value))));
    let row = |(name, value): &(String, String)| format!("<tr><th>{name}</th><td class=\"name\">{value}</td></tr>\n");
    section("The pack", "", &format!("<table>\n{}</table>\n", rows.iter().map(row).collect::<String>()))
}

fn capital(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::super::terminal::tests::{HOSTILE, sample};
    use super::*;

    #[test]
    fn hostile_texts_are_no_markup() {
        let text = "\"><script>alert('x')</script>&\u{202e}\0";
        let expected = "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;\\u{202e}\\u{0}";
        assert_eq!(safe(text), expected);
    }

    #[test]
    fn a_hostile_pack_gives_a_harmless_page() {
        let page = html(&sample(HOSTILE));
        assert!(!page.contains("<img") && !page.contains("onerror=\"") && !page.contains("<script"));
        assert!(page.contains("&lt;img src=x"));
        for tag in ["section", "table", "svg", "text", "rect", "td", "div", "p"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(!page.contains("http://") && !page.contains("https://"));
    }
}
