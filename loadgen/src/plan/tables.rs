//! A plan in rows of text, alike on the terminal and on the page.

use super::Plan;
use super::answer::{Answer, ETHERNET, Need, Question};
use super::check::Check;
use super::model;
use super::points::{Family, Measured, Purpose};
use crate::report::table::grid;
use crate::report::units;
use crate::scenario::{Calls, Pattern};

/// Rows with their heads.
pub(super) struct Table {
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn text(&self) -> String {
        let head = self.head.iter().map(|&head| head.to_owned()).collect();
        grid(&[vec![head], self.rows.clone()].concat())
    }
}

/// Microseconds in the unit that fits.
pub(super) fn time(us: f64) -> String {
    units::time_f(us * 1e3)
}

fn gbit(bytes_per_second: f64) -> String {
    let bits = bytes_per_second * 8.0;
    match bits {
        _ if bits >= 1e9 => format!("{} Gbit/s", units::digits(bits / 1e9)),
        _ => format!("{} Mbit/s", units::digits(bits / 1e6)),
    }
}

/// The whole plan for a terminal.
pub(super) fn text(plan: &Plan) -> String {
    let mut text = String::new();
    let mut part = |title: &str, body: &str| {
        text += &format!("{title}\n{}\n\n", body.trim_end());
    };
    part("Cost of a message", &costs(&plan.measured).text());
    let scaling = scaling(&plan.measured);
    if !scaling.rows.is_empty() {
        part("One executor and two", &scaling.text());
    }
    let memory = memory(&plan.measured);
    if !memory.rows.is_empty() {
        part("Memory of one", &memory.text());
    }
    let disk = disk(&plan.measured);
    if !disk.rows.is_empty() {
        part("Disk", &disk.text());
    }
    if !plan.checks.is_empty() {
        part(
            "Predictions held against measurements",
            &checks(&plan.checks).text(),
        );
    }
    if let Some((question, answer)) = &plan.answer {
        part("Asked", &format!("  {}", asked(question)));
        part("Answer", &reasons(&resources(question, answer)));
        part("Nodes", &nodes(question, answer).text());
        let doubts = list(&answer.doubts);
        part("What weakens this answer", &doubts);
    }
    part(
        "What the model assumes and does not know",
        &list(&plan.assumptions()),
    );
    text
}

/// A table whose last column is words, which begin below each other.
fn reasons(table: &Table) -> String {
    let short: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| row.iter().take(2).cloned().collect())
        .collect();
    let reasons = table
        .rows
        .iter()
        .map(|row| row.last().map_or("", String::as_str));
    // The last value is as wide as its column, so that each line ends where the others do.
    let lines: Vec<String> = grid(&short)
        .lines()
        .zip(reasons)
        .map(|(line, reason)| format!("{line}  {reason}").trim_end().to_owned())
        .collect();
    lines.join("\n")
}

fn list(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| format!("  - {line}")).collect();
    match lines.is_empty() {
        true => "  Nothing beyond what is said below.".into(),
        false => lines.join("\n"),
    }
}

/// The fit of each family.
pub(super) fn costs(measured: &Measured) -> Table {
    let row = |family: Family| {
        let cost = model::cost(measured, family)?;
        let alone = measured.points_of(family, Purpose::Alone).next();
        let left_out = cost.left_out_worst_error.map(units::percent);
        Some(vec![
            family.to_string(),
            cost.formula(),
            units::rate(1e6 / cost.us(1024, 1)),
            format!("{} of {}", cost.points - cost.unsaturated, cost.points),
            units::percent(cost.worst_error),
            left_out.unwrap_or("–".into()),
            alone.map_or("–".into(), |point| {
                units::digits(point.cpu_us_each.median)
            }),
        ])
    };
    Table {
        head: vec![
            "",
            "µs each, k KiB to f",
            "a core, 1 KiB",
            "saturated",
            "worst error",
            "left out",
            "µs alone",
        ],
        rows: measured.families().into_iter().filter_map(row).collect(),
    }
}

/// What two executors did.
pub(super) fn scaling(measured: &Measured) -> Table {
    let row = |family: Family| {
        let scaling = model::scaling(measured, family).filter(|scaling| scaling.own)?;
        let cpu = |executors: u32| {
            let mut points = measured.points_of(family, Purpose::Scaling);
            let point = points.find(|point| point.executors == executors)?;
            Some(point.cpu_us_each.text(units::digits))
        };
        Some(vec![
            family.to_string(),
            cpu(1)?,
            cpu(2)?,
            units::digits(scaling.two),
            units::digits(scaling.exponent),
        ])
    };
    Table {
        head: vec!["", "µs, one", "µs, two", "two to one", "exponent"],
        rows: measured.families().into_iter().filter_map(row).collect(),
    }
}

