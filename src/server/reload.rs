//! What changes while the broker runs: settings when SIGHUP asks, the routing table and the rules of
//! who may do what with their sources.
//!
//! All are read on a thread of their own, since a file may hang. A reload is all or nothing: a
//! configuration, a routing table or a rule that is bad is told of, and everything stays as it is.

use std::sync::{Arc, mpsc};

use super::executor::Control;
use super::{routing, security, tls};
use crate::config::{Change, Config};
use crate::routing::Watch;
use crate::rt::inbox::InboxSender;
use crate::rt::{self, Instant};
use crate::telemetry::log;

/// Reloads when it is asked to. Ends when dropped.
#[derive(Debug)]
pub(super) struct Reload {
    ask: mpsc::Sender<()>,
}

/// What is looked at from time to time.
#[derive(Debug)]
pub(super) struct Watched {
    pub routing: Watch,
    pub security: security::Sources,
    /// `None`: the ports speak no TLS.
    pub tls: Option<tls::Sources>,
}

impl Reload {
    /// Begins to wait, and to look for changes of what is watched.
    pub(super) fn start(
        config: Arc<Config>,
        watched: Watched,
        executors: Vec<InboxSender<Control>>,
    ) -> std::io::Result<Self> {
        let (ask, asked) = mpsc::channel();
        let mut reloader = Reloader {
            config,
            watched,
            routing_due: None,
            executors,
        };
        reloader.routing_looked_at();
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
    watched: Watched,
    /// When the routing table is to be looked at again.
    routing_due: Option<Instant>,
    executors: Vec<InboxSender<Control>>,
}

impl Reloader {
    fn run(mut self, asked: &mpsc::Receiver<()>) {
        loop {
            let tls = self.watched.tls.as_ref().and_then(tls::Sources::due);
            let due = [self.routing_due, self.watched.security.due(), tls];
            let asked = match due.into_iter().flatten().min() {
                Some(due) => asked.recv_timeout(due.since(rt::now())),
                None => asked.recv().map_err(mpsc::RecvTimeoutError::from),
            };
            match asked {
                Ok(()) => self.reload(),
                Err(mpsc::RecvTimeoutError::Timeout) => self.look(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks whether something has changed that is due to be looked at.
    fn look(&mut self) {
        let now = rt::now();
        if self.routing_due.is_some_and(|due| due <= now) {
            self.look_at_routing();
            self.routing_looked_at();
        }
        if let Some(rules) = self.watched.security.look(now) {
            self.tell(|| Control::Security(rules.clone()));
        }
        if let Some(tls) = self.watched.tls.as_mut().and_then(|tls| tls.look(now)) {
            self.tell(|| Control::Tls(tls.clone()));
        }
    }

    fn routing_looked_at(&mut self) {
        let every = routing::looks_every(&self.config.routing);
        self.routing_due = every.map(|every| rt::now().after(every));
    }

    fn look_at_routing(&mut self) {
        match self.watched.routing.poll() {
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
        let tls = self.watched.tls.as_mut();
        let again = match tls.map(|tls| tls.read_again(&merged.security)).transpose() {
            Ok(again) => again.flatten(),
            Err(error) => {
                tracing::error!(%error, "the configuration is not reloaded; the one before stays");
                return;
            }
        };
        let security = security::Sources::read(&merged);
        log::set_level(merged.log.level.filter());
        self.config = Arc::new(merged);
        self.watched.routing = watch;
        self.watched.security = security;
        if let Some(tls) = &mut self.watched.tls {
            tls.set_security(&self.config.security);
            if let Some(tls) = again.map(|again| tls.replace(again)) {
                self.tell(|| Control::Tls(tls.clone()));
            }
        }
        self.routing_looked_at();
        let rules = self.watched.security.rules();
        self.tell(|| Control::Security(rules.clone()));
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
    for change in changes {
        let Change { before, after, .. } = change;
        let setting = change.key.name;
        if change.counts {
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
