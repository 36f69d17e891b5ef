//! A broker over an encrypted store: killed under load, refused without its key, whole with it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::mock::process::{Process, server_command};
use crate::mock::stored::life::Clients;

const PATIENCE: Duration = Duration::from_secs(60);
const STORE: i32 = 77;
const FIRST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const SECOND: &str = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999";

fn command(data: &Path, keys: &str) -> Command {
    let mut command = server_command(2, data);
    command.args(["--set", "store.segment_bytes=1MiB"]);
    if !keys.is_empty() {
        command.env("STORE_ENCRYPTION_KEY", keys);
        command.env("STORE_ENCRYPTION_ENABLE", "true");
    }
    command
}

fn start(data: &Path, keys: &str) -> (Process, SocketAddr) {
    let addresses = data.with_extension("addresses");
    Process::serve(&mut command(data, keys), &addresses, PATIENCE)
}

/// Whether any file of a directory holds a text.
fn holds(directory: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = std::fs::read(path).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[test]
fn killed_broker_finds_its_encrypted_store_and_nobody_else_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut clients = Clients::new(4, 2);
    for keys in [FIRST.to_owned(), [SECOND, FIRST].join(",")] {
        let (mut broker, address) = start(&data, &keys);
        assert_eq!(clients.verify(address), Ok(()));
        let lived = clients.live(address, 1_000, Duration::ZERO, || broker.kill());
        assert_eq!(lived, Ok(()), "{}", broker.output());
        for text in ["stored.", "follower-"] {
            assert!(!holds(&data, text), "{text} is in a file");
        }
    }
    for keys in ["", SECOND] {
        let refused = command(&data, keys).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        let told = told + &String::from_utf8_lossy(&refused.stdout);
        assert_eq!(refused.status.code(), Some(STORE), "{told}");
        assert!(told.contains("is encrypted with key "), "{told}");
        assert!(!told.contains(FIRST) && !told.contains(SECOND), "{told}");
    }
    let (mut broker, address) = start(&data, &[SECOND, FIRST].join("\n"));
    assert_eq!(clients.verify(address), Ok(()));
    assert_eq!(clients.catch_up(address), Ok(()));
    broker.kill();
}
