use std::collections::BTreeSet;

use super::*;

const FILE: &str = "/store/file";

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A file system with the directory `/store` and a synced file in it.
fn fs_with(content: &[u8]) -> SimFs {
    let fs = SimFs::new(1);
    fs.create_directory(path("/store")).unwrap();
    put(&fs, FILE, content);
    fs
}

fn put(fs: &SimFs, name: &str, content: &[u8]) {
    let mut file = fs.create(path(name)).unwrap();
    file.write_at(0, content).unwrap();
    file.sync().unwrap();
    fs.sync_directory(path("/store")).unwrap();
}

fn names(fs: &SimFs) -> Vec<String> {
    let entries = fs.list(path("/store")).unwrap();
    entries.into_iter().map(|entry| entry.name).collect()
}

#[test]
fn synced_bytes_never_vanish() {
    for seed in 0..200 {
        let fs = fs_with(&[1; 3_000]);
        fs.append_write(path(FILE), 700, &[2; 1_500]).unwrap();
        fs.sync_path(path(FILE)).unwrap();
        assert!(fs.is_synced(path(FILE)).unwrap());
        fs.crash(seed);
        let content = fs.read(path(FILE)).unwrap();
        assert_eq!(content[..700], [1; 700]);
        assert_eq!(content[700..2_200], [2; 1_500]);
        assert_eq!(content[2_200..], [1; 800]);
    }
}

#[test]
fn sectors_that_are_not_synced_survive_in_every_combination() {
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let fs = fs_with(&[1; 3 * 512]);
        fs.append_write(path(FILE), 0, &[2; 3 * 512]).unwrap();
        fs.crash(seed);
        let content = fs.read(path(FILE)).unwrap();
        for sector in content.chunks(512) {
            assert!(
                sector.iter().all(|byte| *byte == sector[0]),
                "a torn sector"
            );
        }
        seen.insert([content[0], content[512], content[1_024]]);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn sector_holds_what_it_held_at_one_moment() {
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let fs = fs_with(&[0; 512]);
        for version in 1..=3 {
            fs.append_write(path(FILE), 100, &[version; 200]).unwrap();
        }
        fs.crash(seed);
        let content = fs.read(path(FILE)).unwrap();
        assert_eq!(content[100..300], [content[100]; 200]);
        seen.insert(content[100]);
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn append_may_be_torn_in_length_and_content() {
    let mut lens = BTreeSet::new();
    let mut holes = 0;
    for seed in 0..500 {
        let fs = fs_with(&[1; 100]);
        fs.append_write(path(FILE), 100, &[2; 2_000]).unwrap();
        fs.crash(seed);
        let content = fs.read(path(FILE)).unwrap();
        assert_eq!(content[..100], [1; 100]);
        let kept = |byte: &u8| *byte == 0 || *byte == 2;
        assert!(content[100..].iter().all(kept));
        holes += usize::from(content.windows(2).any(|pair| pair == [0, 2]));
        lens.insert(content.len());
    }
    assert_eq!(lens, BTreeSet::from([100, 512, 1_024, 1_536, 2_048, 2_100]));
    assert!(holes > 10, "{holes}");
}

#[test]
fn failed_sync_loses_what_it_was_to_make_durable_and_the_next_does_not_help() {
    let mut lost = 0;
    let mut kept = 0;
    for seed in 0..100 {
        let fs = SimFs::new(seed);
        fs.create_directory(path("/store")).unwrap();
        put(&fs, FILE, &[1; 1_024]);
        fs.append_write(path(FILE), 0, &[2; 1_024]).unwrap();
        fs.fail_next_sync();
        fs.sync_path(path(FILE)).unwrap_err();
        assert_eq!(
            fs.read(path(FILE)).unwrap(),
            [2; 1_024],
            "the cache shows it"
        );
        fs.sync_path(path(FILE)).unwrap();
        fs.crash(seed);
        let content = fs.read(path(FILE)).unwrap();
        let old = content.iter().filter(|byte| **byte == 1).count() / 512;
        lost += old;
        kept += 2 - old;
        // What is written anew is as good as any.
        fs.append_write(path(FILE), 0, &[3; 1_024]).unwrap();
        fs.sync_path(path(FILE)).unwrap();
        fs.crash(seed);
        assert_eq!(fs.read(path(FILE)).unwrap(), [3; 1_024]);
    }
    assert!(lost > 50 && kept > 20, "lost {lost}, kept {kept}");
}

#[test]
fn names_that_are_not_synced_may_be_undone() {
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let fs = fs_with(b"old");
        let mut file = fs.create(path("/store/file.new")).unwrap();
        file.write_at(0, b"new").unwrap();
        file.sync().unwrap();
        fs.rename(path("/store/file.new"), path(FILE)).unwrap();
        fs.create(path("/store/other")).unwrap();
        fs.crash(seed);
        let content = fs.read(path(FILE)).unwrap();
        seen.insert((content, names(&fs).len()));
    }
    let outcome = |content: &[u8], count| (content.to_vec(), count);
    // Undone; only created; only renamed, and each with the other file or without.
    assert!(seen.contains(&outcome(b"old", 1)), "{seen:?}");
    assert!(seen.contains(&outcome(b"old", 2)), "{seen:?}");
    assert!(seen.contains(&outcome(b"old", 3)), "{seen:?}");
    assert!(seen.contains(&outcome(b"new", 1)), "{seen:?}");
    assert!(seen.contains(&outcome(b"new", 2)), "{seen:?}");
}

#[test]
fn synced_names_stay() {
    for seed in 0..100 {
        let fs = fs_with(b"old");
        let dynamic: &dyn Fs = &fs;
        dynamic.replace(path(FILE), b"new").unwrap();
        put(&fs, "/store/gone", b"");
        fs.remove(path("/store/gone")).unwrap();
        fs.sync_directory(path("/store")).unwrap();
        fs.crash(seed);
        assert_eq!(names(&fs), ["file"]);
        assert_eq!(fs.read(path(FILE)).unwrap(), b"new");
    }
}

#[test]
fn removal_of_a_directory_may_stop_half_way() {
    let mut counts = BTreeSet::new();
    for seed in 0..200 {
        let fs = fs_with(b"one");
        put(&fs, "/store/two", b"two");
        fs.remove_directory(path("/store")).unwrap();
        assert!(fs.list(path("/store")).is_err());
        fs.crash(seed);
        counts.insert(fs.list(path("/store")).map_or(0, |entries| entries.len()));
    }
    assert_eq!(counts, BTreeSet::from([0, 1, 2]));
}

#[test]
fn the_same_seed_crashes_the_same_way() {
    let run = |seed| {
        let fs = fs_with(&[1; 5_000]);
        fs.append_write(path(FILE), 300, &[2; 4_000]).unwrap();
        fs.append_write(path(FILE), 4_300, &[3; 4_000]).unwrap();
        fs.create(path("/store/a")).unwrap();
        fs.remove(path(FILE)).unwrap();
        fs.rename(path("/store/a"), path("/store/b")).unwrap();
        fs.crash(seed);
        (names(&fs), fs.read(path(FILE)).ok())
    };
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let outcome = run(seed);
        assert_eq!(outcome, run(seed));
        outcomes.insert(outcome);
    }
    assert!(outcomes.len() > 20, "seeds differ: {}", outcomes.len());
}

