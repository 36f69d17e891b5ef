//! Opening a store: what is created, what is kept, and what is refused.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ringmq_storage::{Error, FORMAT_VERSION, Options, SLOT_COUNT, Store};

const CREATE: Options = Options { create: true };
const KEEP: Options = Options { create: false };

/// Tells the copy of this test binary that the second-process test starts what to hold.
const HOLD: &str = "RINGMQ_TEST_HOLD_STORE";

fn refusal(path: &Path, options: Options) -> String {
    Store::open(path, options)
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn new_store_keeps_its_identity_and_placement() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/data");
    let first = Store::open(&path, CREATE).unwrap();
    assert!(first.was_created());
    assert_eq!(first.format_version(), FORMAT_VERSION);
    assert!(first.slot_of("orders").index() < SLOT_COUNT);
    let (id, placement) = (first.id(), first.placement());
    let created_at_unix_ns = first.created_at_unix_ns();
    drop(first);

    let again = Store::open(&path, CREATE).unwrap();
    assert!(!again.was_created());
    assert_eq!((again.id(), again.placement()), (id, placement));
    assert_eq!(again.created_at_unix_ns(), created_at_unix_ns);
}

#[test]
fn two_stores_never_share_identity_or_seed() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Store::open(a.path(), CREATE).unwrap();
    let b = Store::open(b.path(), CREATE).unwrap();
    assert_ne!(a.id(), b.id());
    assert_ne!(a.placement(), b.placement());
}

#[test]
fn missing_store_is_not_created_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    assert!(matches!(
        Store::open(&path, KEEP),
        Err(Error::Missing { .. })
    ));
    assert!(!path.exists());
    assert!(matches!(
        Store::open(dir.path(), KEEP),
        Err(Error::Missing { .. })
    ));
}

#[test]
fn directory_with_other_content_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("holiday.jpg"), b"").unwrap();
    let text = refusal(dir.path(), CREATE);
    assert!(
        text.contains("no MANIFEST") && text.contains("holiday.jpg"),
        "{text}"
    );
    assert!(!dir.path().join("MANIFEST").exists());
}

#[test]
fn fresh_volume_and_interrupted_creation_are_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    fs::write(dir.path().join(".snapshot"), b"").unwrap();
    fs::write(dir.path().join("MANIFEST.new"), b"half a mani").unwrap();
    assert!(Store::open(dir.path(), CREATE).unwrap().was_created());
    assert!(!dir.path().join("MANIFEST.new").exists());
}

#[test]
fn file_in_place_of_the_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    fs::write(&path, b"").unwrap();
    let text = refusal(&path, CREATE);
    assert!(
        text.contains("cannot use as a directory") && text.contains("data"),
        "{text}"
    );
}

#[test]
fn damaged_manifest_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), CREATE).unwrap());
    let manifest = dir.path().join("MANIFEST");
    let damaged = fs::read_to_string(&manifest).unwrap().replace("64", "65");
    fs::write(&manifest, &damaged).unwrap();
    let text = refusal(dir.path(), CREATE);
    assert!(text.contains(manifest.to_str().unwrap()), "{text}");
    assert!(text.contains("damaged: the checksum is"), "{text}");
    assert!(text.contains("supported format version: 1"), "{text}");
    assert_eq!(
        fs::read_to_string(&manifest).unwrap(),
        damaged,
        "it was touched"
    );

    for garbage in ["", "\n", "RINGMQ", "ringmq-manifest 0 00000000\n{}"] {
        fs::write(&manifest, garbage).unwrap();
        let text = refusal(dir.path(), CREATE);
        assert!(
            text.contains("the first line is not"),
            "{garbage:?}: {text}"
        );
    }
}

#[test]
fn newer_manifest_is_refused_with_both_versions() {
    let dir = tempfile::tempdir().unwrap();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"ringmq-manifest 2\nunheard of\n");
    let newer = format!("ringmq-manifest 2 {:08x}\nunheard of\n", hasher.finalize());
    fs::write(dir.path().join("MANIFEST"), newer).unwrap();
    let text = refusal(dir.path(), CREATE);
    assert!(text.contains("MANIFEST has format version 2"), "{text}");
    assert!(text.contains("supports up to 1"), "{text}");
}

#[test]
fn store_is_free_again_when_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let held = Store::open(dir.path(), CREATE).unwrap();
    let text = refusal(dir.path(), CREATE);
    let own = format!("locked by another broker (process {})", std::process::id());
    assert!(
        text.contains(&own) && text.contains(dir.path().to_str().unwrap()),
        "{text}"
    );
    drop(held);
    Store::open(dir.path(), CREATE).unwrap();
}

/// Started once more by the test below, as the other broker; on its own it does nothing.
#[test]
fn holder_for_the_second_process_test() {
    let Some(path) = std::env::var_os(HOLD) else {
        return;
    };
    let _held = Store::open(Path::new(&path), CREATE).unwrap();
    println!("held");
    let mut until_closed = String::new();
    std::io::stdin().read_line(&mut until_closed).unwrap();
    std::process::abort();
}

#[test]
fn second_process_is_refused_until_the_first_is_dead() {
    use std::io::BufRead;
    let dir = tempfile::tempdir().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "holder_for_the_second_process_test",
            "--nocapture",
        ])
        .env(HOLD, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(
        lines
            .map_while(Result::ok)
            .any(|line| line.contains("held"))
    );
    let text = refusal(dir.path(), CREATE);
    assert!(text.contains(&format!("process {}", other.id())), "{text}");

    // It dies without a chance to clean up: the lock goes with it.
    drop(other.stdin.take());
    assert!(!other.wait().unwrap().success());
    Store::open(dir.path(), CREATE).unwrap();
}
