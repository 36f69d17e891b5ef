//! What changes while the broker runs: settings when SIGHUP asks, the routing table and the rules
//! of who may do what with their sources.
//!
//! All are read on a thread of their own, since a file may hang. A reload is all or nothing: a
//! configuration, a routing table or a rule that is bad is told of, and everything stays as it is.

use std::sync::{Arc, mpsc};

use super::audit::record_reload;
use super::executor::Control;
use super::{routing, security, tls};
use crate::config::{Change, Config};
use crate::routing::Watch;
use crate::rt::inbox::InboxSender;
use crate::rt::{self, Instant};
use crate::security::audit::Auditor;
use crate::telemetry::log;

/// Reloads when it is asked to. Ends when dropped.
#[derive(Debug)]
pub(super) struct Reload {
    ask: Arc<mpsc::Sender<Asked>>,
}

/// What the thread of reloads is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All settings, and everything that they name.
    Everything,
    /// The keys of tokens: one is missing.
    Keys,
}

/// What was asked for before somebody listened.
#[derive(Debug)]
pub(super) struct Asks(mpsc::Receiver<Asked>);

/// What is looked at from time to time.
#[derive(Debug)]
pub(super) struct Watched {
    pub routing: Watch,
    pub security: security::Sources,
    /// `None`: the ports speak no TLS.
    pub tls: Option<tls::Sources>,
}

impl Reload {
    /// Makes what can be asked; who listens comes later.
    pub(super) fn new() -> (Self, Asks) {
        let (ask, asked) = mpsc::channel();
        (Self { ask: Arc::new(ask) }, Asks(asked))
    }

    /// What asks for the keys of tokens. It does not keep the thread alive.
    pub(super) fn key_asker(&self) -> impl Fn() + Send + Sync + use<> + 'static {
        let ask = Arc::downgrade(&self.ask);
        move || {
            let _ended = ask.upgrade().map(|ask| ask.send(Asked::Keys));
        }
    }

    /// Begins to listen, and to look for changes of what is watched.
    pub(super) fn start(
        asks: Asks,
        config: &Config,
        watched: Watched,
        executors: Vec<InboxSender<Control>>,
        audit: Auditor,
    ) -> std::io::Result<()> {
        let mut reloader = Reloader {
            config: Arc::new(config.clone()),
            watched,
            routing_due: None,
            executors,
            audit,
        };
        reloader.routing_looked_at();
        std::thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || reloader.run(&asks.0))?;
        Ok(())
    }

    /// Reads all settings again, soon.
    pub(super) fn ask(&self) {
        // The thread ends with the broker only, or by a panic that has been told of.
        let _ended = self.ask.send(Asked::Everything);
    }
}

struct Reloader {
    /// What counts now.
    config: Arc<Config>,
    watched: Watched,
    /// When the routing table is to be looked at again.
    routing_due: Option<Instant>,
    executors: Vec<InboxSender<Control>>,
    audit: Auditor,
}

impl Reloader {
    fn run(mut self, asked: &mpsc::Receiver<Asked>) {
        loop {
            let tls = self.watched.tls.as_ref().and_then(tls::Sources::due);
            let due = [self.routing_due, self.watched.security.due(), tls];
            let asked = match due.into_iter().flatten().min() {
                Some(due) => asked.recv_timeout(due.since(rt::now())),
                None => asked.recv().map_err(mpsc::RecvTimeoutError::from),
            };
            match asked {
                Ok(Asked::Everything) => self.reload(),
                Ok(Asked::Keys) => {
                    self.watched.security.keys_wanted();
                    self.look();
                }
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
            record_reload(&self.audit, "security.reload", "", Ok(()));
        }
        if let Some(tls) = self.watched.tls.as_mut().and_then(|tls| tls.look(now)) {
            self.tell(|| Control::Tls(tls.clone()));
            record_reload(&self.audit, "tls.reload", "", Ok(()));
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
                record_reload(&self.audit, "routing.reload", "", Ok(()));
            }
            Err(error) => {
                tracing::error!(%error, "the routing table is not replaced; the one before stays");
                let error = error.to_string();
                record_reload(&self.audit, "routing.reload", "", Err(&error));
            }
        }
    }

    fn reload(&mut self) {
        match self.take_over() {
            Ok(changes) => {
                tell_changes(&changes);
                let names: Vec<&str> = changes.iter().map(|change| change.key.name).collect();
                record_reload(&self.audit, "settings.reload", &names.join(" "), Ok(()));
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "the configuration is not reloaded; the one before stays"
                );
                record_reload(&self.audit, "settings.reload", "", Err(&error));
            }
        }
    }

    /// Reads all anew, and goes by it if nothing is wrong with any of it.
    fn take_over(&mut self) -> Result<Vec<Change>, String> {
        let next = self.config.read_again().map_err(|error| {
            for problem in error.problems() {
                tracing::error!(%problem, "wrong in the configuration");
            }
            format!("{} problems in the configuration", error.problems().len())
        })?;
        let (merged, changes) = self.config.reloaded(&next);
        // The table is read anew even if no setting of it changed: its file may have.
        let (table, watch) = routing::read(&merged.routing).map_err(|error| error.to_string())?;
        let tls = self.watched.tls.as_mut();
        let again = tls.map(|tls| tls.read_again(&merged.security)).transpose();
        let again = again.map_err(|error| error.to_string())?.flatten();
        // The last that can fail: it changes what it is called on.
        let rules = self.watched.security.read_again(&merged);
        let rules = rules.map_err(|error| error.to_string())?;
        log::set_level(merged.log.level.filter());
        self.config = Arc::new(merged);
        self.watched.routing = watch;
        if let Some(tls) = &mut self.watched.tls {
            tls.set_security(&self.config.security);
            if let Some(tls) = again.map(|again| tls.replace(again)) {
                self.tell(|| Control::Tls(tls.clone()));
            }
        }
        self.routing_looked_at();
        self.tell(|| Control::Security(rules.clone()));
        self.tell(|| Control::Routing(table.clone()));
        self.tell(|| Control::Reload(self.config.clone()));
        for finding in &self.config.provenance.warnings {
            tracing::warn!(remedy = finding.remedy, "{}", finding.what);
        }
        Ok(changes)
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
