//! Horizontal bars: the name above, the value behind, so that long names fit on a phone.

use super::axis::Unit;
use super::draw::COLOURS;
use crate::report::page::escape;

/// Bars of one or more series over a common linear scale from zero.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    title: String,
    description: String,
    unit: Unit,
    series: Vec<String>,
    rows: Vec<(String, Vec<f64>)>,
}

const BAR: f64 = 16.0;
const NAME: f64 = 24.0;
const GAP: f64 = 14.0;
/// Room for the value behind the longest bar.
const VALUE: f64 = 92.0;

impl Bars {
    /// No bars yet; each row has a value for each of the series.
    pub(crate) fn new(title: &str, description: &str, unit: Unit, series: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            description: description.to_owned(),
            unit,
            series: series.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds the bars of one thing. Values that are not finite leave a gap.
    pub(crate) fn row(mut self, name: &str, values: &[f64]) -> Self {
        self.rows.push((name.to_owned(), values.to_vec()));
        self
    }

    /// The bars with their heading and legend as an HTML `figure`; see [`super::Plot::figure`].
    pub(crate) fn figure(&self, id: usize) -> String {
        let mut html = String::from("<figure>");
        put!(html, "<figcaption>{}</figcaption>", escape(&self.title));
        if self.series.len() > 1 {
            html.push_str("<ul class=\"legend\">");
            for (at, name) in self.series.iter().enumerate() {
                let (colour, name) = (at % COLOURS, escape(name));
                put!(
                    html,
                    "<li><svg viewBox=\"0 0 28 14\" width=\"28\" height=\"14\" \
                     aria-hidden=\"true\"><path class=\"bar s{colour}\" d=\"M1 1H27V13H1Z\"/></svg>\
                     {name}</li>"
                );
            }
            html.push_str("</ul>");
        }
        self.svg(&mut html, "wide", 940.0, id);
        self.svg(&mut html, "narrow", 400.0, id);
        html.push_str("</figure>\n");
        html
    }

    fn svg(&self, html: &mut String, class: &str, width: f64, id: usize) {
        let values = self.rows.iter().flat_map(|(_, values)| values);
        let most = values.clone().copied().filter(|v| v.is_finite());
        let most = most.fold(0.0, f64::max);
        let mut height = 0.0;
        let mut body = String::new();
        for (name, values) in &self.rows {
            height += NAME;
            let baseline = height - 7.0;
            put!(
                body,
                "<text class=\"name\" x=\"0\" y=\"{baseline:.1}\">{}</text>",
                escape(name)
            );
            for (at, value) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                let share = if most > 0.0 {
                    value.max(0.0) / most
                } else {
                    0.0
                };
                let length = (share * (width - VALUE)).max(1.0);
                let (colour, text) = (at % COLOURS, escape(&self.unit.value(*value)));
                let (x, y) = (length + 8.0, height + BAR - 4.5);
                put!(
                    body,
                    "<rect class=\"bar s{colour}\" x=\"0\" y=\"{height:.1}\" \
                     width=\"{length:.1}\" height=\"{:.1}\" rx=\"3\"/>\
                     <text x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>",
                    BAR - 2.0
                );
                height += BAR;
            }
            height += GAP;
        }
        put!(
            *html,
            "<svg class=\"plot {class}\" viewBox=\"0 0 {width} {height:.1}\" role=\"img\" \
             aria-labelledby=\"t{id}{class} d{id}{class}\">\
             <title id=\"t{id}{class}\">{}</title><desc id=\"d{id}{class}\">{}</desc>{body}</svg>",
            escape(&self.title),
            escape(&self.description)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let html = Bars::new("CPU", "lower is better", Unit::Plain, &["A & B"])
            .row("<events>", &[4.0])
            .row("queue", &[8.0])
            .row("unknown", &[f64::NAN])
            .figure(1);
        assert!(html.contains("width=\"424.0\"") && html.contains("width=\"848.0\""));
        assert!(html.contains("&lt;events&gt;") && !html.contains("NaN"));
        assert!(!html.contains("<ul"), "one series needs no legend");
    }
}
