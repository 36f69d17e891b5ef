//! `ringmq queues redrive`: dead letters go back.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::tasks;
use crate::cli::connection::{Outcome, Session};
use crate::cli::{channels, parse, text};
use crate::rt;

/// Seconds that a redrive with a pace takes in one request: stopping it takes no longer.
const SLICE_SECONDS: u64 = 2;

/// Messages that one without a pace moves in one request.
const SLICE_MAX: u64 = 20_000;

/// What goes where.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct RedriveArgs {
    /// The queue that they are in
    #[arg(long)]
    pub(in crate::cli) from: String,
    /// The queue that they go to [default: each to the one that it came from]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) to: String,
    /// Messages a second, as 100 or 100/s [default: as fast as it goes]
    #[arg(long, default_value = "0", hide_default_value = true, value_parser = parse::rate)]
    pub(in crate::cli) rate: u64,
    /// How many at most [default: all that are there]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(in crate::cli) max: u64,
}

/// What came of it, as programs read it.
#[derive(Debug, Serialize)]
struct Moved<'a> {
    queue: &'a str,
    moved: u64,
}

/// In slices, so that an interrupted command stops the broker too.
pub(super) async fn run(session: &Session, args: &RedriveArgs) -> Outcome {
    let waiting = tasks::waiting(session, &args.from).await?;
    let all = if args.max == 0 {
        waiting
    } else {
        args.max.min(waiting)
    };
    let began = rt::now();
    let mut moved = 0;
    while moved < all {
        let slice = slice(args.rate).min(all - moved);
        let (rate_text, slice_text) = (args.rate.to_string(), slice.to_string());
        let tags = [
            ("channel", args.from.as_str()),
            ("target", &args.to),
            ("rate", &rate_text),
            ("max", &slice_text),
        ];
        let body = session
            .manage("redrive-queue", &tags, channels::PATIENCE)
            .await;
        let body = body.inspect_err(|_| session.output.note(&before(moved, all)))?;
        let count = channels::number_in(&body, "moved");
        if count == 0 {
            break;
        }
        moved += count;
        session.output.note(&format!("{moved} of {all} moved"));
        let due = moved.saturating_mul(1_000).checked_div(args.rate);
        let due = Duration::from_millis(due.unwrap_or(0));
        if let Some(left) = due.checked_sub(rt::now().since(began)) {
            rt::sleep(left).await;
        }
    }
    if session.output.is_json() {
        let queue = args.from.as_str();
        return session.output.json(&Moved { queue, moved });
    }
    session
        .output
        .text(&format!("{} moved\n", text::counted(moved, "message")))
}

fn before(moved: u64, all: u64) -> String {
    format!("{moved} of {all} moved before")
}

const fn slice(rate: u64) -> u64 {
    if rate == 0 {
        SLICE_MAX
    } else {
        rate.saturating_mul(SLICE_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_follow_the_pace() {
        assert_eq!([0, 1, 50].map(slice), [SLICE_MAX, 2, 100]);
    }
}
