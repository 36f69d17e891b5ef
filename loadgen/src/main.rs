//! `ringmq-loadgen`: load for any server that speaks the contract, with honest latencies.
//!
//! Each run checks what it gets: a lost, repeated or reordered message fails it. The echo pattern
//! measures a server that does nothing but answer on the same transport (`ringmq-echo` in the
//! `bench` crate), so that a broker's own cost can be told from the transport's.

#![forbid(unsafe_code)]

mod clock;
mod compare;
mod flow;
mod measure;
mod meter;
mod outcome;
mod pace;
mod patterns;
mod payload;
mod plan;
mod quantity;
mod random;
mod report;
mod run;
mod scenario;
mod series;
mod server;
mod spread;
mod sweep;
mod target;
mod verify;
mod worker;

use clap::{Parser, Subcommand};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Drives a server and reports rate, latency and what each message cost it.
#[derive(Clone, Debug, Parser)]
#[command(name = "ringmq-loadgen", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Measures one thing: connections, replay, delays, idle queues.
    Measure(measure::Measure),
}

fn main() -> anyhow::Result<()> {
    match Args::parse().command {
        Command::Measure(args) => measure::main(args),
    }
}
