//! The arithmetic of a plan: from a question and the model to cores, memory, disk, network, nodes.
//!
//! Pure: everything it knows is in its arguments, so that each line of an answer can be checked by
//! hand. Headroom is the part of every resource that stays free.

use serde::Serialize;

use super::check::CLOSE;
use super::model::{self, Bound, Cost, Scaling};
use super::points::{Family, Measured, Purpose, is_stored};
use crate::outcome::number;
use crate::report::units;
use crate::scenario::Pattern;

/// On Ethernet 1,448 bytes of payload travel in frames that take 1,538 bytes of time: TCP, IP and
/// Ethernet headers, preamble and gap. Loopback, on which was measured, has next to none of it.
pub(crate) const ETHERNET: f64 = 1538.0 / 1448.0;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Question {
    pub family: Family,
    /// Messages sent a second, over all channels.
    pub messages_per_second: f64,
    /// Bytes of each body.
    pub size_bytes: u32,
    /// Subscribers that get each message.
    pub fan_out: u32,
    /// How long messages are kept; for queues how long they may pile up with nobody there.
    pub retention_seconds: f64,
    pub p99_us: Option<f64>,
    /// The part of each resource that stays free, 0 to 1.
    pub headroom: f64,
    pub channels: u64,
    pub connections: u64,
    pub subscriptions: u64,
    /// Messages that wait for their delay at a time.
    pub delayed: u64,
    pub node: Node,
}

/// What a node has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Node {
    pub cores: u64,
    pub memory_bytes: f64,
    pub disk_bytes: Option<f64>,
    /// What its disk takes in writes, bytes a second.
    pub disk_bytes_per_second: Option<f64>,
    /// What its network takes each way, bytes a second.
    pub network_bytes_per_second: Option<f64>,
}

/// What the plan says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Answer {
    pub cpu: Cpu,
    pub memory: Vec<Share>,
    /// The sum of these, on one machine with enough cores.
    pub memory_bytes: f64,
    pub disk: Option<Disk>,
    pub network: Option<Network>,
    pub needs: Vec<Need>,
    /// The most that one of the needs asks for; `None` when one of them cannot be met.
    pub nodes: Option<u64>,
    /// What makes this answer weaker than it looks, in sentences.
    pub doubts: Vec<String>,
}

/// Processors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Cpu {
    /// For each message with all its deliveries, at saturation.
    pub us_each: f64,
    /// For a message that comes alone to idle cores, where it was measured.
    pub us_each_alone: Option<f64>,
    /// Executors that would be busy all the time if one executor's work could be split freely.
    pub busy_cores: f64,
    /// The part of each executor that may be in use.
    pub utilisation: f64,
    /// Whether the p99 asks for more room than the headroom.
    pub bound_by_p99: bool,
    /// Whether the p99 holds there, as far as it was measured.
    pub p99_holds: Option<bool>,
    pub expected_p99_us: Option<f64>,
    /// Executors of one machine; `None` when no number of them is enough.
    pub cores: Option<u64>,
    pub scaling_exponent: f64,
    /// Channels that the load has to be spread over: one lives on one executor.
    pub channels_min: u64,
}

/// A part of the memory, by what takes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Share {
    pub what: String,
    pub bytes: f64,
}

/// Storage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Disk {
    pub stored_messages: f64,
    pub stored_bytes: f64,
    pub bytes_per_message: f64,
    /// Written a second, with what is written beside the records; `None` when not measured.
    pub written_bytes_per_second: Option<f64>,
}

/// The network as the broker sees it, with the headers of Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Network {
    pub in_bytes_per_second: f64,
    pub out_bytes_per_second: f64,
    /// Beside the body, each time a message passes.
    pub overhead_bytes: f64,
}

/// A resource: how much of it is needed, how much a node gives, how many nodes that makes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Need {
    pub resource: &'static str,
    pub unit: &'static str,
    pub needed: f64,
    pub of_node: f64,
    /// `None`: no number of such nodes is enough.
    pub nodes: Option<u64>,
}

