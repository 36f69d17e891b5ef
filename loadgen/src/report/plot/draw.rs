//! The drawing.

use super::axis::Fitted;
use super::{Kind, Line, Mark, Plot};
use crate::report::page::escape;

/// How many colours and dashes the style sheet has.
pub(super) const COLOURS: usize = 6;

/// Beyond this many points there are no places to hover over: they would be narrower than a hand
/// is steady.
const HOVER_MAX: usize = 240;

/// A size to draw for. Text is 13 units high in both.
#[derive(Clone, Copy, Debug)]
struct Size {
    class: &'static str,
    width: f64,
    height: f64,
    x_ticks: usize,
    y_ticks: usize,
    hover: bool,
}

const WIDE: Size = Size {
    class: "wide",
    width: 940.0,
    height: 320.0,
    x_ticks: 10,
    y_ticks: 6,
    hover: true,
};

const NARROW: Size = Size {
    class: "narrow",
    width: 400.0,
    height: 290.0,
    x_ticks: 4,
    y_ticks: 6,
    hover: false,
};

/// Above the field: the name of the y axis. Below: ticks and the name of the x axis.
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
const RIGHT: f64 = 16.0;
/// About the width of one character.
const CHARACTER: f64 = 7.2;

pub(super) fn figure(plot: &Plot, id: usize) -> String {
    let mut html = String::from("<figure>");
    put!(html, "<figcaption>{}</figcaption>", escape(&plot.title));
    legend(&mut html, plot);
    for size in [WIDE, NARROW] {
        svg(&mut html, plot, size, id);
    }
    html.push_str("</figure>\n");
    html
}

fn legend(html: &mut String, plot: &Plot) {
    let errors = plot
        .marks
        .iter()
        .any(|mark| matches!(mark, Mark::Error { .. }));
    if plot.lines.len() + usize::from(errors) < 2 {
        return;
    }
    html.push_str("<ul class=\"legend\">");
    for (line, colour) in coloured(plot) {
        let sign = match line.kind {
            Kind::Plain => format!("<path class=\"l s{colour}\" d=\"M1 7H27\"/>"),
            Kind::Measured => format!(
                "<path class=\"l s{colour}\" d=\"M1 7H27\"/>\
                 <circle class=\"d s{colour}\" cx=\"14\" cy=\"7\" r=\"3.5\"/>"
            ),
            Kind::Dots => {
                format!("<circle class=\"d s{colour}\" cx=\"14\" cy=\"7\" r=\"4\"/>")
            }
        };
        entry(html, &sign, &line.name);
    }
    if errors {
        entry(
            html,
            "<path class=\"error\" d=\"M14 2l6 10h-12z\"/>",
            "errors",
        );
    }
    html.push_str("</ul>");
}

fn entry(html: &mut String, sign: &str, name: &str) {
    put!(
        *html,
        "<li><svg viewBox=\"0 0 28 14\" width=\"28\" height=\"14\" aria-hidden=\"true\">{sign}\
         </svg>{}</li>",
        escape(name)
    );
}

/// The lines, each with the number of its colour.
fn coloured(plot: &Plot) -> impl Iterator<Item = (&Line, usize)> {
    let lines = plot.lines.iter().enumerate();
    lines.map(|(at, line)| (line, line.colour.unwrap_or(at) % COLOURS))
}

/// Where data become places of the picture.
struct Field<'a> {
    x: &'a Fitted,
    y: &'a Fitted,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Field<'_> {
    fn across(&self, value: f64) -> Option<f64> {
        let place = self.x.place(value)?;
        Some(self.left + place * (self.right - self.left))
    }

    fn up(&self, value: f64) -> Option<f64> {
        let place = self.y.place(value)?;
        Some(self.bottom - place * (self.bottom - self.top))
    }

    fn point(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        Some((self.across(x)?, self.up(y)?))
    }
}

