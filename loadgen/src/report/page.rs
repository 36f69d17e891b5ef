//! A page of a report: one file, nothing loaded, no scripts.
//!
//! Everything that is put in is text and is escaped here; only the plots bring markup of their
//! own, and escape for themselves.

use crate::outcome::{Machine, number};
use crate::report::plot::{Bars, Plot};
use crate::report::units;

const STYLE: &str = include_str!("page.css");

/// How good news are. Never shown by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    /// Look twice.
    Warn,
    Bad,
}

/// A key figure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tile {
    pub label: String,
    /// With its unit, if any, behind a space: the unit is shown smaller.
    pub value: String,
    /// A few words below; may be empty.
    pub note: String,
}

impl Tile {
    pub(crate) fn new(label: &str, value: impl Into<String>, note: impl Into<String>) -> Self {
        Self {
            label: label.to_owned(),
            value: value.into(),
            note: note.into(),
        }
    }
}

/// A page that is put together from top to bottom.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    title: String,
    body: String,
    plots: usize,
}

impl Page {
    /// Begins with a head: what kind of report, of what, and a line about where and when.
    pub(crate) fn new(kind: &str, title: &str, about: &str) -> Self {
        let mut body = String::from("<header>");
        put!(body, "<p class=\"kind\">{}</p>", escape(kind));
        put!(body, "<h1>{}</h1>", together(&escape(title)));
        put!(
            body,
            "<p class=\"about\">{}</p></header>\n",
            together(&escape(about))
        );
        Self {
            title: format!("{title} – {kind}"),
            body,
            plots: 0,
        }
    }

    /// What is to be known first. The details are sentences.
    pub(crate) fn verdict(&mut self, tone: Tone, title: &str, text: &str, details: &[String]) {
        let (class, sign) = match tone {
            Tone::Good => ("good", "M7 12.5l3.5 3.5L17.5 8.5"),
            Tone::Warn => ("warn", "M12 6.5v7M12 17v.6"),
            Tone::Bad => ("bad", "M8 8l8 8M16 8l-8 8"),
        };
        put!(
            self.body,
            "<section class=\"verdict {class}\"><svg viewBox=\"0 0 24 24\" width=\"36\" \
             height=\"36\" aria-hidden=\"true\"><circle cx=\"12\" cy=\"12\" r=\"11\"/>\
             <path d=\"{sign}\"/></svg><div><h2>{}</h2><p>{}</p>",
            escape(title),
            escape(text)
        );
        self.list(details);
        self.body.push_str("</div></section>\n");
    }

    pub(crate) fn tiles(&mut self, tiles: &[Tile]) {
        self.body.push_str("<dl class=\"tiles\">");
        for tile in tiles {
            let (figure, unit) = tile.value.rsplit_once(' ').unwrap_or((&tile.value, ""));
            put!(
                self.body,
                "<div><dt>{}</dt><dd>{}",
                escape(&tile.label),
                escape(figure)
            );
            if !unit.is_empty() {
                put!(self.body, " <span class=\"unit\">{}</span>", escape(unit));
            }
            self.body.push_str("</dd>");
            if !tile.note.is_empty() {
                put!(self.body, "<dd class=\"note\">{}</dd>", escape(&tile.note));
            }
            self.body.push_str("</div>");
        }
        self.body.push_str("</dl>\n");
    }

    pub(crate) fn heading(&mut self, text: &str) {
        put!(self.body, "<h2 class=\"part\">{}</h2>\n", escape(text));
    }

    pub(crate) fn text(&mut self, text: &str) {
        put!(
            self.body,
            "<p class=\"text\">{}</p>\n",
            together(&escape(text))
        );
    }

    /// Items of a list; none: nothing.
    pub(crate) fn list(&mut self, items: &[String]) {
        if items.is_empty() {
            return;
        }
        self.body.push_str("<ul>");
        for item in items {
            put!(self.body, "<li>{}</li>", escape(item));
        }
        self.body.push_str("</ul>");
    }

    pub(crate) fn plot(&mut self, plot: &Plot) {
        self.plots += 1;
        self.body.push_str(&plot.figure(self.plots));
    }

    pub(crate) fn bars(&mut self, bars: &Bars) {
        self.plots += 1;
        self.body.push_str(&bars.figure(self.plots));
    }

