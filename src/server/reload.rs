//! What changes while the broker runs: settings when SIGHUP asks, the routing table with its file.
//!
//! Both are read on a thread of their own, since a file may hang. A reload is all or nothing: a
//! configuration or a routing table that is bad is told of, and everything stays as it is.

use std::sync::{Arc, mpsc};

use super::executor::Control;
use super::routing;
use crate::config::{Change, Config};
use crate::routing::Watch;
use crate::rt::inbox::InboxSender;
use crate::telemetry::log;

/// Reloads when it is asked to. Ends when dropped.
#[derive(Debug)]
pub(super) struct Reload {
    ask: mpsc::Sender<()>,
}

impl Reload {
    /// Begins to wait, and to look for changes of the routing table.
    pub(super) fn start(
        config: Arc<Config>,
        watch: Watch,
        executors: Vec<InboxSender<Control>>,
    ) -> std::io::Result<Self> {
        let (ask, asked) = mpsc::channel();
        let reloader = Reloader {
            config,
            watch,
            executors,
        };
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || reloader.run(&asked))?;
        Ok(Self { ask })
    }

    /// Reads all settings again, soon.
    pub(super) fn ask(&self) {
        // The thread ends with the broker only, or by a panic that has been told of.
        let _ended = self.ask.send(());
    }
}

struct Reloader {
    /// What counts now.
    config: Arc<Config>,
    watch: Watch,
    executors: Vec<InboxSender<Control>>,
}

impl Reloader {
    fn run(mut self, asked: &mpsc::Receiver<()>) {
        loop {
            let asked = match routing::looks_every(&self.config.routing) {
                Some(every) => asked.recv_timeout(every),
                None => asked.recv().map_err(mpsc::RecvTimeoutError::from),
            };
            match asked {
                Ok(()) => self.reload(),
                Err(mpsc::RecvTimeoutError::Timeout) => self.look(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks whether the routing table has changed.
    fn look(&mut self) {
        match self.watch.poll() {
            Ok(None) => {}
            Ok(Some(table)) => {
                tracing::info!(entries = table.len(), "routing table replaced");
                self.tell(|| Control::Routing(table.clone()));
            }
            Err(error) => {
                tracing::error!(%error, "the routing table is not replaced; the one before stays");
            }
        }
    }

    fn reload(&mut self) {
        let next = match self.config.read_again() {
            Ok(next) => next,
            Err(error) => {
                for problem in error.problems() {
                    tracing::error!(%problem, "wrong in the configuration");
                }
                tracing::error!("the configuration is not reloaded; the one before stays");
                return;
            }
        };
        let (merged, changes) = self.config.reloaded(&next);
        // The table is read anew even if no setting of it changed: its file may have.
        let (table, watch) = match routing::read(&merged.routing) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(%error, "the configuration is not reloaded; the one before stays");
                return;
            }
        };
        log::set_level(merged.log.level.filter());
        self.config = Arc::new(merged);
        self.watch = watch;
        self.tell(|| Control::Routing(table.clone()));
        self.tell(|| Control::Reload(self.config.clone()));
        for finding in &self.config.provenance.warnings {
            tracing::warn!(remedy = finding.remedy, "{}", finding.what);
        }
        tell_changes(&changes);
    }

    fn tell(&self, control: impl Fn() -> Control) {
        for executor in &self.executors {
            // One that has ended is the main thread's to tell of.
            let _ended = executor.send(control());
        }
    }
}

fn tell_changes(changes: &[Change]) {
    let mut waiting = 0_usize;
    for Change { key, before, after } in changes {
        let setting = key.name;
        if key.live {
            tracing::info!(setting, before, after, "setting changed");
        } else {
            waiting += 1;
            tracing::warn!(
                setting,
                before,
                after,
                "setting counts from the next start on"
            );
        }
    }
    let changed = changes.len() - waiting;
    tracing::info!(changed, waiting, "configuration reloaded");
}