/// What a sync costs.
pub(super) fn syncs(measured: &Measured) -> Table {
    let rows = model::sync_costs(measured).into_iter().map(|cost| {
        let family = Family {
            pattern: cost.pattern,
            calls: Calls::Stream,
            sync: None,
        };
        vec![
            family.to_string(),
            format!("{}, {}", time(cost.interval_us.0), time(cost.interval_us.1)),
            format!("{}, {}", time(cost.strict_us.0), time(cost.strict_us.1)),
            units::digits(cost.interval_cpu_us),
            units::digits(cost.strict_cpu_us),
        ]
    });
    Table {
        head: vec![
            "",
            "interval: p50, p99",
            "strict: p50, p99",
            "µs CPU, interval",
            "µs CPU, strict",
        ],
        rows: rows.collect(),
    }
}

/// What things take in memory.
pub(super) fn memory(measured: &Measured) -> Table {
    let memory = &measured.memory;
    let things = [
        ("the broker, one executor", memory.idle.first().copied()),
        ("the broker, two executors", memory.idle.get(1).copied()),
        ("under load, for each executor, at most", memory.under_load),
        ("connection", memory.connection),
        (
            "first subscription of a connection",
            memory.first_subscription,
        ),
        ("further subscription", memory.further_subscription),
        ("channel (idle queue)", memory.channel),
        ("stored event", memory.stored_event),
        ("waiting message of a queue", memory.waiting_message),
        ("delayed message", memory.delayed_message),
    ];
    let rows = things.into_iter().filter_map(|(what, bytes)| {
        let bytes = bytes?;
        // What does not show in the memory of a process with 200,000 of them.
        let text = match bytes < 1.0 {
            true => "under 1 B".into(),
            false => units::bytes(bytes),
        };
        Some(vec![what.to_owned(), text])
    });
    Table {
        head: vec!["", "bytes"],
        rows: rows.collect(),
    }
}

/// What stored messages take on disk, and what is written for them.
pub(super) fn disk(measured: &Measured) -> Table {
    let line = |line: Option<model::Line>| {
        line.map_or("–".into(), |line| {
            let (each, per_byte) = (units::digits(line.each), units::digits(line.per_byte));
            format!("{each} B + {per_byte} × size")
        })
    };
    let row = |pattern: Pattern| {
        let disk = model::on_disk(measured, pattern)?;
        let name = match pattern {
            Pattern::EventsStore => "events store",
            _ => "queue",
        };
        let written = model::written(measured, pattern);
        Some(vec![name.to_owned(), line(Some(disk)), line(written)])
    };
    Table {
        head: vec!["", "stored, each", "written, each"],
        rows: [Pattern::EventsStore, Pattern::Queue]
            .into_iter()
            .filter_map(row)
            .collect(),
    }
}

/// Predicted and measured.
pub(super) fn checks(checks: &[Check]) -> Table {
    let row = |check: &Check| {
        vec![
            check.name.clone(),
            units::digits(check.predicted_us_each),
            check.measured_us_each.text(units::digits),
            units::rate(check.predicted_per_second),
            format!(
                "{}, {}",
                units::rate(check.measured_per_second),
                check.seen()
            ),
            units::digits(check.ratio),
            if check.is_close() { "close" } else { "off" }.into(),
        ]
    };
    Table {
        head: vec![
            "",
            "predicted µs",
            "measured µs",
            "predicted",
            "measured",
            "ratio",
            "",
        ],
        rows: checks.iter().map(row).collect(),
    }
}

/// The question in a sentence.
pub(super) fn asked(question: &Question) -> String {
    let mut text = format!(
        "{} of {} bytes, {}",
        units::rate(question.messages_per_second),
        question.size_bytes,
        question.family
    );
    if question.fan_out > 1 {
        text += &format!(", each to {}", question.fan_out);
    }
    if question.retention_seconds > 0.0 {
        text += &format!(", kept for {}", span(question.retention_seconds));
    }
    if let Some(p99) = question.p99_us {
        text += &format!(", p99 within {}", time(p99));
    }
    let free = units::percent(question.headroom);
    text += &format!(
        "; {} channels, {} connections, {} subscriptions; {free} of each resource stays free.",
        units::count(question.channels),
        units::count(question.connections),
        units::count(question.subscriptions),
    );
    text
}

