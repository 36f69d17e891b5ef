//! What a run found.

use std::io::Write;

use ringmq::rt;
use serde::Serialize;

use crate::measure::Run;
use crate::outcome::{Times, number};
use crate::server::Account;

/// The result of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub scenario: String,
    pub messages: u64,
    pub seconds: f64,
    pub per_second: f64,
    /// CPU time of the server for each message, when its process id is known.
    pub server_cpu_us: Option<f64>,
    /// CPU time of the generator for each message.
    pub own_cpu_us: Option<f64>,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// Lost, repeated, reordered or corrupted messages.
    pub violations: u64,
    /// Further figures, by name.
    pub figures: Vec<(String, f64)>,
}

/// A measured interval: clocks read at its beginning.
#[derive(Debug)]
pub(crate) struct Interval {
    began: rt::Instant,
    server: Option<Account>,
    own: Option<Account>,
}

impl Interval {
    pub(crate) fn begin(run: &Run) -> Self {
        Self {
            began: rt::now(),
            server: run.pid.and_then(Account::read),
            own: Account::read(std::process::id()),
        }
    }

    /// Ends the interval, in which `messages` passed.
    pub(crate) fn end(self, scenario: String, messages: u64, latency: &Times) -> Report {
        let elapsed = rt::now().since(self.began);
        let each = |before: Option<Account>| {
            let before = before?;
            Some(before.now()?.cpu_us_each(&before, messages))
        };
        let (server, own) = (each(self.server), each(self.own));
        let at = |quantile: f64| number(latency.value_at_quantile(quantile)) / 1e3;
        Report {
            scenario,
            messages,
            seconds: elapsed.as_secs_f64(),
            per_second: number(messages) / elapsed.as_secs_f64(),
            server_cpu_us: server,
            own_cpu_us: own,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: number(latency.max()) / 1e3,
            ..Report::default()
        }
    }
}

impl Report {
    pub(crate) fn print(&self, json: bool) -> std::io::Result<()> {
        let mut out = std::io::stdout();
        if json {
            return writeln!(out, "{}", serde_json::to_string(self)?);
        }
        writeln!(out, "{}", self.scenario)?;
        writeln!(
            out,
            "  {:.0}/s over {:.1} s, {} messages, {} violations",
            self.per_second, self.seconds, self.messages, self.violations
        )?;
        writeln!(
            out,
            "  latency us: p50 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
            self.p50_us, self.p99_us, self.p999_us, self.max_us
        )?;
        if let (Some(server), Some(own)) = (self.server_cpu_us, self.own_cpu_us) {
            writeln!(
                out,
                "  CPU us per message: server {server:.2}, generator {own:.2}"
            )?;
        }
        for (name, value) in &self.figures {
            writeln!(out, "  {name}: {value:.2}")?;
        }
        Ok(())
    }
}
