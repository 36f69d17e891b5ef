//! What an operator can see: log lines, counters, latencies and the status report.
//!
//! Counters and histograms belong to one executor and are plain cells: counting costs an addition,
//! never a lock or an atomic. Whoever wants to see them asks every executor for a snapshot and
//! adds those up. Per-message facts are counted here and nowhere logged.

pub mod counters;
pub mod latency;
pub mod log;
pub mod process;
pub mod status;

/// The text of an error and of those that led to it: that of many is only their sort.
#[must_use]
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
