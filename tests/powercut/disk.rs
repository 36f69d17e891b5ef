//! A disk that forgets: what a write replaced is noted before it happens and struck off when a
//! sync has made the write last. After a kill, what is still noted may be put back.
//!
//! A sector, not a write, is what a disk keeps or loses: of several writes that were under way,
//! each sector holds what any of them left there.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringmq::rt::FileHook;

use crate::mock::stored::life::Random;

const SECTOR_BYTES: u64 = 512;

/// Names the directory of the notes.
pub(crate) const NOTES_VARIABLE: &str = "RINGMQ_POWERCUT_NOTES";

/// The notes of one executor: a file for each file that it writes. A note that was handed to the
/// kernel outlives the process, as the page cache does.
#[derive(Debug)]
pub(crate) struct Notes {
    directory: PathBuf,
    files: RefCell<HashMap<PathBuf, Noted>>,
}

#[derive(Debug)]
struct Noted {
    notes: File,
    len: u64,
    /// What the sync under way will make last.
    synced_len: u64,
}

/// Makes the hook of an executor.
pub(crate) fn notes() -> Rc<dyn FileHook> {
    let directory = std::env::var_os(NOTES_VARIABLE).expect("the test names a directory");
    Rc::new(Notes::in_directory(directory.into()))
}

impl Notes {
    fn in_directory(directory: PathBuf) -> Self {
        Self {
            directory,
            files: RefCell::default(),
        }
    }

    fn with<T>(&self, path: &Path, act: impl FnOnce(&mut Noted) -> T) -> T {
        let mut files = self.files.borrow_mut();
        let noted = files.entry(path.to_owned()).or_insert_with(|| Noted {
            notes: create(&self.directory, path),
            len: 0,
            synced_len: 0,
        });
        act(noted)
    }
}

fn create(directory: &Path, path: &Path) -> File {
    // One file's notes are found again by its path, which they begin with.
    let name = path.to_string_lossy().replace('/', "!");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let notes = options.open(directory.join(name));
    notes.expect("the directory of the notes")
}

impl FileHook for Notes {
    fn before_write(&self, path: &Path, offset: u64, len: usize) {
        let mut note = offset.to_le_bytes().to_vec();
        note.extend_from_slice(&u64::try_from(len).expect("a batch").to_le_bytes());
        note.resize(16 + len, 0);
        let file = File::open(path).expect("a segment that is written exists");
        file.read_exact_at(&mut note[16..], offset)
            .expect("a segment has its full size before it is written");
        self.with(path, |noted| {
            noted.notes.write_all(&note).expect("room for a note");
            noted.len += u64::try_from(note.len()).expect("a batch");
        });
    }

    fn before_sync(&self, path: &Path) {
        self.with(path, |noted| noted.synced_len = noted.len);
    }

    fn synced(&self, path: &Path) {
        self.with(path, |noted| {
            let mut rest = Vec::new();
            let notes = &mut noted.notes;
            notes
                .seek(SeekFrom::Start(noted.synced_len))
                .and_then(|_| notes.read_to_end(&mut rest))
                .and_then(|_| notes.set_len(0))
                .and_then(|()| notes.seek(SeekFrom::Start(0)))
                .and_then(|_| notes.write_all(&rest))
                .expect("notes can be rewritten");
            noted.len = u64::try_from(rest.len()).expect("a batch");
            noted.synced_len = 0;
        });
    }
}

/// Which of the unsynced sectors the disk loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// None: the process was killed and the machine lives.
    Nothing,
    /// All.
    Everything,
    /// Each or not, and those that were written twice back to any of their states.
    Some,
    /// Those in front; a later write reached the disk before an earlier one.
    Front,
    /// Those behind.
    Back,
}

impl Cut {
    pub(crate) const fn random(random: &mut Random) -> Self {
        match random.below(8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Front,
            3 => Self::Back,
            _ => Self::Some,
        }
    }
}

/// One write that was not synced.
#[derive(Debug)]
struct Note {
    offset: u64,
    /// What was there before.
    old: Vec<u8>,
}

/// Cuts the power behind a broker that was killed: puts back what the disk has lost, and takes
/// the notes away. Gives back how many sectors changed.
pub(crate) fn cut_power(notes: &Path, cut: Cut, random: &mut Random) -> usize {
    let mut changed = 0;
    for entry in fs::read_dir(notes).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = fs::read(&entry).unwrap();
        fs::remove_file(&entry).unwrap();
        changed += put_back(
            Path::new(&name.replace('!', "/")),
            &parse(&bytes),
            cut,
            random,
        );
    }
    changed
}

/// The notes in a file. The last one may be half written: its write had not begun.
fn parse(mut bytes: &[u8]) -> Vec<Note> {
    let mut notes = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<16>() {
        let (offset, len) = head.split_at(8);
        let offset = u64::from_le_bytes(offset.try_into().unwrap());
        let len = usize::try_from(u64::from_le_bytes(len.try_into().unwrap())).unwrap();
        let Some((old, rest)) = rest.split_at_checked(len) else {
            break;
        };
        let old = old.to_vec();
        notes.push(Note { offset, old });
        bytes = rest;
    }
    notes
}

