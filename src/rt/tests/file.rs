//! Files of the log through the ring.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::on_executor;
use crate::rt::{FileHook, LogFile};

/// A file of `len` zeroes in a directory that lives as long as the first value.
fn prepared(len: usize) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("00000001.segment");
    std::fs::write(&path, vec![0; len]).unwrap();
    (directory, path)
}

#[test]
fn writes_land_where_they_were_sent_and_nothing_else_changes() {
    let (_directory, path) = prepared(4 << 20);
    let at = path.clone();
    on_executor(move |tx| {
        let at = at.clone();
        async move {
            let file = LogFile::open(&at, None).await.unwrap();
            file.write_at(b"second".to_vec(), 4_090).await.unwrap();
            file.write_at(b"first".to_vec(), 0).await.unwrap();
            file.write_at(vec![7; 3 << 20], 1 << 20).await.unwrap();
            file.write_at(Vec::new(), 9 << 20).await.unwrap();
            file.sync_data().await.unwrap();
            file.close().await;
            tx.send(()).unwrap();
        }
    });
    let bytes = std::fs::read(&path).unwrap();
    let mut expected = vec![0; 4 << 20];
    expected[..5].copy_from_slice(b"first");
    expected[4_090..4_096].copy_from_slice(b"second");
    expected[1 << 20..].fill(7);
    assert!(bytes == expected);
}

#[test]
fn a_file_that_does_not_exist_is_not_made() {
    let (directory, _path) = prepared(1);
    let missing = directory.path().join("00000002.segment");
    let at = missing.clone();
    let kind = on_executor(move |tx| {
        let at = at.clone();
        async move {
            let error = LogFile::open(&at, None).await.unwrap_err();
            tx.send(error.kind()).unwrap();
        }
    });
    assert_eq!(kind, ErrorKind::NotFound);
    assert!(!missing.exists());
}

#[test]
fn a_full_disk_is_told_by_its_code() {
    let error = on_executor(|tx| async move {
        let file = LogFile::open(Path::new("/dev/full"), None).await.unwrap();
        let error = file.write_at(vec![1; 4_096], 0).await.unwrap_err();
        tx.send((error.kind(), error.raw_os_error())).unwrap();
    });
    assert_eq!(error, (ErrorKind::StorageFull, Some(28)));
}

#[test]
fn a_sync_that_fails_says_so() {
    // A character device has nothing that could be synced.
    let kind = on_executor(|tx| async move {
        let file = LogFile::open(Path::new("/dev/null"), None).await.unwrap();
        tx.send(file.sync_data().await.unwrap_err().kind()).unwrap();
    });
    assert_eq!(kind, ErrorKind::InvalidInput);
}

#[derive(Default)]
struct Seen(RefCell<Vec<String>>);

impl FileHook for Seen {
    fn before_write(&self, path: &Path, offset: u64, len: usize) {
        // The hook comes before the write: the old bytes are still there to be noted.
        let old = std::fs::read(path).unwrap()[usize::try_from(offset).unwrap()];
        let line = format!("write {len} at {offset} over {old}");
        self.0.borrow_mut().push(line);
    }

    fn before_sync(&self, _path: &Path) {
        self.0.borrow_mut().push("sync".into());
    }

    fn synced(&self, _path: &Path) {
        self.0.borrow_mut().push("synced".into());
    }
}

#[test]
fn a_file_that_writes_through_needs_no_sync() {
    let (_directory, path) = prepared(64);
    let at = path.clone();
    let (seen, flags) = on_executor(move |tx| {
        let path = at.clone();
        async move {
            let hook = Rc::new(Seen::default());
            let file = LogFile::open_write_through(&path, Some(hook.clone()))
                .await
                .unwrap();
            assert!(file.is_write_through());
            file.write_at(vec![9; 8], 16).await.unwrap();
            tx.send((hook.0.take(), flags_of_open_file(&path))).unwrap();
        }
    });
    assert_eq!(seen, ["write 8 at 16 over 0", "sync", "synced"]);
    // Without the flag, the write would come back before its bytes are on the disk.
    assert_eq!(flags & 0o10000, 0o10000, "{flags:o}");
    assert_eq!(std::fs::read(&path).unwrap()[16..24], [9; 8]);
}

/// The flags of this process's descriptor for `path`, as the kernel tells them.
fn flags_of_open_file(path: &Path) -> u32 {
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        if std::fs::read_link(entry.path()).is_ok_and(|target| target == path) {
            let info = Path::new("/proc/self/fdinfo").join(entry.file_name());
            let text = std::fs::read_to_string(info).unwrap();
            let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
            return u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        }
    }
    panic!("{} is not open", path.display())
}

#[test]
fn a_hook_sees_writes_and_syncs_before_they_happen() {
    let (_directory, path) = prepared(64);
    let seen = on_executor(move |tx| {
        let path = path.clone();
        async move {
            let hook = Rc::new(Seen::default());
            let file = LogFile::open(&path, Some(hook.clone())).await.unwrap();
            file.write_at(vec![9; 8], 16).await.unwrap();
            file.sync_data().await.unwrap();
            file.write_at(vec![5; 4], 16).await.unwrap();
            tx.send(hook.0.take()).unwrap();
        }
    });
    let expected = [
        "write 8 at 16 over 0",
        "sync",
        "synced",
        "write 4 at 16 over 9",
    ];
    assert_eq!(seen, expected);
}