    /// Begins tables that stand side by side where there is room; [`Self::end`] ends them.
    pub(crate) fn side_by_side(&mut self) {
        self.body.push_str("<div class=\"side\">");
    }

    pub(crate) fn end(&mut self) {
        self.body.push_str("</div>\n");
    }

    /// A table: the first column names the rows, the others are figures.
    pub(crate) fn table(&mut self, caption: &str, head: &[&str], rows: &[Vec<String>]) {
        let caption = escape(caption);
        put!(
            self.body,
            "<div class=\"table\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\
             <caption>{caption}</caption>"
        );
        if !head.is_empty() {
            self.body.push_str("<thead><tr>");
            for cell in head {
                put!(self.body, "<th scope=\"col\">{}</th>", escape(cell));
            }
            self.body.push_str("</tr></thead>");
        }
        self.body.push_str("<tbody>");
        for row in rows {
            self.body.push_str("<tr>");
            for (at, cell) in row.iter().enumerate() {
                let cell = escape(cell);
                match at {
                    0 => put!(self.body, "<th scope=\"row\">{cell}</th>"),
                    _ => put!(self.body, "<td>{cell}</td>"),
                }
            }
            self.body.push_str("</tr>");
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// Text to be copied, as it is; none: nothing.
    pub(crate) fn code(&mut self, label: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let (label, text) = (escape(label), escape(text.trim_end()));
        put!(
            self.body,
            "<div class=\"code\"><p>{label}</p>\
             <pre><code>{text}</code></pre></div>\n"
        );
    }

    /// The machine that the generator ran on.
    pub(crate) fn machine(&mut self, machine: &Machine) {
        let rows = [
            ("Processor", machine.model.clone()),
            ("Logical processors", machine.processors.to_string()),
            ("Memory", units::bytes(number(machine.memory_bytes))),
            ("Kernel", machine.kernel.clone()),
        ];
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| vec![name.into(), value])
            .collect();
        self.table("Machine of the generator", &[], &rows);
    }

    /// The page.
    pub(crate) fn finish(self) -> String {
        let (title, body, version) = (escape(&self.title), self.body, env!("CARGO_PKG_VERSION"));
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" \
             content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\
             <footer>Made by ringmq-loadgen {version}</footer>\n</main>\n</body>\n</html>\n"
        )
    }
}

/// With spaces that keep a figure and its unit on one line.
fn together(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let after_figure = out.ends_with(|last: char| last.is_ascii_digit());
        let unit = chars.peek().is_some_and(|next| next.is_alphabetic());
        out.push(if c == ' ' && after_figure && unit {
            '\u{a0}'
        } else {
            c
        });
    }
    out
}

/// Text as text, in elements and in attributes. Control characters, which no page may have, become
/// replacement characters.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACK: &str = "</title><script>alert('x')</script>\" onload=\"y&z\u{1b}";

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut page = Page::new(ATTACK, ATTACK, ATTACK);
        page.verdict(Tone::Bad, ATTACK, ATTACK, &[ATTACK.to_owned()]);
        page.tiles(&[Tile::new(ATTACK, ATTACK, ATTACK)]);
        page.heading(ATTACK);
        page.text(ATTACK);
        page.table(
            ATTACK,
            &[ATTACK],
            &[vec![ATTACK.to_owned(), ATTACK.to_owned()]],
        );
        page.code(ATTACK, ATTACK);
        page.machine(&Machine {
            model: ATTACK.into(),
            kernel: ATTACK.into(),
            ..Machine::default()
        });
        let html = page.finish();
        assert!(!html.contains("<script") && !html.contains("\" onload"));
        assert!(!html.contains('\u{1b}'));
        assert!(html.contains("&lt;script&gt;"));
    }

    #[test]
    fn a_figure_stays_with_its_unit() {
        assert_eq!(
            together("events, 1 KiB, 5 x"),
            "events, 1\u{a0}KiB, 5\u{a0}x"
        );
        assert_eq!(together("a b 1 2 µs"), "a b 1 2\u{a0}µs");
    }

    #[test]
    fn a_page_loads_nothing() {
        let html = Page::new("a", "b", "c").finish();
        for outside in ["src=", "href=", "url(", "@import", "http://", "https://"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
