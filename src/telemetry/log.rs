//! Log lines: text for people, JSON for collectors, both on standard error.
//!
//! Executors must not wait for a terminal or a full pipe, so that lines are handed to a thread of
//! their own. What does not fit is dropped and counted, and the count is logged.

mod writer;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use writer::{LineSink, LogThread};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line of text; coloured on a terminal unless `NO_COLOR` is set.
    Text,
    /// One JSON object a line.
    Json,
}

/// The running log. Dropping it writes what is waiting, for a second at most.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Log {
    thread: LogThread,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No thread for the writer.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] std::io::Error),
    /// There is one already.
    #[error("the log of this process is set up already")]
    AlreadySet,
}

/// Sets up the log of the process: `level` and above, in `format`, on standard error.
///
/// # Errors
/// When the process has a log already, or no thread for it.
pub fn init(level: LevelFilter, format: Format) -> Result<Log, Error> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (sink, thread) = writer::start(Box::new(std::io::stderr())).map_err(Error::Thread)?;
    let (dispatch, change) = dispatch(level, format, colour, sink);
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| Error::AlreadySet)?;
    let _only_log = LEVEL.set(change);
    Ok(Log { thread })
}

/// Changes the level of a log.
type ChangeLevel = Box<dyn Fn(LevelFilter) + Send + Sync>;

/// Of the log of the process, once there is one.
static LEVEL: OnceLock<ChangeLevel> = OnceLock::new();

/// Writes lines of `level` and above from now on. Without a log nothing happens.
///
/// # Threading
/// From any thread; an executor that logs meanwhile may wait for a moment.
pub fn set_level(level: LevelFilter) {
    if let Some(change) = LEVEL.get() {
        change(level);
    }
}

impl Log {
    /// Waits until every line of so far is written, or until `timeout`; false on timeout.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.thread.flush(timeout)
    }
}

fn dispatch(
    level: LevelFilter,
    format: Format,
    colour: bool,
    sink: LineSink,
) -> (tracing::Dispatch, ChangeLevel) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(sink);
    // Whether a line is wanted is remembered at its place in the code: a filter that can change
    // costs nothing there.
    match format {
        Format::Text => {
            let builder = builder.with_ansi(colour).with_filter_reloading();
            let handle = builder.reload_handle();
            let change = move |level| {
                let _log_has_ended = handle.reload(filter(level));
            };
            (builder.into(), Box::new(change))
        }
        Format::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let change = move |level| {
                let _log_has_ended = handle.reload(filter(level));
            };
            (builder.into(), Box::new(change))
        }
    }
}

/// The libraries below us speak in frames and ring entries: from them only what is wrong. h2 even
/// warns at the peer's bidding, once for each odd frame.
fn filter(level: LevelFilter) -> EnvFilter {
    let (h2, runtime) = (level.min(LevelFilter::ERROR), level.min(LevelFilter::WARN));
    EnvFilter::new(format!("{level},h2={h2},glommio={runtime}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `emit` logs, as it would stand on standard error.
    fn logged(level: LevelFilter, format: Format, emit: impl FnOnce()) -> String {
        let (lines, written) = writer::tests::captured();
        let (sink, thread) = writer::start(lines).unwrap();
        let (dispatch, _) = dispatch(level, format, false, sink);
        tracing::dispatcher::with_default(&dispatch, emit);
        assert!(thread.flush(Duration::from_secs(10)));
        written()
    }

    fn emit() {
        tracing::info!(shard = 3, channel = %"orders", "subscriber too slow");
        tracing::debug!("detail");
        tracing::info!(target: "h2::proto", "frame");
        tracing::warn!(target: "h2::proto", "unasked answer");
        tracing::warn!(target: "glommio::reactor", "ring trouble");
    }

    #[test]
    fn text_lines_carry_level_and_fields() {
        let text = logged(LevelFilter::INFO, Format::Text, emit);
        assert!(
            text.contains("INFO") && text.contains("subscriber too slow"),
            "{text}"
        );
        assert!(text.contains("shard=3 channel=orders"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn level_changes_while_the_log_runs() {
        for format in [Format::Text, Format::Json] {
            let (lines, written) = writer::tests::captured();
            let (sink, thread) = writer::start(lines).unwrap();
            let (dispatch, change) = dispatch(LevelFilter::INFO, format, false, sink);
            tracing::dispatcher::with_default(&dispatch, || {
                for (level, line) in [("DEBUG", 1), ("INFO", 2), ("ERROR", 3)] {
                    change(level.parse().unwrap());
                    tracing::debug!(line, "detail");
                    tracing::info!(line, "state");
                }
            });
            assert!(thread.flush(Duration::from_secs(10)));
            let text = written();
            assert_eq!(text.lines().count(), 3, "{text}");
        }
    }

    #[test]
    fn json_lines_parse() {
        let text = logged(LevelFilter::INFO, Format::Json, emit);
        let first = text.lines().next().unwrap();
        let json: serde_json::Value = serde_json::from_str(first).unwrap();
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["shard"], 3);
        assert_eq!(json["message"], "subscriber too slow");
    }

    #[test]
    fn level_holds_and_libraries_stay_quiet() {
        let text = logged(LevelFilter::INFO, Format::Text, emit);
        assert!(
            !text.contains("detail") && !text.contains("frame"),
            "{text}"
        );
        assert!(!text.contains("unasked answer"), "{text}");
        assert!(text.contains("ring trouble"), "{text}");
        assert!(logged(LevelFilter::DEBUG, Format::Text, emit).contains("detail"));
        assert_eq!(logged(LevelFilter::ERROR, Format::Text, emit), "");
    }
}