fn svg(html: &mut String, plot: &Plot, size: Size, id: usize) {
    let (class, width, height) = (size.class, size.width, size.height);
    put!(
        *html,
        "<svg class=\"plot {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-labelledby=\"t{id}{class} d{id}{class}\">\
         <title id=\"t{id}{class}\">{}</title><desc id=\"d{id}{class}\">{}</desc>",
        escape(&plot.title),
        escape(&plot.description)
    );
    let points = plot.lines.iter().flat_map(|line| &line.points);
    let points = points.filter(|(x, y)| x.is_finite() && y.is_finite());
    let limits = plot.marks.iter().filter_map(|mark| match mark {
        Mark::Limit { y, .. } => Some(*y),
        Mark::Knee { .. } | Mark::Error { .. } => None,
    });
    let across = points.clone().map(|p| p.0);
    let up = points.map(|p| p.1).chain(limits);
    let fitted = plot
        .x
        .fit(across, size.x_ticks, false)
        .zip(plot.y.fit(up, size.y_ticks, true));
    if let Some((x, y)) = fitted {
        let labels = y
            .ticks
            .iter()
            .map(|tick| y.unit.tick(*tick).chars().count());
        let left =
            14.0 + CHARACTER * f64::from(u16::try_from(labels.max().unwrap_or(0)).unwrap_or(0));
        let field = Field {
            x: &x,
            y: &y,
            left,
            right: width - RIGHT,
            top: TOP,
            bottom: height - BOTTOM,
        };
        axes(html, plot, &field);
        for (line, colour) in coloured(plot) {
            series(html, &field, line, colour);
        }
        if size.hover {
            hover(html, plot, &field);
        }
        // Above what is hovered over, for errors have a text of their own.
        marks(html, plot, &field);
    } else {
        let (x, y) = (width / 2.0, height / 2.0);
        put!(
            *html,
            "<text class=\"axis\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">no data</text>"
        );
    }
    html.push_str("</svg>");
}

fn axes(html: &mut String, plot: &Plot, field: &Field<'_>) {
    let Field {
        left,
        right,
        top,
        bottom,
        ..
    } = *field;
    for tick in &field.y.ticks {
        let Some(y) = field.up(*tick) else { continue };
        put!(
            *html,
            "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>"
        );
        let (x, y, label) = (left - 8.0, y + 4.5, field.y.unit.tick(*tick));
        put!(
            *html,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>"
        );
    }
    let mut free = f64::MIN;
    for tick in &field.x.ticks {
        let Some(x) = field.across(*tick) else {
            continue;
        };
        put!(
            *html,
            "<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>"
        );
        let label = field.x.unit.tick(*tick);
        let half = CHARACTER * f64::from(u16::try_from(label.chars().count()).unwrap_or(0)) / 2.0;
        // Labels must not touch, nor leave the picture.
        let middle = x.min(right + RIGHT - half);
        if middle - half < free {
            continue;
        }
        free = middle + half + 1.5 * CHARACTER;
        let y = bottom + 18.0;
        put!(
            *html,
            "<text x=\"{middle:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{label}</text>"
        );
    }
    put!(
        *html,
        "<path class=\"edge\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/>"
    );
    let (y, x_label, y_label) = (bottom + 38.0, escape(&plot.x.label), escape(&plot.y.label));
    let scale = if plot.y.log { " (log scale)" } else { "" };
    put!(
        *html,
        "<text class=\"axis\" x=\"{right:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{x_label}</text>"
    );
    put!(
        *html,
        "<text class=\"axis\" x=\"0\" y=\"14\">{y_label}{scale}</text>"
    );
}

fn series(html: &mut String, field: &Field<'_>, line: &Line, colour: usize) {
    if line.kind != Kind::Dots {
        let path = path(line.points.iter().map(|point| field.point(*point)));
        put!(*html, "<path class=\"l s{colour}\" d=\"{path}\"/>");
    }
    if line.kind != Kind::Plain {
        for (x, y) in line.points.iter().filter_map(|point| field.point(*point)) {
            put!(
                *html,
                "<circle class=\"d s{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"
            );
        }
    }
}

/// A path through the points, interrupted where there is none.
fn path(points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
    let mut path = String::new();
    let mut joined = false;
    for point in points {
        if let Some((x, y)) = point {
            let command = if joined { 'L' } else { 'M' };
            put!(path, "{command}{x:.1} {y:.1}");
        }
        joined = point.is_some();
    }
    path
}

fn marks(html: &mut String, plot: &Plot, field: &Field<'_>) {
    let Field {
        left,
        right,
        top,
        bottom,
        ..
    } = *field;
    for mark in &plot.marks {
        match mark {
            Mark::Knee { x, label } => {
                let Some(x) = field.across(*x) else { continue };
                // Towards the middle, where there is room.
                let (anchor, at) = if x > f64::midpoint(left, right) {
                    ("end", x - 6.0)
                } else {
                    ("start", x + 6.0)
                };
                let (y, label) = (top + 13.0, escape(label));
                put!(
                    *html,
                    "<path class=\"knee\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>"
                );
                put!(
                    *html,
                    "<text class=\"note\" x=\"{at:.1}\" y=\"{y:.1}\" \
                     text-anchor=\"{anchor}\">{label}</text>"
                );
            }
            Mark::Limit { y, label } => {
                let Some(y) = field.up(*y) else { continue };
                let (x, over, label) = (left + 6.0, y - 5.0, escape(label));
                put!(
                    *html,
                    "<path class=\"limit\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>"
                );
                put!(
                    *html,
                    "<text class=\"note\" x=\"{x:.1}\" y=\"{over:.1}\">{label}</text>"
                );
            }
            Mark::Error { x, text } => {
                let Some(x) = field.across(*x) else { continue };
                let (y, text) = (bottom - 11.0, escape(text));
                put!(
                    *html,
                    "<path class=\"error\" d=\"M{x:.1} {y:.1}l6 10h-12z\">\
                     <title>{text}</title></path>"
                );
            }
        }
    }
}

