//! A broker whose file system fills up under it, in a small one of its own.
//!
//! The file system is a tmpfs in a mount namespace. Where the machine does not allow that, the
//! tests say so and pass.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Broker, poll, say};
use crate::mock::kubemq::{self, START_FROM_FIRST, path};
use crate::mock::peer::{PATIENCE, Peer};
use crate::mock::process::{FREE_PORTS, Process, program};

const CHANNELS: usize = 4;
const BODY_BYTES: usize = 16 << 10;
const DISK_FULL: &str = "the disk of the broker is full";

/// How long the broker may take to notice that there is room again.
const RECOVERY: Duration = Duration::from_secs(30);

/// A file system of some MiB that only the programs see that are run in it. It ends with its
/// holder.
struct SmallDisk {
    holder: Process,
    folder: TempDir,
}

impl SmallDisk {
    /// `None` where a namespace or a mount is refused.
    fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let point = folder.path().join("disk");
        std::fs::create_dir(&point).unwrap();
        let script = format!("mount -t tmpfs -o size={mib}m tmpfs \"$1\" && echo up && exec cat");
        let mut command = program("unshare", folder.path());
        command.args(["-rm", "sh", "-c", &script, "sh"]).arg(&point);
        let mut holder = Process::start_fed(&mut command);
        let up = holder.wait_line(PATIENCE, |line| line == "up");
        if up.is_none() {
            say(&format!("skipped: no tmpfs here: {}", holder.output()));
            return None;
        }
        Some(Self { holder, folder })
    }

    fn point(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// A path below the mount, as this process sees it.
    fn outside(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.pid().as_raw_nonzero());
        let point = self.point();
        let below = point.strip_prefix("/").unwrap();
        Path::new(&root).join(below).join(name)
    }

    /// A command that runs in the file system.
    fn command(&self, binary: &str) -> Command {
        let mut command = program("nsenter", self.folder.path());
        let holder = self.holder.pid().as_raw_nonzero().to_string();
        command.args(["-U", "-m", "--preserve-credentials", "-t", &holder, binary]);
        command
    }

    fn fill(&self, mib: usize) {
        std::fs::write(self.outside("filler"), vec![7; mib << 20]).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.outside("filler")).unwrap();
    }

    fn start(&self, settings: &[&str]) -> (Process, SocketAddr) {
        let addresses = self.folder.path().join("addresses");
        let mut command = self.command(Broker::BINARY);
        command
            .arg("server")
            .args(FREE_PORTS)
            .args(["--cores", "2"]);
        command.arg("--data").arg(self.point().join("data"));
        let small = ["store.segment_bytes=4MiB", "store.free_bytes_min=2MiB"];
        for setting in small.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        Process::serve(&mut command, &addresses, PATIENCE)
    }

    /// The store must be sound when no broker has it open.
    fn assert_sound(&self) {
        let mut command = self.command(Broker::BINARY);
        command
            .args(["store", "verify", "--data"])
            .arg(self.point().join("data"));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("sound"), "{text}");
    }
}