fn span(seconds: f64) -> String {
    match seconds {
        _ if seconds >= 172_800.0 => format!("{} days", units::digits(seconds / 86_400.0)),
        _ if seconds >= 7_200.0 => format!("{} hours", units::digits(seconds / 3_600.0)),
        _ => units::seconds(seconds),
    }
}

/// What is needed, on one machine.
pub(super) fn resources(question: &Question, answer: &Answer) -> Table {
    let mut rows = processors(question, answer);
    let mut row = |what: &str, value: String, why: String| {
        rows.push(vec![what.to_owned(), value, why]);
    };
    for share in &answer.memory {
        row("memory", units::bytes(share.bytes), share.what.clone());
    }
    row(
        "memory, all",
        units::bytes(answer.memory_bytes),
        "without headroom".into(),
    );
    if let Some(disk) = answer.disk {
        let each = units::digits(disk.bytes_per_message);
        let count = units::count(units::rounded(disk.stored_messages));
        row(
            "disk",
            units::bytes(disk.stored_bytes),
            format!("{count} messages of {each} B on disk, without headroom"),
        );
        if let Some(written) = disk.written_bytes_per_second {
            let why = "with checkpoints and what segments are zeroed with".into();
            row("disk writes", format!("{}/s", units::bytes(written)), why);
        }
    }
    if let Some(network) = answer.network {
        let why = format!(
            "{} B beside each body, and {} for Ethernet",
            units::digits(network.overhead_bytes),
            units::percent(ETHERNET - 1.0)
        );
        row("network in", gbit(network.in_bytes_per_second), why);
        row(
            "network out",
            gbit(network.out_bytes_per_second),
            String::new(),
        );
    }
    Table {
        head: vec!["", "", ""],
        rows,
    }
}

fn processors(question: &Question, answer: &Answer) -> Vec<Vec<String>> {
    let cpu = &answer.cpu;
    let row = |what: &str, value: String, why: String| vec![what.to_owned(), value, why];
    let bound = if cpu.bound_by_p99 {
        "so that the p99 holds"
    } else {
        "by the headroom"
    };
    let cores = match cpu.cores {
        Some(1) => "1 executor".into(),
        Some(cores) => format!("{} executors", units::count(cores)),
        None => "not to be had by more of them".into(),
    };
    let mut rows = vec![
        row(
            "processors",
            cores,
            format!(
                "n of them do n^{:.2} times what one does",
                cpu.scaling_exponent
            ),
        ),
        row(
            "each message",
            format!("{} µs", units::digits(cpu.us_each)),
            match cpu.us_each_alone {
                Some(alone) => format!("in full batches; {} µs alone", units::digits(alone)),
                None => "in full batches".into(),
            },
        ),
        row(
            "busy",
            format!("{} cores", units::digits(cpu.busy_cores)),
            format!(
                "of which each may be {} busy, {bound}",
                units::percent(cpu.utilisation)
            ),
        ),
        row(
            "channels",
            format!("{} or more", units::count(cpu.channels_min)),
            "a channel lives on one executor".into(),
        ),
    ];
    if let Some(p99) = cpu.expected_p99_us {
        let why = match (question.p99_us, cpu.p99_holds) {
            (Some(_), Some(false)) => "the p99 that was asked for does not hold",
            _ => "as measured here, over loopback",
        };
        rows.push(row("p99 to expect", time(p99), why.into()));
    }
    rows
}

/// Nodes, resource by resource.
pub(super) fn nodes(question: &Question, answer: &Answer) -> Table {
    let amount = |need: &Need, value: f64| match need.unit {
        "bytes" => units::bytes(value.max(0.0)),
        "bytes/s" => format!("{}/s", units::bytes(value)),
        unit => format!("{} {unit}", units::digits(value)),
    };
    let count = |nodes: Option<u64>| match nodes {
        Some(nodes) => units::count(nodes),
        None => "too small".into(),
    };
    let mut rows: Vec<Vec<String>> = answer
        .needs
        .iter()
        .map(|need| {
            vec![
                need.resource.to_owned(),
                amount(need, need.needed),
                amount(need, need.of_node),
                count(need.nodes),
            ]
        })
        .collect();
    rows.push(vec![
        format!("nodes of {} cores", units::count(question.node.cores)),
        String::new(),
        String::new(),
        count(answer.nodes),
    ]);
    Table {
        head: vec!["", "needed", "a node gives", "nodes"],
        rows,
    }
}