/// A column for each place of the longest line, with what all lines are there.
fn hover(html: &mut String, plot: &Plot, field: &Field<'_>) {
    let Some(longest) = plot.lines.iter().max_by_key(|line| line.points.len()) else {
        return;
    };
    if longest.points.len() > HOVER_MAX {
        return;
    }
    let mut places: Vec<(f64, f64)> = longest
        .points
        .iter()
        .filter_map(|(x, _)| Some((*x, field.across(*x)?)))
        .collect();
    places.sort_by(|a, b| a.1.total_cmp(&b.1));
    places.dedup();
    let middles = places.windows(2).filter_map(|pair| match pair {
        [a, b] => Some(f64::midpoint(a.1, b.1)),
        _ => None,
    });
    let ends: Vec<f64> = middles.chain([field.right]).collect();
    let mut begin = field.left;
    for ((x, _), end) in places.iter().zip(ends) {
        let mut text = field.x.unit.value(*x);
        for line in &plot.lines {
            // The very same number: the lines were made from one list.
            let at = line.points.iter().find(|p| p.0.total_cmp(x).is_eq());
            if let Some((_, y)) = at.filter(|p| p.1.is_finite()) {
                put!(text, "\n{}: {}", line.name, field.y.unit.value(*y));
            }
        }
        let (width, height) = (end - begin, field.bottom - field.top);
        let (top, text) = (field.top, escape(&text));
        put!(
            *html,
            "<rect class=\"hover\" x=\"{begin:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\"><title>{text}</title></rect>"
        );
        begin = end;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Unit};
    use super::*;

    fn plot() -> Plot {
        let x = Axis::new("time", Unit::Seconds).with_zero();
        let y = Axis::new("latency", Unit::Nanoseconds).with_zero();
        Plot::new("A <title>", "what & why", x, y)
    }

    /// What stands between `begin` and the next `end`, each time.
    fn between<'a>(text: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
        let parts = text.split(begin).skip(1);
        parts.map(|part| part.split(end).next().unwrap()).collect()
    }

    #[test]
    fn points_without_a_place_interrupt_the_line() {
        let points = vec![
            (0.0, 1e6),
            (1.0, 2e6),
            (2.0, f64::NAN),
            (3.0, 1e6),
            (4.0, 2e6),
        ];
        let html = plot().line(Line::new("p99", points)).figure(1);
        let wide = between(&html, "<path class=\"l s0\" d=\"", "\"")[0];
        assert_eq!(wide.matches('M').count(), 2, "{wide}");
        assert_eq!(wide.matches('L').count(), 2, "{wide}");
        assert!(!html.contains("NaN"));
    }

    #[test]
    fn a_higher_value_is_drawn_further_up_and_a_later_one_further_right() {
        let line = Line::new("p99", vec![(0.0, 1e6), (4.0, 3e6)]).measured();
        let html = plot().line(line).figure(1);
        let places = |name: &str| -> Vec<f64> {
            let all = between(&html, &format!("{name}=\""), "\"");
            all.iter()
                .take(2)
                .map(|text| text.parse().unwrap())
                .collect()
        };
        let (across, down) = (places("cx"), places("cy"));
        assert!(across[0] < across[1] && down[0] > down[1]);
    }

    #[test]
    fn each_place_tells_what_all_lines_are_there() {
        let html = plot()
            .line(Line::new("p50", vec![(1.0, 1e6), (2.0, 2e6)]))
            .line(Line::new("p<99", vec![(1.0, 3e6), (2.0, 4e6)]))
            .error(2.0, "7 failed")
            .figure(1);
        let texts = between(&html, "<title>", "</title>");
        assert!(
            texts.contains(&"1 s\np50: 1.00 ms\np&lt;99: 3.00 ms"),
            "{texts:?}"
        );
        assert!(texts.contains(&"7 failed"));
    }

    #[test]
    fn pictures_have_names_of_their_own_for_screen_readers() {
        let html = plot().line(Line::new("p50", vec![(1.0, 1e6)])).figure(7);
        let mut ids = between(&html, " id=\"", "\"");
        ids.sort_unstable();
        assert_eq!(ids, ["d7narrow", "d7wide", "t7narrow", "t7wide"]);
        assert!(
            html.contains(">A &lt;title&gt;</title>") && html.contains(">what &amp; why</desc>")
        );
    }

    #[test]
    fn a_plot_without_data_says_so() {
        assert!(plot().figure(1).contains("no data"));
        let nothing = Line::new("p50", vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)]);
        assert!(plot().line(nothing).figure(1).contains("no data"));
    }
}