/// Answers a question.
///
/// # Errors
/// When the family's cost was not measured.
pub(crate) fn answer(measured: &Measured, question: &Question) -> anyhow::Result<Answer> {
    let family = question.family;
    let Some(cost) = model::cost(measured, family) else {
        anyhow::bail!(
            "{family} was not measured at two sizes or more; measure it, or ask for one of: {}",
            named(&measured.families())
        );
    };
    let scaling = model::scaling(measured, family);
    let cpu = cpu(measured, question, &cost, scaling);
    let memory = memory(measured, question, cpu.cores.unwrap_or(question.node.cores));
    let disk = disk(measured, question);
    let network = network(measured, question);
    let needs = needs(measured, question, &cpu, disk, network);
    let nodes = needs
        .iter()
        .map(|need| need.nodes)
        .collect::<Option<Vec<_>>>();
    let doubts = doubts(measured, question, &cost, scaling, &cpu);
    Ok(Answer {
        cpu,
        memory_bytes: memory.iter().map(|share| share.bytes).sum(),
        memory,
        disk,
        network,
        nodes: nodes.map(|nodes| nodes.into_iter().max().unwrap_or(1)),
        needs,
        doubts,
    })
}

fn named(families: &[Family]) -> String {
    let names: Vec<String> = families.iter().map(Family::to_string).collect();
    names.join("; ")
}

fn cpu(measured: &Measured, question: &Question, cost: &Cost, scaling: Option<Scaling>) -> Cpu {
    let us_each = cost.us(question.size_bytes, question.fan_out);
    let busy_cores = question.messages_per_second * us_each / 1e6;
    let free = 1.0 - question.headroom;
    let bound = question
        .p99_us
        .map(|p99| model::utilisation_for(measured, question.family, p99));
    let (utilisation, p99_holds) = match bound {
        Some(Bound::Below(most)) => (free.min(most), Some(true)),
        Some(Bound::Never(_)) => (free, Some(false)),
        Some(Bound::Unknown) | None => (free, None),
    };
    let scaling_exponent = scaling.map_or(1.0, |scaling| scaling.exponent);
    let alone = measured.points_of(question.family, Purpose::Alone).next();
    Cpu {
        us_each,
        us_each_alone: alone.map(|point| point.cpu_us_each.median),
        busy_cores,
        utilisation,
        bound_by_p99: utilisation < free,
        p99_holds,
        expected_p99_us: model::p99_at(measured, question.family, utilisation),
        cores: cores(busy_cores / utilisation, scaling_exponent),
        scaling_exponent,
        channels_min: whole_up(busy_cores / utilisation)
            .unwrap_or(u64::MAX)
            .max(1),
    }
}

/// Executors that do so many times the work of one, when n do n^exponent times as much.
fn cores(work: f64, exponent: f64) -> Option<u64> {
    if work <= 1.0 {
        return Some(1);
    }
    if exponent <= 0.0 {
        return None;
    }
    whole_up(work.powf(exponent.recip()))
}

/// A whole number that is not less. A hair above a whole number is rounding of the arithmetic.
fn whole_up(value: f64) -> Option<u64> {
    // The sum of nothing is -0, which must not become part of the text below.
    let up = (value - 1e-9).ceil().max(0.0) + 0.0;
    // Nobody has more than that; what follows would not be exact either.
    (up < 1e12).then(|| format!("{up:.0}").parse().ok())?
}

fn memory(measured: &Measured, question: &Question, executors: u64) -> Vec<Share> {
    let mut shares = fixed_memory(measured, executors);
    shares.extend(varying_memory(measured, question));
    shares
}

/// What a broker takes whatever it holds.
fn fixed_memory(measured: &Measured, executors: u64) -> Vec<Share> {
    let share = |what: &str, bytes: Option<f64>| {
        let what = what.to_owned();
        bytes.map(|bytes| Share { what, bytes })
    };
    let load = measured.memory.under_load;
    let shares = [
        share("the broker itself", model::idle_memory(measured, executors)),
        share(
            "buffers under load",
            load.map(|each| each * number(executors)),
        ),
    ];
    shares.into_iter().flatten().collect()
}

/// What it takes for what it holds, which is split when there are several.
fn varying_memory(measured: &Measured, question: &Question) -> Vec<Share> {
    let memory = &measured.memory;
    let pattern = question.family.pattern;
    let first = question.subscriptions.min(question.connections);
    let further = question.subscriptions - first;
    let stored = model::stored_memory(measured, pattern).filter(|_| is_stored(pattern));
    let kept = question.messages_per_second * question.retention_seconds;
    let shares = [
        (
            "connections",
            memory.connection,
            number(question.connections),
        ),
        (
            "first subscriptions of connections",
            memory.first_subscription,
            number(first),
        ),
        (
            "further subscriptions",
            memory.further_subscription,
            number(further),
        ),
        ("channels", memory.channel, number(question.channels)),
        ("index of stored messages", stored, kept),
        (
            "delayed messages",
            memory.delayed_message,
            number(question.delayed),
        ),
    ];
    shares
        .into_iter()
        .filter_map(|(what, each, count)| {
            let bytes = each? * count;
            let what = what.to_owned();
            (bytes > 0.0).then_some(Share { what, bytes })
        })
        .collect()
}