#[test]
fn full_disk_takes_the_first_part() {
    let fs = fs_with(&[1; 100]);
    fs.limit_bytes(Some(150));
    assert_eq!(fs.free_bytes(path("/store")).unwrap(), 50);
    let mut file = fs.open(path(FILE)).unwrap();
    let full = file.write_at(90, &[2; 100]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs.read(path(FILE)).unwrap()[90..], [2; 60]);
    let full = file.reserve(151).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    file.reserve(150).unwrap();
    file.write_at(0, &[3; 150]).unwrap();
    fs.remove(path(FILE)).unwrap();
    assert_eq!(fs.free_bytes(path("/store")).unwrap(), 150);
}

#[test]
fn regions_show_later_writes_and_keep_what_was_before_the_crash() {
    let fs = fs_with(&[1; 1_000]);
    let region = fs.map(path(FILE)).unwrap();
    fs.append_write(path(FILE), 10, &[2; 10]).unwrap();
    let slice = region.slice(10..20).unwrap();
    assert_eq!(slice[..], [2; 10]);
    assert_eq!(region.handles(), 1);
    for seed in 0..100 {
        fs.crash(seed);
    }
    fs.append_write(path(FILE), 10, &[3; 10]).unwrap();
    assert_eq!(slice[..], [2; 10]);
    assert!(region.slice(999..1_001).is_none());
    drop(slice);
    assert_eq!(region.handles(), 0);
}

#[test]
#[should_panic(expected = "while a slice of 10..20 lives")]
fn writing_under_a_slice_is_noticed() {
    let fs = fs_with(&[1; 1_000]);
    let region = fs.map(path(FILE)).unwrap();
    let _slice = region.slice(10..20).unwrap();
    fs.append_write(path(FILE), 20, &[2; 10]).unwrap();
    fs.append_write(path(FILE), 0, &[1; 12]).unwrap();
    fs.append_write(path(FILE), 15, &[2; 1]).unwrap();
}

#[test]
fn writing_where_a_slice_was_is_fine() {
    let fs = fs_with(&[1; 1_000]);
    let region = fs.map(path(FILE)).unwrap();
    drop(region.slice(10..20).unwrap());
    fs.append_write(path(FILE), 10, &[2; 10]).unwrap();
}

