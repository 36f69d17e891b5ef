//! The plan as a page.

use super::points::{Curve, Measured, Purpose};
use super::tables::{self, Table};
use super::{Plan, model};
use crate::outcome::Machine;
use crate::report::page::{Page, Tile, Tone};
use crate::report::plot::{Axis, Line, Plot, Unit};
use crate::report::units;
use crate::series::Pages;

pub(super) fn page(plan: &Plan, pages: &Pages) -> String {
    let measured = &plan.measured;
    let title = match &plan.answer {
        Some((question, _)) => format!(
            "{} of {}, {}",
            units::rate(question.messages_per_second),
            units::bytes(f64::from(question.size_bytes)),
            question.family
        ),
        None => "What this broker costs here".into(),
    };
    let about = format!(
        "{} · {}",
        measured.broker,
        units::moment(measured.taken_unix_ms)
    );
    let mut page = Page::new("capacity plan", &title, &about);
    answer(&mut page, plan);
    model_part(&mut page, plan);
    latency(&mut page, plan);
    table(
        &mut page,
        "Memory",
        "Of one of each",
        &tables::memory(measured),
    );
    let disk = tables::disk(measured);
    table(&mut page, "Disk", "Bytes of each message", &disk);
    page.heading("What the model assumes and does not know");
    page.list(&plan.assumptions());
    points(&mut page, measured);
    let doubts = plan.doubts();
    if !doubts.is_empty() {
        page.heading("Runs that are not to be trusted");
        page.list(&doubts);
    }
    page.heading("How it was done");
    page.text(&format!(
        "{} rounds of {} each, against brokers that were started for each run.",
        measured.rounds,
        units::seconds(measured.seconds)
    ));
    page.machine(&Machine {
        processors: measured.machine.processors,
        model: measured.machine.model.clone(),
        kernel: measured.machine.kernel.clone(),
        memory_bytes: measured.machine.memory_bytes,
    });
    page.code("Command", &pages.command);
    page.finish()
}

fn table(page: &mut Page, heading: &str, caption: &str, table: &Table) {
    if table.rows.is_empty() {
        return;
    }
    if !heading.is_empty() {
        page.heading(heading);
    }
    page.table(caption, &table.head, &table.rows);
}

fn answer(page: &mut Page, plan: &Plan) {
    let Some((question, answer)) = &plan.answer else {
        return;
    };
    let asked = tables::asked(question);
    let (tone, title) = match (answer.nodes, answer.cpu.p99_holds) {
        (None, _) => (Tone::Bad, "Not with such nodes".to_owned()),
        (Some(_), Some(false)) => (Tone::Bad, "Not with this p99".to_owned()),
        (Some(1), _) => (Tone::Good, "One node".to_owned()),
        (Some(nodes), _) => (Tone::Good, format!("{} nodes", units::count(nodes))),
    };
    page.verdict(tone, &title, &asked, &answer.doubts);
    let cores = answer.cpu.cores.map_or("–".into(), units::count);
    let note = format!("{} busy", units::digits(answer.cpu.busy_cores));
    let mut tiles = vec![
        Tile::new("executors", cores, note),
        Tile::new(
            "memory",
            units::bytes(answer.memory_bytes),
            "without headroom",
        ),
    ];
    if let Some(disk) = answer.disk {
        tiles.push(Tile::new(
            "disk",
            units::bytes(disk.stored_bytes),
            "without headroom",
        ));
    }
    if let Some(network) = answer.network {
        let out = units::bytes(network.out_bytes_per_second);
        tiles.push(Tile::new(
            "network out",
            format!("{out}/s"),
            "with Ethernet's headers",
        ));
    }
    page.tiles(&tiles);
    // On a phone the words would lie behind the edge: they stand with the name of the row.
    let mut resources = tables::resources(question, answer);
    resources.head.truncate(2);
    for row in &mut resources.rows {
        let reason = row.pop().unwrap_or_default();
        if let Some(name) = row.first_mut().filter(|_| !reason.is_empty()) {
            *name = format!("{name}: {reason}");
        }
    }
    table(page, "", "What it takes on one machine", &resources);
    table(
        page,
        "",
        "Nodes, with the headroom",
        &tables::nodes(question, answer),
    );
}

