//! Plots as inline SVG: lines and marks over linear, logarithmic and percentile axes, and
//! bars.
//!
//! No scripts and no fonts. Each plot is drawn twice, for wide pages and for phones, because text
//! in a picture that is scaled down cannot be read; the style sheet shows one of them. Colours are
//! those of the style sheet too, so that they follow the reader's light or dark mode; lines differ
//! in their dashes as well, for those who cannot tell the colours apart.

mod axis;
mod bars;
mod draw;

pub(crate) use axis::{Axis, Unit};
pub(crate) use bars::Bars;

/// Lines over two axes.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    title: String,
    description: String,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
    marks: Vec<Mark>,
}

/// One series. Points without a place on the axes are gaps.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    kind: Kind,
    colour: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A line alone: many points.
    Plain,
    /// A line through visible points: each was measured for itself.
    Measured,
    /// Points alone.
    Dots,
}

/// Something that happened at one place of an axis.
#[derive(Clone, Debug)]
enum Mark {
    /// A vertical line with a label.
    Knee { x: f64, label: String },
    /// A horizontal line with a label.
    Limit { y: f64, label: String },
    /// A small sign at the lower edge; the text is shown on hover.
    Error { x: f64, text: String },
}

impl Plot {
    /// An empty plot. The description is for those who cannot see it: what is to be seen.
    pub(crate) fn new(title: &str, description: &str, x: Axis, y: Axis) -> Self {
        Self {
            title: title.to_owned(),
            description: description.to_owned(),
            x,
            y,
            lines: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Adds a line. There are six colours; a seventh line begins again.
    pub(crate) fn line(mut self, line: Line) -> Self {
        self.lines.push(line);
        self
    }

    /// Marks a place of the x axis, such as the knee.
    pub(crate) fn knee(mut self, x: f64, label: &str) -> Self {
        let label = label.to_owned();
        self.marks.push(Mark::Knee { x, label });
        self
    }

    /// Marks a value of the y axis, such as a limit.
    pub(crate) fn limit(mut self, y: f64, label: &str) -> Self {
        let label = label.to_owned();
        self.marks.push(Mark::Limit { y, label });
        self
    }

    /// Marks errors at a place of the x axis.
    pub(crate) fn error(mut self, x: f64, text: &str) -> Self {
        let text = text.to_owned();
        self.marks.push(Mark::Error { x, text });
        self
    }

    /// The plot with its heading and legend as an HTML `figure`. `id` is any number that no other
    /// plot of the page has.
    pub(crate) fn figure(&self, id: usize) -> String {
        draw::figure(self, id)
    }
}

impl Line {
    /// A plain line through many points.
    pub(crate) fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.to_owned(),
            points,
            kind: Kind::Plain,
            colour: None,
        }
    }

    /// Shows the points too.
    pub(crate) fn measured(mut self) -> Self {
        self.kind = Kind::Measured;
        self
    }

    /// Shows the points alone.
    pub(crate) fn dots(mut self) -> Self {
        self.kind = Kind::Dots;
        self
    }

    /// In the colour of a number instead of the next one.
    pub(crate) fn colour(mut self, colour: usize) -> Self {
        self.colour = Some(colour);
        self
    }
}
