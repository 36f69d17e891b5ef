//! What a broker counts, as its management service writes it for Prometheus: only what a frame
//! shows is read.

use std::collections::BTreeMap;

/// How long each core worked, in seconds.
const BUSY: &str = "ringmq_core_busy_seconds_total";

/// How long calls took, by method.
const LATENCY: &str = "ringmq_method_duration_seconds";

/// Connections that are open.
const CONNECTIONS: &str = "ringmq_connections";

/// What was counted until a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metrics {
    /// Seconds of work of each core.
    pub(super) busy: BTreeMap<u32, f64>,
    pub(super) connections: f64,
    latencies: BTreeMap<String, Histogram>,
}

/// Calls that took up to so many seconds, in the order of the bounds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Histogram(Vec<(f64, f64)>);

/// How long the calls of a method took.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Latency {
    pub(super) method: String,
    pub(super) calls: f64,
    /// Half of them took no longer, in seconds.
    pub(super) p50: f64,
    /// 99 of 100 took no longer.
    pub(super) p99: f64,
}

impl Metrics {
    /// Reads the text format.
    pub(super) fn read(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines() {
            if let Some((name, labels, value)) = parts(line) {
                metrics.add(name, labels, value);
            }
        }
        metrics
    }

    fn add(&mut self, name: &str, labels: &str, value: f64) {
        match name {
            BUSY => {
                let core = label(labels, "core").and_then(|core| core.parse().ok());
                if let Some(core) = core {
                    *self.busy.entry(core).or_default() += value;
                }
            }
            CONNECTIONS => self.connections += value,
            _ if name.strip_suffix("_bucket") == Some(LATENCY) => {
                let bound = label(labels, "le").and_then(|bound| match bound {
                    "+Inf" => Some(f64::INFINITY),
                    bound => bound.parse().ok(),
                });
                if let (Some(method), Some(bound)) = (label(labels, "method"), bound) {
                    let histogram = self.latencies.entry(method.to_owned()).or_default();
                    histogram.0.push((bound, value));
                }
            }
            _ => {}
        }
    }

    /// How long the calls since `before` took, those of the busiest methods first.
    pub(super) fn latencies_since(&self, before: &Self) -> Vec<Latency> {
        let none = Histogram::default();
        let mut latencies: Vec<_> = self
            .latencies
            .iter()
            .filter_map(|(method, now)| {
                let before = before.latencies.get(method).unwrap_or(&none);
                now.since(before).latency(method)
            })
            .collect();
        latencies.sort_by(|a, b| b.calls.total_cmp(&a.calls));
        latencies
    }
}

impl Histogram {
    fn since(&self, before: &Self) -> Self {
        let earlier = |bound: f64| {
            let found = before
                .0
                .iter()
                .find(|(known, _)| known.total_cmp(&bound).is_eq());
            found.map_or(0.0, |(_, count)| *count)
        };
        let left = |(bound, count): &(f64, f64)| (*bound, count - earlier(*bound));
        Self(self.0.iter().map(left).collect())
    }

    fn latency(&self, method: &str) -> Option<Latency> {
        let (_, calls) = *self.0.last()?;
        if calls < 1.0 {
            return None;
        }
        Some(Latency {
            method: method.to_owned(),
            calls,
            p50: self.quantile(0.5 * calls),
            p99: self.quantile(0.99 * calls),
        })
    }

    /// The bound under which so many calls are; the last one that is finite if none is.
    fn quantile(&self, calls: f64) -> f64 {
        let mut finite = self.0.iter().filter(|(bound, _)| bound.is_finite());
        let found = finite.clone().find(|(_, count)| *count >= calls);
        found
            .or_else(|| finite.next_back())
            .map_or(0.0, |(bound, _)| *bound)
    }
}

/// Name, labels and value of a line.
fn parts(line: &str) -> Option<(&str, &str, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(end)?;
    let wanted = name == BUSY || name == CONNECTIONS || name.starts_with(LATENCY);
    if !wanted {
        return None;
    }
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once('}')?,
        None => ("", rest),
    };
    // A time stamp may follow.
    let value = value.split_whitespace().next()?;
    Some((name, labels, value.parse().ok()?))
}

/// The value of a label; names of methods and cores need no escapes.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(calls: [u32; 3]) -> String {
        let [fast, slow, all] = calls;
        format!(
            "# TYPE {LATENCY} histogram\n\
             {LATENCY}_bucket{{method=\"SendEvent\",le=\"0.001\"}} {fast}\n\
             {LATENCY}_bucket{{method=\"SendEvent\",le=\"0.01\"}} {slow}\n\
             {LATENCY}_bucket{{method=\"SendEvent\",le=\"+Inf\"}} {all}\n\
             {LATENCY}_count{{method=\"SendEvent\"}} {all}\n\
             {BUSY}{{core=\"0\"}} 1.5\n{BUSY}{{core=\"1\"}} 2 1700000000\n\
             {CONNECTIONS} 7\nother_total{{core=\"1\"}} 9\n"
        )
    }

    #[test]
    fn quantiles_are_those_of_the_calls_since_the_last_frame() {
        let (before, now) = (Metrics::read(&text([100, 100, 100])), text([100, 199, 200]));
        let now = Metrics::read(&now);
        let latencies = now.latencies_since(&before);
        assert_eq!(latencies.len(), 1);
        assert_eq!(latencies[0].method, "SendEvent");
        assert!((latencies[0].calls - 100.0).abs() < 0.1);
        assert!((latencies[0].p50 - 0.01).abs() < 1e-9);
        assert!(now.latencies_since(&now).is_empty());
    }

    #[test]
    fn cores_are_told_apart() {
        let metrics = Metrics::read(&text([0, 0, 0]));
        assert_eq!(
            metrics.busy.into_iter().collect::<Vec<_>>(),
            [(0, 1.5), (1, 2.0)]
        );
        assert!((metrics.connections - 7.0).abs() < 0.1);
    }
}
