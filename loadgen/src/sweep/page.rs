//! The sweep as a page.

use super::{HEAD, Sweep};
use crate::report::page::{Page, Tile, Tone};
use crate::report::plot::{Axis, Line, Plot, Unit};
use crate::report::{units, words};
use crate::scenario::Arrivals;
use crate::series::{self, Pages};

pub(super) fn page(sweep: &Sweep, pages: &Pages) -> String {
    let first = sweep.points.first().map(|point| &point.outcome);
    let began = first.map_or(0, |outcome| outcome.began_unix_ms);
    let about = format!("{} · {}", sweep.target, units::moment(began));
    let mut page = Page::new("sweep", &words::what(&sweep.scenario), &about);
    let (tone, title) = match sweep.exit_code() {
        0 => (Tone::Good, "Valid"),
        3 => (Tone::Bad, "Violations"),
        _ => (Tone::Warn, "Not valid"),
    };
    page.verdict(tone, title, &sweep.conclusion(), &doubts(sweep));
    page.tiles(&tiles(sweep));
    page.plot(&latency(sweep));
    page.plot(&throughput(sweep));
    page.heading("Points");
    page.table("Each is a run of its own.", &HEAD, &sweep.rows());
    page.heading("How it was done");
    let times = match sweep.arrivals {
        Arrivals::Poisson => "at independent times (Poisson)",
        Arrivals::Constant => "evenly spaced",
    };
    page.text(&format!(
        "{}. Messages came {times}; {} of each point were counted.",
        words::shape(&sweep.scenario),
        units::seconds(sweep.scenario.duration),
    ));
    if let Some(outcome) = first {
        page.machine(&outcome.machine);
    }
    page.code("Command", &pages.command);
    page.finish()
}

fn doubts(sweep: &Sweep) -> Vec<String> {
    let points = sweep.points.iter().enumerate();
    points
        .filter(|(index, _)| !sweep.is_beyond(*index))
        .flat_map(|(_, point)| {
            let rate = units::rate(point.offered);
            let doubts = series::doubts(&point.outcome);
            doubts
                .into_iter()
                .map(move |doubt| format!("{rate}: {doubt}"))
        })
        .collect()
}

fn tiles(sweep: &Sweep) -> Vec<Tile> {
    let mut tiles = Vec::new();
    if let Some(point) = sweep.knee() {
        let time = |quantile| units::time_f(point.us(quantile) * 1e3);
        tiles.push(Tile::new(
            "knee",
            units::rate(point.offered),
            "messages sent",
        ));
        tiles.push(Tile::new("p50 there", time(0.5), ""));
        tiles.push(Tile::new("p99 there", time(0.99), ""));
        if let Some(each) = series::cpu_us_sent(&point.outcome) {
            let each = format!("{} µs", units::digits(each));
            tiles.push(Tile::new("server CPU there", each, "for each message sent"));
        }
    }
    if let Some(maximum) = &sweep.maximum {
        let rate = units::rate(series::sent_rate(maximum));
        tiles.push(Tile::new("maximum", rate, "closed loop, messages sent"));
    }
    tiles
}

fn latency(sweep: &Sweep) -> Plot {
    let line = |name: &str, quantile: f64| {
        let points = sweep.points.iter();
        let points = points.map(|point| (point.offered, point.us(quantile) * 1e3));
        Line::new(name, points.collect()).measured()
    };
    let mut plot = Plot::new(
        "Latency against rate",
        &sweep.conclusion(),
        Axis::new("offered, messages a second", Unit::Count),
        Axis::new("latency", Unit::Nanoseconds).log(),
    )
    .line(line("p50", 0.5))
    .line(line("p99", 0.99))
    .line(line("p99.9", 0.999));
    if let Some(point) = sweep.knee() {
        plot = plot.knee(
            point.offered,
            &format!("knee, {}", units::rate(point.offered)),
        );
    }
    if let Some(limit) = sweep.limit_us {
        plot = plot.limit(limit * 1e3, "limit of the p99");
    }
    sweep
        .points
        .iter()
        .filter(|point| !point.kept_up)
        .fold(plot, |plot, point| {
            plot.error(point.offered, "the server fell behind")
        })
}

fn throughput(sweep: &Sweep) -> Plot {
    let points = sweep.points.iter();
    let through = points.clone().map(|point| (point.offered, point.through()));
    let offered = points.map(|point| (point.offered, point.offered));
    Plot::new(
        "What came through",
        "Messages that came through against those that were offered; on the line all did.",
        Axis::new("offered, messages a second", Unit::Count),
        Axis::new("through, messages a second", Unit::Count).with_zero(),
    )
    .line(Line::new("through", through.collect()).measured())
    .line(Line::new("offered", offered.collect()))
}