#[test]
fn unreadable_sectors_are_errors_until_they_are_written() {
    let fs = fs_with(&[1; 2_000]);
    fs.fail_reads(path(FILE), 512..1_024).unwrap();
    fs.crash(7);
    assert!(fs.read(path(FILE)).is_err());
    let region = fs.map(path(FILE)).unwrap();
    region.populate(0..512).unwrap();
    region.populate(500..513).unwrap_err();
    fs.append_write(path(FILE), 512, &[2; 512]).unwrap();
    region.populate(0..2_000).unwrap();
    assert_eq!(fs.read(path(FILE)).unwrap()[512], 2);
}

#[test]
#[should_panic(expected = "ends the process")]
fn slicing_what_cannot_be_read_is_noticed() {
    let fs = fs_with(&[1; 2_000]);
    fs.fail_reads(path(FILE), 512..1_024).unwrap();
    fs.map(path(FILE)).unwrap().slice(1_000..1_100);
}

#[test]
fn accidents_are_there_after_a_crash() {
    let fs = fs_with(&[1; 2_000]);
    fs.flip_bit(path(FILE), 5, 7).unwrap();
    fs.truncate(path(FILE), 10).unwrap();
    fs.crash(3);
    assert_eq!(
        fs.read(path(FILE)).unwrap(),
        [1, 1, 1, 1, 1, 129, 1, 1, 1, 1]
    );
}

#[test]
fn killed_process_loses_nothing_but_makes_nothing_safe() {
    let mut lost = 0;
    for seed in 0..100 {
        let fs = fs_with(b"old");
        let mut file = fs.open(path(FILE)).unwrap();
        file.write_at(0, b"new").unwrap();
        fs.kill();
        assert_eq!(fs.read(path(FILE)).unwrap(), b"new");
        assert!(file.write_at(0, b"bad").is_err(), "the process is gone");
        fs.crash(seed);
        lost += usize::from(fs.read(path(FILE)).unwrap() == b"old");
    }
    assert!((10..90).contains(&lost), "{lost}");
}

#[test]
fn creating_anew_leaves_the_mapped_file_as_it_was() {
    let fs = fs_with(b"first");
    let region = fs.map(path(FILE)).unwrap();
    fs.create(path(FILE)).unwrap();
    assert_eq!(fs.read(path(FILE)).unwrap(), b"");
    assert_eq!(&region.slice(0..5).unwrap()[..], b"first");
    assert!(
        fs.map(path(FILE)).is_err(),
        "an empty file cannot be mapped"
    );
}

#[test]
fn missing_and_misplaced_names_are_refused() {
    let fs = fs_with(b"");
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(
        kind(fs.open(path("/store/no")).map(drop)),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        kind(fs.create(path("/no/file")).map(drop)),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        kind(fs.rename(path("/store/no"), path(FILE))),
        io::ErrorKind::NotFound
    );
    assert_eq!(kind(fs.remove(path("/store/no"))), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.remove(path("/store"))), io::ErrorKind::IsADirectory);
    assert_eq!(
        kind(fs.create_directory(path(FILE))),
        io::ErrorKind::NotADirectory
    );
    fs.create_directory(path("/store/a/b")).unwrap();
    fs.create_directory(path("/store/a")).unwrap();
    fs.crash(1);
    let entries = fs.list(path("/store/a")).unwrap();
    assert!(entries.iter().all(|entry| entry.is_directory));
    assert_eq!(entries.len(), 1);
}

#[test]
fn stopped_file_system_refuses_every_change_and_serves_reads() {
    let fs = fs_with(b"old");
    fs.stop_after(2);
    let mut file = fs.create(path("/store/new")).unwrap();
    assert!(!fs.is_stopped());
    file.write_at(0, b"new").unwrap();
    assert!(fs.is_stopped());
    let refused = [
        file.write_at(0, b"later"),
        file.reserve(100),
        file.sync(),
        fs.append_write(path(FILE), 0, b"new"),
        fs.sync_path(path(FILE)),
        fs.rename(path(FILE), path("/store/other")),
        fs.remove(path(FILE)),
        fs.remove_directory(path("/store")),
        fs.sync_directory(path("/store")),
        fs.create_directory(path("/store/a")),
        fs.create(path(FILE)).map(drop),
    ];
    for (at, result) in refused.into_iter().enumerate() {
        assert!(result.is_err(), "call {at}");
    }
    assert_eq!(fs.read(path(FILE)).unwrap(), b"old");
    assert_eq!(fs.read(path("/store/new")).unwrap(), b"new");
    fs.crash(1);
    fs.append_write(path(FILE), 0, b"new").unwrap();
}

#[test]
fn failed_sync_of_a_directory_makes_nothing_safe() {
    let mut lost = 0;
    for seed in 0..100 {
        let fs = fs_with(b"old");
        fs.remove(path(FILE)).unwrap();
        fs.fail_next_sync();
        fs.sync_directory(path("/store")).unwrap_err();
        fs.crash(seed);
        lost += usize::from(fs.read(path(FILE)).is_err());
    }
    assert!((10..90).contains(&lost), "{lost}");
}
