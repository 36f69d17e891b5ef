//! The comparison as a page.

use super::Comparison;
use crate::report::page::{Page, Tile, Tone};
use crate::report::plot::{Axis, Bars, Line, Plot, Unit};
use crate::report::{Verdict, units, words};
use crate::series::Pages;

pub(super) fn page(comparison: &Comparison, pages: &Pages) -> String {
    let [a, b] = &comparison.names;
    let first = comparison.rounds.first().map(|round| &round.a);
    let began = first.map_or(0, |outcome| outcome.began_unix_ms);
    let about = format!("A is {a}, B is {b} · {}", units::moment(began));
    let mut page = Page::new("compare", &words::what(&comparison.scenario), &about);
    let verdict = comparison.verdict();
    let tone = match verdict {
        Verdict::Good => Tone::Good,
        Verdict::Invalid => Tone::Warn,
        Verdict::Violated => Tone::Bad,
    };
    let doubts = comparison.doubts();
    page.verdict(tone, verdict.title(), &comparison.about(), &doubts);
    let rows = comparison.rows();
    let tiles: Vec<Tile> = rows
        .iter()
        .map(|row| {
            let note = format!(
                "A to B, {}–{}",
                units::digits(row.ratio.least),
                units::digits(row.ratio.most)
            );
            Tile::new(row.figure, units::digits(row.ratio.median), note)
        })
        .collect();
    page.tiles(&tiles);
    let head = ["", "A", "B", "A to B"];
    page.table("Medians (least–most)", &head, &comparison.cells());
    let ratios = rows.iter().fold(
        Bars::new(
            "Ratios, A to B",
            "The median of the ratios within rounds, for each figure.",
            Unit::Plain,
            &["A to B"],
        ),
        |bars, row| bars.row(row.figure, &[row.ratio.median]),
    );
    page.bars(&ratios);
    page.plot(&through(comparison));
    page.heading("How it was done");
    page.text(&words::shape(&comparison.scenario));
    if let Some(outcome) = first {
        page.machine(&outcome.machine);
    }
    page.code("Command", &pages.command);
    page.finish()
}

fn through(comparison: &Comparison) -> Plot {
    let line = |name: &str, letter: char| {
        let runs = comparison.outcomes().filter(|run| run.1 == letter);
        let points = (1_u32..).zip(runs);
        let points = points.map(|(round, run)| (f64::from(round), run.2.throughput()));
        Line::new(name, points.collect()).measured()
    };
    Plot::new(
        "Through in each round",
        "Messages a second that came through in each round, for both servers.",
        Axis::new("round", Unit::Plain),
        Axis::new("messages a second", Unit::Count).with_zero(),
    )
    .line(line("A", 'A'))
    .line(line("B", 'B'))
}
