//! The `ringmq` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Small, short-lived buffers of many sizes are the broker's daily bread.
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringmq::cli::run()
}