fn disk(measured: &Measured, question: &Question) -> Option<Disk> {
    let pattern = question.family.pattern;
    let each = model::on_disk(measured, pattern).filter(|_| is_stored(pattern))?;
    let bytes_per_message = each.at(question.size_bytes);
    let stored_messages = question.messages_per_second * question.retention_seconds;
    let written = model::written(measured, pattern);
    Some(Disk {
        stored_messages,
        stored_bytes: stored_messages * bytes_per_message,
        bytes_per_message,
        written_bytes_per_second: written
            .map(|line| line.at(question.size_bytes) * question.messages_per_second),
    })
}

fn network(measured: &Measured, question: &Question) -> Option<Network> {
    let overhead = model::wire_overhead(measured, question.family)?;
    let each = (f64::from(question.size_bytes) + overhead) * ETHERNET;
    let (times_in, times_out) = match question.family.pattern {
        // A request and its answer, in and out again.
        Pattern::Command | Pattern::Query => (2.0, 2.0),
        Pattern::Queue => (1.0, 1.0),
        _ => (1.0, f64::from(question.fan_out)),
    };
    Some(Network {
        in_bytes_per_second: question.messages_per_second * each * times_in,
        out_bytes_per_second: question.messages_per_second * each * times_out,
        overhead_bytes: overhead,
    })
}

fn needs(
    measured: &Measured,
    question: &Question,
    cpu: &Cpu,
    disk: Option<Disk>,
    network: Option<Network>,
) -> Vec<Need> {
    let (node, free) = (question.node, 1.0 - question.headroom);
    // Each node's executors work together; nodes work apart, and add up.
    let executors = number(node.cores).powf(cpu.scaling_exponent);
    let mut needs = vec![need(
        "processors",
        "cores' work",
        cpu.busy_cores,
        executors * cpu.utilisation,
    )];
    let sum = |shares: &[Share]| shares.iter().fold(0.0, |sum, share| sum + share.bytes);
    let own = sum(&fixed_memory(measured, node.cores));
    let split = sum(&varying_memory(measured, question));
    needs.push(need(
        "memory",
        "bytes",
        split,
        node.memory_bytes * free - own,
    ));
    let stored = disk.zip(node.disk_bytes);
    needs.extend(stored.map(|(disk, of)| need("disk", "bytes", disk.stored_bytes, of * free)));
    let written = disk.and_then(|disk| disk.written_bytes_per_second);
    let written = written.zip(node.disk_bytes_per_second);
    needs.extend(written.map(|(rate, of)| need("disk writes", "bytes/s", rate, of * free)));
    let wire = network.zip(node.network_bytes_per_second);
    needs.extend(wire.map(|(network, of)| {
        let busier = network
            .in_bytes_per_second
            .max(network.out_bytes_per_second);
        need("network", "bytes/s", busier, of * free)
    }));
    needs
}

fn need(resource: &'static str, unit: &'static str, needed: f64, of_node: f64) -> Need {
    let nodes = (of_node > 0.0)
        .then(|| whole_up(needed / of_node))
        .flatten();
    Need {
        resource,
        unit,
        needed,
        of_node,
        nodes: nodes.map(|nodes| nodes.max(1)),
    }
}

