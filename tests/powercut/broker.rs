//! The broker of this test: the same program, run again, whose disk forgets.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringmq::config::{Config, FlagValue, Machine, Sources};
use ringmq::server::{self, Extensions, Mode};
use ringmq::telemetry::log;

use crate::disk::{self, Cut, NOTES_VARIABLE, notes};
use crate::harness::poll;
use crate::mock::process::{Process, program};
use crate::mock::stored::life::Random;

const START_DEADLINE: Duration = Duration::from_secs(60);

/// Names the store of the broker that this process is to be; unset, it is none.
const DATA_VARIABLE: &str = "RINGMQ_POWERCUT_DATA";

/// Further settings of that broker, separated by spaces.
const SETTINGS_VARIABLE: &str = "RINGMQ_POWERCUT_SETTINGS";

#[test]
fn broker_with_a_disk_that_forgets() {
    let Some(data) = std::env::var_os(DATA_VARIABLE) else {
        return;
    };
    let addresses = Path::new(&data).with_extension("addresses");
    let fixed = [
        format!("store.store_path={}", data.display()),
        format!("server.addresses_file={}", addresses.display()),
        "server.bind=127.0.0.1".into(),
        "grpc.port=0".into(),
        "rest.port=0".into(),
        "api.port=0".into(),
        "store.segment_bytes=1048576".into(),
    ];
    let given = std::env::var(SETTINGS_VARIABLE).unwrap();
    let given = given.split_whitespace().map(str::to_owned);
    let settings = fixed.into_iter().chain(given);
    let config = Config::load(&Sources {
        flags: settings.map(FlagValue::Assignment).collect(),
        machine: Machine::read(),
        ..Sources::default()
    })
    .unwrap();
    let _log = log::init(config.log.level.filter(), log::Format::Text).unwrap();
    let extensions = Extensions {
        file_hook: Some(notes),
    };
    let code = server::run_with(&config, Mode::Serve, extensions);
    panic!("the broker ended by itself: {code:?}");
}

/// A store and its disk; brokers come and go.
#[derive(Debug)]
pub(crate) struct Machinery {
    folder: tempfile::TempDir,
    settings: String,
    /// How often the most used segment has been in use, as seen at the cuts.
    pub(crate) uses: u32,
}

impl Machinery {
    pub(crate) fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("notes")).unwrap();
        Self {
            folder,
            settings: settings.into(),
            uses: 0,
        }
    }

    fn notes(&self) -> PathBuf {
        self.folder.path().join("notes")
    }

    /// Starts a broker and waits until it listens.
    pub(crate) fn start(&self) -> (Process, SocketAddr) {
        let data = self.folder.path().join("data");
        let addresses = data.with_extension("addresses");
        let _none_of_an_earlier_life = std::fs::remove_file(&addresses);
        let name = "broker::broker_with_a_disk_that_forgets";
        let own: OsString = std::env::current_exe().unwrap().into();
        let mut broker = Process::start(
            program(&own.to_string_lossy(), self.folder.path())
                .args(["--exact", name, "--nocapture"])
                .env(DATA_VARIABLE, &data)
                .env(NOTES_VARIABLE, self.notes())
                .env(SETTINGS_VARIABLE, &self.settings),
        );
        let address = address_of(&mut broker, &addresses);
        (broker, address)
    }

    /// How often the most used segment of the store has been in use.
    fn most_uses(&self) -> u32 {
        let logs = self.folder.path().join("data/logs-1");
        let logs = std::fs::read_dir(logs).unwrap().map(|log| log.unwrap());
        let files = logs.flat_map(|log| std::fs::read_dir(log.path()).unwrap());
        let segments = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|kind| kind == "segment"));
        let uses = segments.map(|path| {
            let mut generation = [0; 4];
            let segment = std::fs::File::open(path).unwrap();
            // `docs/FORMAT.md`: the generation in the header.
            segment.read_exact_at(&mut generation, 36).unwrap();
            u32::from_le_bytes(generation)
        });
        uses.max().unwrap_or(0)
    }

    /// Cuts the power of a broker that was killed; gives back how many sectors the disk has lost.
    pub(crate) fn cut_power(&mut self, cut: Cut, random: &mut Random) -> usize {
        self.uses = self.uses.max(self.most_uses());
        disk::cut_power(&self.notes(), cut, random)
    }
}

fn address_of(broker: &mut Process, path: &Path) -> SocketAddr {
    let found = poll(START_DEADLINE, || {
        assert!(!broker.has_ended(), "it starts:\n{}", broker.output());
        let text = std::fs::read_to_string(path).ok()?;
        let addresses: serde_json::Value = serde_json::from_str(&text).ok()?;
        addresses.get("grpc")?.as_str()?.parse().ok()
    });
    found.unwrap_or_else(|| panic!("no address in time:\n{}", broker.output()))
}