fn put_back(path: &Path, notes: &[Note], cut: Cut, random: &mut Random) -> usize {
    let mut sectors: BTreeMap<u64, Vec<&Note>> = BTreeMap::new();
    for note in notes {
        let end = note.offset + u64::try_from(note.old.len()).unwrap();
        for sector in note.offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            sectors.entry(sector).or_default().push(note);
        }
    }
    if sectors.is_empty() {
        return 0;
    }
    let file = OpenOptions::new().write(true).open(path);
    let file = file.expect("a file with unsynced bytes is still there");
    let border = random.below(u64::try_from(sectors.len()).unwrap() + 1);
    let mut changed = 0;
    for ((sector, writes), place) in sectors.iter().zip(0..) {
        let lost = match cut {
            Cut::Nothing => 0,
            Cut::Everything => writes.len(),
            Cut::Some => usize::try_from(random.below(writes.len() as u64 + 1)).unwrap(),
            Cut::Front if place < border => writes.len(),
            Cut::Back if place >= border => writes.len(),
            Cut::Front | Cut::Back => 0,
        };
        changed += usize::from(lost > 0);
        // The last write's note first: the earliest of the lost ones has the last word.
        for note in writes.iter().rev().take(lost) {
            restore(&file, *sector, note);
        }
    }
    changed
}

/// Puts back the part of a note that lies in the sector.
fn restore(file: &File, sector: u64, note: &Note) {
    let from = (sector * SECTOR_BYTES).max(note.offset);
    let end = note.offset + u64::try_from(note.old.len()).unwrap();
    let end = ((sector + 1) * SECTOR_BYTES).min(end);
    let range =
        usize::try_from(from - note.offset).unwrap()..usize::try_from(end - note.offset).unwrap();
    file.write_all_at(&note.old[range], from).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of two sectors, its notes, and writes of 1, 2, 3 … over both; the first is synced.
    fn written(writes: u8) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (path, directory) = (folder.path().join("segment"), folder.path().join("notes"));
        fs::create_dir(&directory).unwrap();
        fs::write(&path, [0; 1_024]).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let notes = Notes::in_directory(directory);
        for value in 1..=writes {
            notes.before_write(&path, 100, 800);
            file.write_all_at(&[value; 800], 100).unwrap();
            if value == 1 {
                notes.before_sync(&path);
                notes.synced(&path);
            }
        }
        (folder, path)
    }

    /// The value that each sector has after a cut, and that it has everywhere.
    fn after(cut: Cut, seed: u64) -> (u8, u8) {
        let (folder, path) = written(4);
        let notes = folder.path().join("notes");
        cut_power(&notes, cut, &mut Random::new(seed));
        assert_eq!(fs::read_dir(&notes).unwrap().count(), 0, "notes are taken");
        let bytes = fs::read(&path).unwrap();
        assert_eq!((bytes[99], bytes[900]), (0, 0), "outside of the writes");
        let (front, back) = (&bytes[100..512], &bytes[512..900]);
        assert!(front.iter().all(|byte| *byte == front[0]));
        assert!(back.iter().all(|byte| *byte == back[0]));
        (front[0], back[0])
    }

    #[test]
    fn synced_writes_last_and_others_may_be_lost() {
        assert_eq!(after(Cut::Nothing, 1), (4, 4));
        assert_eq!(after(Cut::Everything, 1), (1, 1));
        let states: Vec<_> = (1..60).map(|seed| after(Cut::Some, seed)).collect();
        for value in 1..=4 {
            assert!(states.iter().any(|(front, _)| *front == value), "{value}");
            assert!(states.iter().any(|(_, back)| *back == value), "{value}");
        }
        assert!(states.iter().any(|(front, back)| front != back));
    }

    #[test]
    fn later_writes_may_reach_the_disk_before_earlier_ones() {
        let states: Vec<_> = (1..20).map(|seed| after(Cut::Front, seed)).collect();
        assert!(states.contains(&(1, 4)), "{states:?}");
        let states: Vec<_> = (1..20).map(|seed| after(Cut::Back, seed)).collect();
        assert!(states.contains(&(4, 1)), "{states:?}");
    }

    #[test]
    fn a_half_written_note_is_none() {
        let (folder, path) = written(2);
        let notes = folder.path().join("notes");
        let entry = fs::read_dir(&notes).unwrap().next().unwrap().unwrap();
        let whole = fs::read(entry.path()).unwrap();
        fs::write(entry.path(), &whole[..whole.len() - 1]).unwrap();
        cut_power(&notes, Cut::Everything, &mut Random::new(1));
        assert_eq!(fs::read(&path).unwrap()[100], 2);
    }
}
