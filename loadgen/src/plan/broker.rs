//! A broker that is started for measuring: a child process with a data directory of its own, both
//! of which are gone when it is dropped.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::points::Sync;
use crate::target::Target;

/// How long a broker may take to listen, and to end once it is told to.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// How to start one.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The program.
    pub program: PathBuf,
    /// Where its data directory is made.
    pub directory: PathBuf,
    pub executors: u32,
    /// Processors it may use; empty: any.
    pub cpus: Vec<usize>,
    pub sync: Sync,
    /// Further settings, as `key=value`.
    pub settings: Vec<String>,
}

/// A running broker.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Broker {
    /// Starts a broker on a free port of the loopback interface and waits until it listens.
    ///
    /// # Errors
    /// When it does not start; with what it said.
    pub(crate) fn start(recipe: &Recipe) -> anyhow::Result<Self> {
        let folder = make_folder(&recipe.directory)?;
        let said = folder.join("said");
        let addresses = folder.join("addresses.json");
        let spawned = fs::File::create(&said)
            .map_err(anyhow::Error::from)
            .and_then(|log| {
                command(recipe, &folder, &addresses)
                    .stdin(Stdio::null())
                    .stdout(log.try_clone()?)
                    .stderr(log)
                    .spawn()
                    .with_context(|| format!("cannot start {}", recipe.program.display()))
            });
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                remove(&folder);
                return Err(error);
            }
        };
        // From here on dropping it ends the process and removes its data.
        let mut broker = Self {
            child,
            folder,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let listens = until(|| {
            let ended = broker.child.try_wait()?.is_some();
            Ok(ended || addresses.exists())
        })?;
        let address = fs::read_to_string(&addresses)
            .ok()
            .as_deref()
            .and_then(grpc_address);
        broker.address = address.filter(|_| listens).with_context(|| {
            let said = fs::read_to_string(&said).unwrap_or_default();
            format!(
                "{} does not listen: {}",
                recipe.program.display(),
                said.trim()
            )
        })?;
        Ok(broker)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The broker as a target of runs.
    pub(crate) fn target(&self, name: &str) -> Target {
        Target {
            addresses: vec![self.address],
            name: name.to_owned(),
            tls: None,
            token: None,
            pid: Some(self.pid()),
        }
    }

    /// Space that its data take on disk, in bytes, holes not counted.
    pub(crate) fn disk_bytes(&self) -> u64 {
        allocated(&self.folder.join("data"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ended_meanwhile = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let ended = until(|| Ok(self.child.try_wait()?.is_some()));
            if !matches!(ended, Ok(true)) {
                let _ended_meanwhile = self.child.kill();
                let _nothing_to_do_about_it = self.child.wait();
            }
        }
        remove(&self.folder);
    }
}

fn command(recipe: &Recipe, folder: &Path, addresses: &Path) -> Command {
    let sync = match recipe.sync {
        Sync::Strict => "strict",
        Sync::Interval => "interval",
    };
    let mut command = Command::new(&recipe.program);
    // Settings of the environment are the user's for another broker.
    command.env_clear();
    command.args(["server", "--bind", "127.0.0.1", "--log-level", "error"]);
    command.args(["--grpc-port", "0", "--rest-port", "0", "--api-port", "0"]);
    command.args(["--cores", &recipe.executors.to_string(), "--sync", sync]);
    command.arg("--data").arg(folder.join("data"));
    command.arg("--addresses-file").arg(addresses);
    if !recipe.cpus.is_empty() {
        let cpus: Vec<String> = recipe.cpus.iter().map(usize::to_string).collect();
        command.args(["--cpus", &cpus.join(",")]);
    }
    for setting in &recipe.settings {
        command.args(["--set", setting]);
    }
    command.current_dir(folder);
    command
}

fn grpc_address(json: &str) -> Option<SocketAddr> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    value.get("grpc")?.as_str()?.parse().ok()
}

/// A new directory that no other one of these has.
fn make_folder(parent: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(parent)
        .with_context(|| format!("cannot make the directory {}", parent.display()))?;
    let parent = parent.canonicalize()?;
    for number in 0..10_000 {
        let folder = parent.join(format!("ringmq-plan-{}-{number}", std::process::id()));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot make the directory {}", folder.display()));
            }
        }
    }
    anyhow::bail!(
        "{} is full of directories of earlier plans",
        parent.display()
    )
}

fn remove(folder: &Path) {
    // It lies in the user's directory under a name that says whose it was.
    let _left_behind = fs::remove_dir_all(folder);
}

fn allocated(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => allocated(&entry.path()),
        // The kernel counts blocks of 512 bytes, whatever the file system has.
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Waits until something is so; whether it was so in time.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the main thread, on which no executor runs"
)]
fn until(mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let looks = PATIENCE.as_millis() / LOOK.as_millis();
    for _ in 0..looks {
        if is_so()? {
            return Ok(true);
        }
        std::thread::sleep(LOOK);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(program: &str, directory: &Path) -> Recipe {
        Recipe {
            program: program.into(),
            directory: directory.into(),
            executors: 1,
            cpus: vec![0],
            sync: Sync::Strict,
            settings: vec!["store.segment_bytes=1MiB".into()],
        }
    }

    fn left(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn program_that_ends_at_once_is_an_error_with_what_it_said_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // `ls` refuses the broker's flags.
        let error = Broker::start(&recipe("ls", folder.path())).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("does not listen") && text.contains("--bind"),
            "{text}"
        );
        assert_eq!(left(folder.path()), 0);
    }

    #[test]
    fn program_that_does_not_exist_is_named_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let error = Broker::start(&recipe("/no/such/broker", folder.path())).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/broker"));
        assert_eq!(left(folder.path()), 0);
    }

    #[test]
    fn space_is_what_blocks_take_and_not_how_long_files_are() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/full"), vec![1; 100_000]).unwrap();
        let hole = fs::File::create(folder.path().join("hole")).unwrap();
        hole.set_len(1 << 30).unwrap();
        let bytes = allocated(folder.path());
        assert!((100_000..1 << 20).contains(&bytes), "{bytes}");
        assert_eq!(allocated(&folder.path().join("missing")), 0);
    }

    #[test]
    fn address_is_read_from_what_the_broker_writes() {
        let address = grpc_address(r#"{"grpc":"127.0.0.1:4321"}"#).unwrap();
        assert_eq!(address.port(), 4321);
        assert_eq!(grpc_address("{}"), None);
    }
}
