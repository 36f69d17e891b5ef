//! Whether a result says something about the server, or about the generator.

use crate::outcome::{Outcome, number};
use crate::scenario::Load;
use crate::server::SATURATED;

/// What the outcome does not hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Findings {
    /// Whether the server could not have done more; `None`: its process is not known.
    pub saturated: Option<bool>,
    /// Messages that were due while there was room for them, and never handed over.
    pub left_behind: u64,
    /// Messages that were still coming when the drain ended.
    pub on_the_way: u64,
    /// Messages that the server neither confirmed nor refused.
    pub unconfirmed: u64,
    /// Streams that broke off.
    pub broken: u64,
}

/// Lateness that never matters, in nanoseconds.
const LATENESS_FLOOR_NS: u64 = 200_000;

/// The same of one message in a thousand.
const TAIL_FLOOR_NS: u64 = 1_000_000;

/// Why a result is not to be trusted, in words with the figure and what to do. None: it is valid.
pub(super) fn reasons(outcome: &Outcome, findings: &Findings) -> Vec<String> {
    let mut reasons = Vec::new();
    let counts = &outcome.counts;
    let measured = counts.delivered + counts.acknowledged + counts.sent;
    if measured == 0 {
        let text = "no message was measured: is the duration too short, or the server gone?";
        reasons.push(text.into());
    }
    if findings.broken > 0 {
        reasons.push(format!(
            "{} streams broke off before the end: see the errors and the server's log",
            findings.broken
        ));
    }
    let tried = counts.sent.max(counts.intended);
    if counts.failed * 100 > tried {
        let share = percent(counts.failed, tried);
        reasons.push(format!(
            "{} of {tried} messages failed ({share:.1} %): see the errors",
            counts.failed
        ));
    }
    if findings.unconfirmed > 0 {
        reasons.push(format!(
            "{} messages were never confirmed: whether they are lost is not known; see the \
             server's log, or raise --drain",
            findings.unconfirmed
        ));
    }
    if findings.on_the_way > 0 {
        reasons.push(format!(
            "{} messages were still on their way when the drain of {} s ended, or the server does \
             not answer any more: they are not verified; lower the rate, or raise --drain",
            findings.on_the_way, outcome.scenario.drain
        ));
    }
    match outcome.scenario.load {
        Load::Open { .. } => open_loop(outcome, findings, &mut reasons),
        Load::Closed => closed_loop(outcome, findings, &mut reasons),
    }
    reasons
}

/// An open loop has to keep its times.
fn open_loop(outcome: &Outcome, findings: &Findings, reasons: &mut Vec<String>) {
    let late_ns = outcome.lateness.value_at_quantile(0.99);
    let latency_ns = outcome.main_latency().value_at_quantile(0.99);
    let allowed_ns = LATENESS_FLOOR_NS.max(latency_ns / 10);
    if late_ns > allowed_ns {
        reasons.push(format!(
            "the generator was late: 1 % of the messages left more than {:.0} us after their time, \
             {:.0} us are allowed at this latency; give it more cores (--cores, more channels), a \
             core of its own (--cpus), or a lower rate",
            number(late_ns) / 1e3,
            number(allowed_ns) / 1e3
        ));
    }
    let tail_ns = outcome.lateness.value_at_quantile(0.999);
    let allowed_ns = TAIL_FLOOR_NS.max(outcome.main_latency().value_at_quantile(0.999) / 2);
    if tail_ns > allowed_ns {
        reasons.push(format!(
            "the tail is the generator's own: 0.1 % of the messages left more than {:.0} us after \
             their time, {:.0} us are allowed at this latency; give it a core of its own (--cpus)",
            number(tail_ns) / 1e3,
            number(allowed_ns) / 1e3
        ));
    }
    let intended = outcome.counts.intended;
    if findings.left_behind * 100 > intended {
        let share = percent(findings.left_behind, intended);
        reasons.push(format!(
            "the generator left {} messages behind ({share:.1} %) although the server had room for \
             them: give it more cores, or a lower rate",
            findings.left_behind
        ));
    }
}

/// A closed loop finds the limit of whoever is slower; that has to be the server.
fn closed_loop(outcome: &Outcome, findings: &Findings, reasons: &mut Vec<String>) {
    let busiest = outcome.generator.busy.iter().copied().fold(0.0, f64::max);
    if busiest < SATURATED || findings.saturated == Some(true) {
        return;
    }
    let share = busiest * 100.0;
    let server = if findings.saturated.is_some() {
        "the server's were not"
    } else {
        "whether the server's were is not known (--pid)"
    };
    reasons.push(format!(
        "a core of the generator was busy {share:.0} % of the time, {server}: the generator was \
         the limit, and this is its ceiling, not the server's; give it more cores (--cores, more \
         channels)"
    ));
}

fn percent(part: u64, whole: u64) -> f64 {
    number(part) * 100.0 / number(whole.max(1))
}
