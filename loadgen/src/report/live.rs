//! The run while it lasts, on stderr: one block that is painted over on a terminal, otherwise a
//! line every few seconds.
//!
//! The generator's own cores do the measuring: this paints a few times a second and adds up
//! histograms once for each look, no more.

use std::io::{IsTerminal, Write};

use crate::outcome::{Phase, Progress, Times, number, times};
use crate::report::{units, words};
use crate::scenario::Scenario;

/// Between two paintings of the block, in seconds.
const PAINT: f64 = 0.2;
/// What the figures are of, in seconds, on a terminal.
const BLOCK: f64 = 1.0;
/// Between two lines, in seconds, without a terminal.
const LINE: f64 = 5.0;
/// Characters of the bar.
const BAR: usize = 32;

/// How the run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Off,
    Block { colour: bool },
    Lines,
}

/// What is shown of a run.
pub(crate) struct Live {
    mode: Mode,
    out: Box<dyn Write>,
    scenario: Scenario,
    latency: Times,
    through: u64,
    /// Seconds that latency and count are of.
    span: f64,
    /// Since the last painting, in seconds.
    unpainted: f64,
    /// The figures of the last full span.
    figures: String,
    phase: Phase,
    /// Lines of the block on the screen.
    painted: usize,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Live");
        debug.field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Live {
    /// Nothing has been shown yet. `on` false: nothing ever is.
    pub(crate) fn new(scenario: &Scenario, on: bool) -> Self {
        let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
        let mode = if !on {
            Mode::Off
        } else if std::io::stderr().is_terminal() && variable("TERM") != "dumb" {
            let colour = variable("NO_COLOR").is_empty();
            Mode::Block { colour }
        } else {
            Mode::Lines
        };
        Self::to(scenario, mode, Box::new(std::io::stderr()))
    }

    fn to(scenario: &Scenario, mode: Mode, out: Box<dyn Write>) -> Self {
        Self {
            mode,
            out,
            scenario: scenario.clone(),
            latency: times(),
            through: 0,
            span: 0.0,
            unpainted: f64::MAX,
            figures: String::new(),
            phase: Phase::Connect,
            painted: 0,
        }
    }

    /// Takes a look into account and shows it if it is time.
    pub(crate) fn show(&mut self, progress: &Progress) {
        let every = match self.mode {
            Mode::Off => return,
            Mode::Block { .. } => BLOCK,
            Mode::Lines => LINE,
        };
        if progress.phase != self.phase {
            // Figures of one phase say nothing about the next.
            self.phase = progress.phase;
            self.reset();
            self.unpainted = f64::MAX;
        }
        // Both have the same bounds; should that ever change, the view is no reason to fail.
        if self.latency.add(&progress.latency).is_err() {
            return;
        }
        self.through += progress.counts.through(&self.scenario);
        self.span += progress.span;
        self.unpainted += progress.span;
        let full = self.span >= every;
        if full {
            self.figures = self.describe();
            self.reset();
        }
        match self.mode {
            Mode::Block { colour } if self.unpainted >= PAINT => {
                self.unpainted = 0.0;
                self.paint(progress, colour);
            }
            Mode::Lines if full => self.line(progress),
            _ => {}
        }
    }

    /// Leaves the terminal clean for the table.
    pub(crate) fn finish(mut self) {
        let erase = self.erase();
        self.put(&erase);
    }

    fn reset(&mut self) {
        self.latency.reset();
        self.through = 0;
        self.span = 0.0;
    }

    /// Rate and latencies of the last span.
    fn describe(&self) -> String {
        let mut text = format!("{:>14}", units::rate(number(self.through) / self.span));
        if !self.latency.is_empty() {
            for (name, q) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
                let value = units::time(self.latency.value_at_quantile(q));
                put!(text, "   {name} {value:>7}");
            }
        }
        text
    }

    fn line(&mut self, progress: &Progress) {
        let text = format!(
            "{:>7} {:<9}{}{}\n",
            units::seconds(progress.elapsed),
            title(progress.phase),
            self.figures,
            troubles(progress)
        );
        self.put(&text);
    }

