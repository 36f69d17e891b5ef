//! Runs one part of the broker so many times, for a tool that counts instructions
//! (`bench/instructions.py`).

#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use ringmq_bench::parts::{self, Run};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Usage: `ringmq-parts` lists the parts with the elements of a run; `ringmq-parts PART RUNS` runs
/// one of them so often to warm up, and as often again to be counted.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => list(),
        [name, runs] => {
            let part = parts::all().into_iter().find(|part| part.name == name);
            let (Some(part), Ok(runs)) = (part, runs.parse::<u32>()) else {
                return ExitCode::from(2);
            };
            let mut run = (part.make)();
            (0..runs).for_each(|_| run());
            counted_runs(&mut run, runs);
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(2),
    }
}

/// The tool counts inside this function alone, and knows it by its name.
#[inline(never)]
fn counted_runs(run: &mut Run, runs: u32) {
    for _ in 0..runs {
        run();
    }
}

fn list() -> ExitCode {
    let mut out = std::io::stdout();
    for part in parts::all() {
        if writeln!(out, "{}\t{}", part.elements, part.name).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
