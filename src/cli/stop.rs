//! Ctrl-C, as something that a command can wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use super::exit;
use crate::rt::{self, Notify, Queue};

/// How often we look whether a signal came. It also turns an executor that has parked too early,
/// as the broker's heartbeat does.
const PERIOD: Duration = Duration::from_millis(20);

/// Whether the user wants the command to end. Until somebody asks for it, signals end the process
/// at once, as they do without us.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    raised: Notify,
}

impl Stop {
    /// Starts to look for signals, on the executor of the command.
    pub(super) fn start() -> Self {
        let stop = Self {
            asked: Arc::new(AtomicBool::new(false)),
            raised: Notify::new(),
        };
        let own = stop.clone();
        rt::spawn(Queue::Background, "signals", async move {
            loop {
                rt::sleep(PERIOD).await;
                if own.is_asked() {
                    own.raised.raise();
                }
            }
        });
        stop
    }

    /// From now on SIGINT and SIGTERM only ask; the second one ends the process.
    pub(super) fn listen(&self) {
        listen(&self.asked);
    }

    /// Whether a signal has come.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits for a signal. One waits at a time.
    pub(super) async fn wait(&self) {
        while !self.is_asked() {
            self.raised.wait().await;
        }
    }

    /// What `work` comes to; `None` when a signal comes first.
    pub(super) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let work = async { Some(work.await) };
        let stopped = async {
            self.wait().await;
            None
        };
        futures_lite::future::or(stopped, work).await
    }
}

/// Makes SIGINT and SIGTERM raise the flag; the second one ends the process.
pub(super) fn listen(asked: &Arc<AtomicBool>) {
    for signal in [SIGINT, SIGTERM] {
        let code = i32::from(exit::INTERRUPTED);
        // Where signals cannot be had, they end the process, as they do by default.
        let _by_default =
            signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(asked));
        let _by_default = signal_hook::flag::register(signal, Arc::clone(asked));
    }
}
