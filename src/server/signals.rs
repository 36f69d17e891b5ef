//! Signals, as events of the main thread.

use std::io;
use std::sync::mpsc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// SIGTERM or SIGINT, by name.
    Stop(&'static str),
    /// SIGUSR1: log what the broker counts.
    Status,
    /// SIGHUP: read the settings again.
    Reload,
}

/// Starts to listen for signals, on a thread of its own.
pub(super) fn watch() -> io::Result<mpsc::Receiver<Event>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?;
    let (tx, rx) = mpsc::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                let event = match signal {
                    SIGTERM => Event::Stop("SIGTERM"),
                    SIGINT => Event::Stop("SIGINT"),
                    SIGHUP => Event::Reload,
                    _ => Event::Status,
                };
                if tx.send(event).is_err() {
                    return;
                }
            }
        })?;
    Ok(rx)
}
