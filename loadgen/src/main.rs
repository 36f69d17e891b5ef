//! `ringmq-loadgen`: load for any server that speaks the contract, with honest latencies.
//!
//! Each run checks what it gets: a lost, repeated or reordered message fails it. The echo pattern
//! measures a server that does nothing but answer on the same transport (`ringmq-echo` in the
//! `bench` crate), so that a broker's own cost can be told from the transport's.

#![forbid(unsafe_code)]

mod cli;
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

use std::process::ExitCode;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
