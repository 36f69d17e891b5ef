//! The place beside the executors: processors for threads that may block, so that what they do
//! takes nothing from an executor's core.

use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_setaffinity};

static ASIDE: OnceLock<Vec<usize>> = OnceLock::new();

/// Names the processors for the threads beside the executors: blocking threads, the heartbeat, and
/// whoever calls [`step_aside`]. To be called once, before executors start. An empty list leaves
/// all to the kernel.
pub fn keep_aside(cpus: &[usize]) {
    if !cpus.is_empty() {
        let _the_first_counts = ASIDE.set(cpus.to_vec());
    }
}

/// Moves the calling thread to the place beside the executors, if there is one.
pub fn step_aside() {
    let Some(cpus) = ASIDE.get() else { return };
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU) {
        set.set(*cpu);
    }
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::debug!(%error, "a thread cannot be kept off the executors' processors");
    }
}