fn doubts(
    measured: &Measured,
    question: &Question,
    cost: &Cost,
    scaling: Option<Scaling>,
    cpu: &Cpu,
) -> Vec<String> {
    let mut doubts = of_the_fit(question, cost);
    match scaling {
        None => doubts.push(
            "Two executors were not measured: capacity is taken to grow with their number, which \
             is the best case."
                .into(),
        ),
        Some(scaling) if !scaling.own => doubts.push(
            "How this pattern scales was not measured; the worst that was measured is taken."
                .into(),
        ),
        Some(scaling) if !(1.0..=2.0).contains(&scaling.two) => doubts.push(format!(
            "Two executors were seen to do {} times what one does, which cannot be: measuring was \
             disturbed. The exponent is taken as {:.2}.",
            units::digits(scaling.two),
            scaling.exponent
        )),
        Some(_) => {}
    }
    if cpu.cores.is_none_or(|cores| cores > 2) || question.node.cores > 2 {
        doubts.push(format!(
            "One and two executors were measured. Beyond two it is an assumption that n of them do \
             n^{:.2} times what one does.",
            cpu.scaling_exponent
        ));
    }
    match (question.p99_us, cpu.p99_holds) {
        (Some(p99), Some(false)) => doubts.push(format!(
            "A p99 of {} was not reached at any load on this machine: the answer does not promise \
             it.",
            units::time_f(p99 * 1e3)
        )),
        (Some(_), None) => doubts.push(
            "Latency against load was not measured for this pattern: the p99 did not enter the \
             answer."
                .into(),
        ),
        _ => {}
    }
    if let Some(end) = cpu
        .bound_by_p99
        .then(|| curve_end(measured, question))
        .flatten()
        && cpu.utilisation >= end
    {
        doubts.push(format!(
            "Latency is known up to {} of saturation: beyond that the broker or the generator fell \
             behind. A generator with more processors may find more room.",
            units::percent(end)
        ));
    }
    if question.channels < cpu.channels_min {
        doubts.push(format!(
            "A channel lives on one executor: the load has to be spread over {} channels at least, \
             and {} were given.",
            cpu.channels_min, question.channels
        ));
    }
    doubts.extend(unmeasured(measured, question));
    doubts
}

/// How far the cost can be trusted.
fn of_the_fit(question: &Question, cost: &Cost) -> Vec<String> {
    let mut doubts = Vec::new();
    if !cost.covers(question.size_bytes, question.fan_out) {
        doubts.push(format!(
            "{} bytes to {} lies outside of what was measured ({} to {} bytes, to {} to {}): the \
             cost is extrapolated.",
            question.size_bytes,
            question.fan_out,
            cost.sizes.0,
            cost.sizes.1,
            cost.fan_outs.0,
            cost.fan_outs.1,
        ));
    }
    if cost.worst_error > CLOSE {
        doubts.push(format!(
            "The model misses one of its own points by {}: more rounds on a quiet machine would \
             help.",
            units::percent(cost.worst_error)
        ));
    }
    if cost.unsaturated > 0 {
        doubts.push(format!(
            "At {} of {} points the broker was not the limit (the generator was): their cost is \
             computed from CPU time, with batches that more load would have made fuller.",
            cost.unsaturated, cost.points
        ));
    }
    doubts
}

/// The greatest utilisation at which the broker kept up while latency was measured.
fn curve_end(measured: &Measured, question: &Question) -> Option<f64> {
    let loads = &model::curve(measured, question.family)?.loads;
    let last = loads.iter().rfind(|load| load.kept_up);
    last.map(|load| load.utilisation)
}

/// Parts of the answer that are missing because nobody measured what they stand on.
fn unmeasured(measured: &Measured, question: &Question) -> Vec<String> {
    let memory = &measured.memory;
    let stored = is_stored(question.family.pattern);
    let pattern = question.family.pattern;
    let missing = [
        (memory.idle.is_empty(), "an idle broker"),
        (
            memory.connection.is_none() && question.connections > 0,
            "a connection",
        ),
        (
            memory.further_subscription.is_none() && question.subscriptions > 0,
            "a subscription",
        ),
        (
            memory.channel.is_none() && question.channels > 0,
            "a channel",
        ),
        (
            memory.delayed_message.is_none() && question.delayed > 0,
            "a delayed message",
        ),
        (
            stored && model::stored_memory(measured, pattern).is_none(),
            "a stored message",
        ),
    ];
    let missing: Vec<&str> = missing
        .into_iter()
        .filter_map(|(is_missing, what)| is_missing.then_some(what))
        .collect();
    let mut doubts = Vec::new();
    if !missing.is_empty() {
        doubts.push(format!(
            "The memory of {} was not measured and is not in the sum.",
            missing.join(", ")
        ));
    }
    if stored && model::on_disk(measured, pattern).is_none() {
        doubts.push("What messages take on disk was not measured: no disk is planned.".into());
    }
    if model::wire_overhead(measured, question.family).is_none() {
        doubts.push("Bytes on the network were not measured: no network is planned.".into());
    }
    doubts
}

#[cfg(test)]
mod tests;
