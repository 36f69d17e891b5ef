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
