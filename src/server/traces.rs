//! Spans of the process: what is set up once, and the exporter of each executor.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::{Failed, exit};
use crate::config::{Compression, Config, ExportProtocol};
use crate::shard::Shard;
use crate::spans::setup::{Protocol, Wanted};
use crate::spans::{Fate, Setup, Spans};
use crate::telemetry::counters::Counters;

/// How long the last spans may take to leave when the broker ends.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// Checks the settings; `None` when there is to be no tracing.
pub(super) fn setup(config: &Config, machine: &str) -> Result<Option<Arc<Setup>>, Failed> {
    let telemetry = &config.telemetry;
    if !telemetry.enable || !telemetry.traces_enable {
        return Ok(None);
    }
    let setup = Setup::new(&Wanted {
        sampler: telemetry.sampler.word(),
        sampling_ratio: telemetry.sampling_ratio,
        endpoint: &telemetry.endpoint,
        protocol: match telemetry.protocol {
            ExportProtocol::Grpc => Protocol::Grpc,
            ExportProtocol::Http => Protocol::Http,
        },
        insecure: telemetry.insecure,
        headers: &telemetry.headers,
        timeout: telemetry.timeout,
        gzip: telemetry.compression == Compression::Gzip,
        service_name: &telemetry.service_name,
        instance: &instance_id(),
        host: machine,
    })
    .map_err(|error| {
        Failed::new(exit::CONFIG, &error)
            .with_remedy("Mend the setting, or set telemetry.enable = false.")
    })?;
    tracing::info!(endpoint = %telemetry.endpoint, sampler = telemetry.sampler.word(),
        "spans are exported");
    Ok(Some(Arc::new(setup)))
}

/// Tells this process from all others: a random UUID, as the conventions recommend.
fn instance_id() -> String {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        return std::process::id().to_string();
    }
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62;
    let digits = format!("{number:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    let (low, mid, high) = (part(0, 8), part(8, 12), part(12, 16));
    format!("{low}-{mid}-{high}-{}-{}", part(16, 20), part(20, 32))
}

/// Starts the exporter of this executor.
pub(super) fn start(setup: Arc<Setup>, shard: &Rc<Shard>) -> Rc<Spans> {
    // Weak: the exporter must not keep the shard from ending.
    let (drawn, counted) = (Rc::downgrade(shard), Rc::downgrade(shard));
    let random = move |bytes: &mut [u8]| {
        if let Some(shard) = drawn.upgrade() {
            shard.fill_random(bytes);
        }
    };
    Spans::start(setup, random, move |fate, count| {
        if let Some(shard) = Weak::upgrade(&counted) {
            tell(&shard.counters, fate, count);
        }
    })
}

fn tell(counters: &Counters, fate: Fate, count: u64) {
    let counter = match fate {
        Fate::Exported => &counters.spans_exported,
        Fate::QueueFull => &counters.span_drops_queue_full,
        Fate::Refused => &counters.span_drops_refused,
        Fate::Unreachable => &counters.span_drops_unreachable,
        Fate::Shutdown => &counters.span_drops_shutdown,
    };
    counter.add(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_random_uuids() {
        let (one, other) = (instance_id(), instance_id());
        assert_ne!(one, other);
        let parts: Vec<usize> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&one.as_bytes()[19]), "{one}");
    }
}