/// What a probe is answered on the management port of the broker on this disk.
fn probe(disk: &SmallDisk, path: &str) -> (u16, String) {
    let addresses = std::fs::read_to_string(disk.folder.path().join("addresses")).unwrap();
    let addresses: serde_json::Value = serde_json::from_str(&addresses).unwrap();
    let mut stream = TcpStream::connect(addresses["api"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close";
    let request = format!("GET {path} {head}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.parse().unwrap(), body.to_owned())
}

fn stop(mut broker: Process) {
    broker.signal(Signal::TERM);
    let status = broker.wait_end(PATIENCE);
    assert!(status.success(), "{status}\n{}", broker.output());
}

fn channel(number: usize) -> String {
    format!("disk.{number}")
}

/// The body of an event: which one it is, and filling.
fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(BODY_BYTES, u8::try_from(number % 251).unwrap());
    body
}

/// Publishes one event; the text of the refusal when it is not stored.
fn publish(peer: &mut Peer, channel: &str, number: u64) -> Result<(), String> {
    let event = kubemq::stored_event(&format!("{channel}-{number}"), channel, &body(number));
    let mut reply = peer.unary(path::SEND_EVENT, &event);
    let Some(receipt) = reply.take_message() else {
        return Err(reply.grpc_message().to_owned());
    };
    if kubemq::number(&receipt, 2) == 1 {
        return Ok(());
    }
    Err(String::from_utf8_lossy(kubemq::field(&receipt, 3)).into_owned())
}

/// Publishes on every channel from a thread of its own until each is refused. Gives back how many
/// events were acknowledged on each.
fn publish_until_full(address: SocketAddr, from: &[u64]) -> Vec<u64> {
    std::thread::scope(|scope| {
        let publishers: Vec<_> = from
            .iter()
            .enumerate()
            .map(|(number, from)| {
                scope.spawn(move || {
                    let mut peer = Peer::connect(address);
                    let channel = channel(number);
                    let mut next = *from;
                    let deadline = Instant::now() + 3 * PATIENCE;
                    while Instant::now() < deadline {
                        match publish(&mut peer, &channel, next) {
                            Ok(()) => next += 1,
                            Err(text) => {
                                assert!(text.contains(DISK_FULL), "the refusal says why: {text}");
                                return next;
                            }
                        }
                    }
                    panic!("{channel}: the disk does not fill up: {next} stored");
                })
            })
            .collect();
        publishers
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Reads a channel from its first event on, until `count` came. Returns the first sequence.
fn read(address: SocketAddr, number: usize, client: &str, count: u64) -> u64 {
    let mut peer = Peer::connect(address);
    let request = kubemq::subscribe_stored(&channel(number), client, START_FROM_FIRST);
    let stream = peer.subscribe(path::SUBSCRIBE_TO_EVENTS, &request);
    let mut first = None;
    loop {
        let event = peer.next_message(stream);
        let event = event.unwrap_or_else(|| panic!("nothing behind {first:?} of {count}"));
        let sequence = kubemq::number(&event, 6);
        let begin = *first.get_or_insert(sequence);
        assert!(sequence >= begin);
        assert_eq!(
            kubemq::event_body(&event),
            body(sequence - 1),
            "event {sequence}"
        );
        if sequence == count {
            // The position moves when the client is known to have it.
            peer.wait_for(Duration::from_millis(300), |_| false);
            return begin;
        }
    }
}

#[test]
fn full_disk_refuses_new_events_and_ends_by_itself() {
    let Some(disk) = SmallDisk::mount(48) else {
        return;
    };
    disk.fill(24);
    let (mut broker, address) = disk.start(&[]);
    let stored = publish_until_full(address, &[0; CHANNELS]);
    assert!(
        stored.iter().sum::<u64>() > 100,
        "some were stored: {stored:?}"
    );
    let (status, reasons) = probe(&disk, "/ready");
    assert_eq!(status, 500, "{reasons}");
    let states = r#""is_healthy":true,"is_ready":false"#;
    assert!(reasons.contains(states), "{reasons}");
    let why = "no space for the next segment";
    assert!(reasons.contains(why), "{reasons}");
    assert_eq!(probe(&disk, "/health"), (200, "healthy".to_owned()));

    // Readers go on, and positions move; plain events do not care.
    for (number, count) in stored.iter().enumerate().filter(|(_, count)| **count > 0) {
        assert_eq!(read(address, number, "reader", *count), 1);
    }
    let mut peer = Peer::connect(address);
    let reply = peer.unary(path::SEND_EVENT, &kubemq::event("plain", b"x"));
    assert_eq!(reply.grpc_status(), Some(0), "{reply:?}");
    let refused = publish(&mut peer, &channel(0), 0);
    assert!(
        refused.is_err_and(|text| text.contains(DISK_FULL)),
        "it is full still"
    );

    disk.make_room();
    let mut stored = stored;
    for (number, count) in stored.iter_mut().enumerate() {
        let again = poll(RECOVERY, || {
            publish(&mut peer, &channel(number), *count).ok()
        });
        assert!(again.is_some(), "there is room again:\n{}", broker.output());
        *count += 1;
        let first = read(address, number, "reader", *count);
        assert!(
            *count == 1 || first > 1,
            "the position moved on the full disk"
        );
    }
    let ready = poll(RECOVERY, || (probe(&disk, "/ready").0 == 200).then_some(()));
    assert!(ready.is_some(), "{:?}", probe(&disk, "/ready"));
    drop(peer);
    broker.kill();
    disk.assert_sound();

    // What was acknowledged is there after a kill, and a store that fills up again is no worse.
    let (broker, address) = disk.start(&[]);
    for (number, count) in stored.iter().enumerate() {
        assert_eq!(read(address, number, "second reader", *count), 1);
    }
    let stored = publish_until_full(address, &stored);
    for (number, count) in stored.iter().enumerate() {
        assert_eq!(read(address, number, "third reader", *count), 1);
    }
    stop(broker);
    disk.assert_sound();
}

/// Channels that keep little need little space, however much passes through them.
#[test]
fn oldest_events_make_room_for_ever() {
    const PASSES: u64 = 2_000;
    let Some(disk) = SmallDisk::mount(48) else {
        return;
    };
    let settings = ["store.max_messages=50", "store.when_full=drop-oldest"];
    let (mut broker, address) = disk.start(&settings);
    let mut peer = Peer::connect(address);
    for number in 0..PASSES {
        for name in 0..CHANNELS {
            let stored = poll(RECOVERY, || publish(&mut peer, &channel(name), number).ok());
            assert!(stored.is_some(), "event {number}:\n{}", broker.output());
        }
    }
    drop(peer);
    assert!(!broker.has_ended());
    for name in 0..CHANNELS {
        let first = read(address, name, "reader", PASSES);
        assert_eq!(first, PASSES - 49, "the newest are kept");
    }
    stop(broker);
    disk.assert_sound();
}

/// A file system may take away again what it gave, as a failing disk does: then a write fails, and
/// the broker says that it is not healthy.
#[test]
fn a_log_that_has_failed_makes_the_broker_unhealthy() {
    let Some(disk) = SmallDisk::mount(48) else {
        return;
    };
    let (mut broker, address) = disk.start(&[]);
    let mut peer = Peer::connect(address);
    assert_eq!(publish(&mut peer, &channel(0), 0), Ok(()));
    assert_eq!(probe(&disk, "/health"), (200, "healthy".to_owned()));
    take_reserved_space(&disk.outside("data"));
    let mut filler = std::fs::File::create(disk.outside("filler")).unwrap();
    let piece = vec![7; 64 << 10];
    while filler.write_all(&piece).is_ok() {}
    let failed = poll(RECOVERY, || {
        let refused = publish(&mut peer, &channel(0), 1).err()?;
        refused.contains("failed").then_some(refused)
    });
    assert!(failed.is_some(), "a write fails:\n{}", broker.output());
    assert_eq!(probe(&disk, "/health"), (500, "not healthy".to_owned()));
    let (status, reasons) = probe(&disk, "/ready");
    assert_eq!(status, 500);
    let states = r#""is_healthy":false,"is_ready":false"#;
    assert!(reasons.contains(states), "{reasons}");
    assert!(reasons.contains("takes no more writes"), "{reasons}");
    broker.kill();
}

/// Makes holes of what segments have reserved behind their first half MiB.
fn take_reserved_space(folder: &Path) {
    use rustix::fs::FallocateFlags;
    const KEPT: u64 = 512 << 10;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            take_reserved_space(&path);
            continue;
        }
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        if len > KEPT {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, hole, KEPT, len - KEPT).unwrap();
        }
    }
}
