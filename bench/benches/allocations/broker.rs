//! A whole broker in this process.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ringmq::config::{Config, FlagValue, Machine, Sources};
use ringmq::server::{self, Mode};

/// A running broker; it ends with the process.
pub(crate) struct Broker {
    address: SocketAddr,
    _store: tempfile::TempDir,
}

impl Broker {
    pub(crate) fn start(cores: usize) -> Self {
        let store = tempfile::tempdir().expect("room for a store");
        let addresses = store.path().join("addresses");
        let settings = [
            format!("store.store_path={}", store.path().join("data").display()),
            format!("server.addresses_file={}", addresses.display()),
            format!("engine.cores={cores}"),
            "engine.pin=false".into(),
            "server.bind=127.0.0.1".into(),
            "grpc.port=0".into(),
            "rest.port=0".into(),
            "api.port=0".into(),
        ];
        let config = Config::load(&Sources {
            flags: settings.into_iter().map(FlagValue::Assignment).collect(),
            machine: Machine::read(),
            ..Sources::default()
        })
        .expect("the settings are good");
        std::thread::spawn(move || server::run(&config, Mode::Serve));
        Self {
            address: wait_for_address(&addresses),
            _store: store,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn wait_for_address(path: &Path) -> SocketAddr {
    for _ in 0..3_000 {
        let known = std::fs::read_to_string(path).ok();
        if let Some(address) = known.as_deref().and_then(|text| text.split('"').nth(3)) {
            return address.parse().expect("an address");
        }
        #[allow(
            clippy::disallowed_methods,
            reason = "an ordinary thread waits for a file"
        )]
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the broker does not start");
}
