//! The routing table of the process: read at the start, and again when its file changes.

use std::sync::mpsc;
use std::time::Duration;

use super::executor::Control;
use super::{Failed, exit};
use crate::config::Routing;
use crate::routing::{RouteSource, RoutingTable, Watch};
use crate::rt::inbox::InboxSender;

/// Reads the table that the configuration names; a bad one is no start.
pub(super) fn load(config: &Routing) -> Result<(RoutingTable, Watch), Failed> {
    let source = match (config.enable, config.data.json(), &config.file_path) {
        (false, ..) | (true, None, None) => RouteSource::None,
        (true, Some(json), _) => RouteSource::Inline(json.to_owned()),
        (true, None, Some(path)) => RouteSource::File(path.clone()),
    };
    let mut watch = Watch::new(source, config.anchored);
    let table = watch.poll().map_err(|error| {
        Failed::new(exit::CONFIG, &error)
            .with_remedy("Mend the routing table, or set routing.enable = false.")
    })?;
    let table = table.unwrap_or_default();
    if !table.is_empty() {
        tracing::info!(entries = table.len(), "routing table read");
    }
    Ok((table, watch))
}

/// Looks for a changed table from time to time, on a thread of its own: a file may hang. Ends when
/// dropped.
#[derive(Debug)]
pub(super) struct Reload {
    _stop: mpsc::Sender<()>,
}

impl Reload {
    /// Begins to look; `None` when nothing can change.
    pub(super) fn start(
        config: &Routing,
        watch: Watch,
        executors: Vec<InboxSender<Control>>,
    ) -> std::io::Result<Option<Self>> {
        let Some(every) = config
            .auto_reload
            .filter(|_| config.enable && config.file_path.is_some())
        else {
            return Ok(None);
        };
        let (stop, stopped) = mpsc::channel();
        std::thread::Builder::new()
            .name("routing".to_owned())
            .spawn(move || run(watch, every, &stopped, &executors))?;
        Ok(Some(Self { _stop: stop }))
    }
}

fn run(
    mut watch: Watch,
    every: Duration,
    stopped: &mpsc::Receiver<()>,
    executors: &[InboxSender<Control>],
) {
    while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
        match watch.poll() {
            Ok(None) => {}
            Ok(Some(table)) => {
                tracing::info!(entries = table.len(), "routing table replaced");
                for executor in executors {
                    // One that has ended is the main thread's to tell of.
                    let _ended = executor.send(Control::Routing(table.clone()));
                }
            }
            Err(error) => {
                tracing::error!(%error, "the routing table is not replaced; the one before stays");
            }
        }
    }
}