    /// The whole block at once, so that it does not flicker. Lines that are wider than the terminal
    /// are cut there instead of wrapped: a wrapped line could not be painted over.
    fn paint(&mut self, progress: &Progress, colour: bool) {
        let (bold, blue, red, plain) = if colour {
            ("\x1b[1m", "\x1b[34m", "\x1b[31m", "\x1b[0m")
        } else {
            ("", "", "", "")
        };
        let part = if progress.total > 0.0 {
            (progress.elapsed / progress.total).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let full = usize::try_from(units::rounded(part * number(BAR as u64))).unwrap_or(0);
        let (done, left) = ("█".repeat(full), "░".repeat(BAR.saturating_sub(full)));
        let name = words::name(&self.scenario);
        let (title, at) = (
            title(progress.phase),
            units::seconds(progress.elapsed.min(progress.total)),
        );
        let total = units::seconds(progress.total);
        let mut text = self.erase();
        put!(
            text,
            "\x1b[?7l{bold}{}{plain}\n",
            super::table::printable(&name)
        );
        put!(
            text,
            "{title:<9} {blue}{done}{left}{plain} {at} of {total}\n"
        );
        put!(text, "{}\n", self.figures);
        let troubles = troubles(progress);
        let trouble = if troubles.is_empty() { "" } else { red };
        put!(text, "{trouble}{}{plain}\n\x1b[?7h", troubles.trim_start());
        self.painted = 4;
        self.put(&text);
    }

    /// Back to the first line of what was painted, and everything below is gone.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.painted) {
            0 => String::new(),
            lines => format!("\x1b[{lines}F\x1b[J"),
        }
    }

    fn put(&mut self, text: &str) {
        let written = self.out.write_all(text.as_bytes());
        if written.and_then(|()| self.out.flush()).is_err() {
            // Nobody looks any more; the run goes on.
            self.mode = Mode::Off;
        }
    }
}

const fn title(phase: Phase) -> &'static str {
    match phase {
        Phase::Connect => "connect",
        Phase::WarmUp => "warm-up",
        Phase::Measure => "measure",
        Phase::Drain => "drain",
    }
}

/// What went wrong so far; nothing: nothing.
fn troubles(progress: &Progress) -> String {
    let mut text = String::new();
    for (count, what) in [
        (progress.failed, "failed"),
        (progress.violations, "violations"),
    ] {
        if count > 0 {
            put!(text, "   {} {what}", units::count(count));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::outcome::Counts;

    #[derive(Clone, Default)]
    struct Screen(Rc<RefCell<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    /// Twelve seconds, a look every quarter: two of warm-up, ten that count.
    fn watch(mode: Mode, failed: u64) -> String {
        let screen = Screen::default();
        let mut live = Live::to(&Scenario::default(), mode, Box::new(screen.clone()));
        for look in 1..=48u32 {
            let elapsed = f64::from(look) / 4.0;
            let mut latency = times();
            latency.record_n(150_000, 990).unwrap();
            latency.record_n(4_000_000, 10).unwrap();
            live.show(&Progress {
                phase: if look <= 8 {
                    Phase::WarmUp
                } else {
                    Phase::Measure
                },
                elapsed,
                total: 12.0,
                span: 0.25,
                counts: Counts {
                    delivered: 1_000,
                    ..Counts::default()
                },
                latency,
                failed,
                violations: 0,
            });
        }
        live.finish();
        screen.text()
    }

    #[test]
    fn without_a_terminal_there_is_a_line_every_five_seconds() {
        let text = watch(Mode::Lines, 0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].trim_start().starts_with("7 s measure"), "{text}");
        for part in ["4,000/s", "p50  150 µs", "p99  150 µs", "p99.9 4.00 ms"] {
            assert!(lines[1].contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\x1b') && !text.contains("failed"));
    }

    #[test]
    fn on_a_terminal_the_block_is_painted_over() {
        let text = watch(Mode::Block { colour: false }, 7);
        let blocks = text.matches("\x1b[?7l").count();
        assert_eq!(
            text.matches("\x1b[4F\x1b[J").count(),
            blocks,
            "each one is erased"
        );
        assert!(blocks > 40, "{blocks}");
        assert!(text.ends_with("\x1b[4F\x1b[J"), "clean for the table");
        assert!(text.contains("warm-up") && text.contains("7 failed"));
        assert!(!text.contains("\x1b[31m"), "no colours were asked for");
        assert!(watch(Mode::Block { colour: true }, 7).contains("\x1b[31m7 failed"));
    }

    #[test]
    fn switched_off_it_says_nothing() {
        assert_eq!(watch(Mode::Off, 7), "");
    }
}