fn model_part(page: &mut Page, plan: &Plan) {
    let measured = &plan.measured;
    table(
        page,
        "Cost of a message",
        "CPU time of the broker, fitted to the points below (least squares on relative errors)",
        &tables::costs(measured),
    );
    page.text(
        "k is the size of the body in KiB, f the number of subscribers. Saturated: the points at \
         which the broker was the limit; at the others its CPU time for each message counts. Left \
         out: the worst error for a point that was left out of the fit. Alone: the cost of \
         messages that come one at a time.",
    );
    let asked = plan.answer.as_ref().map(|(question, _)| question.family);
    let families = measured.families().into_iter();
    for family in families.filter(|&family| asked.is_none_or(|asked| asked == family)) {
        if let Some(plot) = cost_plot(measured, family) {
            page.plot(&plot);
        }
    }
    if !plan.checks.is_empty() {
        table(
            page,
            "Predictions held against measurements",
            "Scenarios that were not among the points",
            &tables::checks(&plan.checks),
        );
    }
    table(
        page,
        "One executor and two",
        "CPU time for each message over 16 channels",
        &tables::scaling(measured),
    );
    table(
        page,
        "What a sync costs",
        "One message at a time, 1 KiB; CPU time at saturation",
        &tables::syncs(measured),
    );
}

/// The points of a family and the line through them.
fn cost_plot(measured: &Measured, family: super::points::Family) -> Option<Plot> {
    let cost = model::cost(measured, family)?;
    let mut fan_outs: Vec<u32> = measured
        .points_of(family, Purpose::Saturation)
        .map(|point| point.fan_out)
        .collect();
    fan_outs.sort_unstable();
    fan_outs.dedup();
    let mut plot = Plot::new(
        &format!("{family}: µs for each message"),
        &format!("Measured points and the fit {}.", cost.formula()),
        Axis::new("bytes of the body", Unit::Bytes),
        Axis::new("CPU time of the broker", Unit::Nanoseconds).with_zero(),
    );
    for (colour, fan_out) in fan_outs.into_iter().enumerate() {
        let points = measured
            .points_of(family, Purpose::Saturation)
            .filter(|point| point.fan_out == fan_out)
            .map(|point| (f64::from(point.size), point.cpu_us_each.median * 1e3));
        let ends = [cost.sizes.0, cost.sizes.1];
        let fit = ends.map(|size| (f64::from(size), cost.us(size, fan_out) * 1e3));
        let points = Line::new(&format!("to {fan_out}, measured"), points.collect());
        let fit = Line::new(&format!("to {fan_out}, fitted"), fit.into());
        plot = plot
            .line(points.dots().colour(colour))
            .line(fit.colour(colour));
    }
    Some(plot)
}

fn latency(page: &mut Page, plan: &Plan) {
    let curves = &plan.measured.curves;
    if curves.is_empty() {
        return;
    }
    page.heading("Latency against load");
    page.text(
        "Poisson arrivals of 1 KiB at a part of the saturation of one executor. A utilisation for a \
         p99 is read from here.",
    );
    let asked = plan.answer.as_ref().map(|(question, _)| question);
    let plot = Plot::new(
        "p99 against utilisation",
        "The p99 of each pattern at parts of its saturation.",
        Axis::new("part of saturation", Unit::Percent),
        Axis::new("p99", Unit::Nanoseconds).log(),
    );
    let line = |curve: &Curve| {
        let loads = curve.loads.iter();
        let points = loads.map(|load| (load.utilisation, load.p99_us * 1e3));
        Line::new(&curve.family.to_string(), points.collect()).measured()
    };
    // More than six lines in one plot cannot be told apart.
    let relevant = |curve: &&Curve| match asked {
        Some(question) => curve.family == question.family,
        None => curve.family.sync != Some(super::points::Sync::Interval),
    };
    let plot = curves
        .iter()
        .filter(relevant)
        .take(6)
        .map(line)
        .fold(plot, Plot::line);
    page.plot(&match asked.and_then(|question| question.p99_us) {
        Some(p99) => plot.limit(p99 * 1e3, "the p99 that is asked for"),
        None => plot,
    });
}

fn points(page: &mut Page, measured: &Measured) {
    let rows: Vec<Vec<String>> = measured
        .points
        .iter()
        .map(|point| {
            let name = super::scenarios::name(&super::scenarios::Task {
                purpose: point.purpose,
                family: point.family,
                executors: point.executors,
                size: point.size,
                fan_out: point.fan_out,
            });
            let p50_p99 = format!(
                "{}, {}",
                tables::time(point.p50_us),
                tables::time(point.p99_us)
            );
            vec![
                name,
                point.cpu_us_each.text(units::digits),
                point.rate.text(units::rate),
                units::percent(point.busy),
                p50_p99,
                if point.doubts.is_empty() {
                    ""
                } else {
                    "doubtful"
                }
                .into(),
            ]
        })
        .collect();
    page.heading("Measured points");
    page.table(
        "Medians (least–most)",
        &["", "µs CPU each", "sent", "executors busy", "p50, p99", ""],
        &rows,
    );
}
