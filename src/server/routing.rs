//! The routing table of the process: read at the start, again when its file changes, and when the
//! settings are.

use std::time::Duration;

use super::{Failed, exit};
use crate::config::Routing;
use crate::routing::{LoadError, RouteSource, RoutingTable, Watch};

/// Reads the table that the configuration names; a bad one is no start.
pub(super) fn load(config: &Routing) -> Result<(RoutingTable, Watch), Failed> {
    let (table, watch) = read(config).map_err(|error| {
        Failed::new(exit::CONFIG, &error)
            .with_remedy("Mend the routing table, or set routing.enable = false.")
    })?;
    if !table.is_empty() {
        tracing::info!(entries = table.len(), "routing table read");
    }
    Ok((table, watch))
}

/// Reads the table, and what watches it from then on.
pub(super) fn read(config: &Routing) -> Result<(RoutingTable, Watch), LoadError> {
    let source = match (config.enable, config.data.json(), &config.file_path) {
        (false, ..) | (true, None, None) => RouteSource::None,
        (true, Some(json), _) => RouteSource::Inline(json.to_owned()),
        (true, None, Some(path)) => RouteSource::File(path.clone()),
    };
    let mut watch = Watch::new(source, config.anchored);
    let table = watch.poll()?;
    Ok((table.unwrap_or_default(), watch))
}

/// How often the table's file is looked at; `None` when nothing can change by itself.
pub(super) fn looks_every(config: &Routing) -> Option<Duration> {
    config
        .auto_reload
        .filter(|_| config.enable && config.file_path.is_some())
}
