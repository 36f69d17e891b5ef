//! Logs as they grow, tear and are tampered with.

use std::fs;
use std::path::PathBuf;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

struct Log {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        Self {
            _directory: directory,
            path,
        }
    }

    /// A broker's life in which these things were done.
    fn life(&self, acts: &[&str]) {
        let auditor = Auditor::start(&self.path).unwrap();
        for what in acts {
            auditor.record(act(what));
        }
        assert!(auditor.close(PATIENCE));
        // The next one must find the file free.
        drop(auditor);
        self.wait_until_free();
    }

    fn wait_until_free(&self) {
        let free = || {
            let file = fs::File::open(&self.path).unwrap();
            file.try_lock().is_ok()
        };
        for _ in 0..10_000 {
            if free() {
                return;
            }
            std::thread::yield_now();
        }
        assert!(free(), "the thread holds the file for ever");
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap()).into_owned()
    }

    fn verdict(&self) -> Verdict {
        let mut verifier = Verifier::new(None);
        verifier.read("f", &*fs::read(&self.path).unwrap()).unwrap();
        verifier.finish()
    }

    /// What became of each line.
    fn whats(&self) -> Vec<String> {
        let text = self.text();
        let what = |line: &str| -> String {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["what"].as_str().unwrap().to_owned()
        };
        text.lines().map(what).collect()
    }
}

fn act(what: &str) -> Entry<'_> {
    Entry {
        who: "alice",
        proof: Proof::Token,
        client_id: "a-1",
        peer: None,
        what,
        target: "t",
        outcome: Ok(()),
    }
}

fn refusal(target: &str) -> Entry<'_> {
    Entry {
        outcome: Err("no"),
        target,
        ..act("access.denied")
    }
}

#[test]
fn a_chain_goes_on_over_many_lives() {
    let log = Log::new();
    log.life(&["one", "two"]);
    log.life(&["three"]);
    let expected = [
        "audit.begin",
        "one",
        "two",
        "audit.end",
        "audit.begin",
        "three",
        "audit.end",
    ];
    assert_eq!(log.whats(), expected);
    let verdict = log.verdict();
    assert!(verdict.flaws.is_empty(), "{:?}", verdict.flaws);
    assert_eq!(verdict.lines, 7);
    assert_eq!(verdict.first, Some((1, Hash::default())));
    assert_eq!(verdict.last.unwrap().0, 7);
}

#[test]
fn every_change_of_a_byte_is_found() {
    let log = Log::new();
    log.life(&["one", "two"]);
    let sound = fs::read(&log.path).unwrap();
    let last_line = sound[..sound.len() - 1]
        .iter()
        .rposition(|b| *b == b'\n')
        .unwrap()
        + 1;
    // The last line has none behind it that would tell: its hash is noted elsewhere.
    let noted = log.verdict().last.unwrap().1;
    for at in 0..sound.len() {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        let mut verifier = Verifier::new(Some(noted));
        verifier.read("f", &*changed).unwrap();
        let verdict = verifier.finish();
        let found = verdict.flaw_count > 0 || verdict.torn_bytes > 0;
        assert!(
            found || (at >= last_line && !verdict.noted_found),
            "byte {at}"
        );
    }
}

#[test]
fn lines_that_are_missing_moved_or_put_in_are_found_where_they_are() {
    let log = Log::new();
    log.life(&["one", "two", "three"]);
    let text = log.text();
    let lines: Vec<&str> = text.lines().collect();
    let flaws = |lines: &[&str]| {
        let mut verifier = Verifier::new(None);
        let text = lines.join("\n") + "\n";
        verifier.read("f", text.as_bytes()).unwrap();
        verifier.finish().flaws
    };
    let broken = |line, expected, found| Flaw::Broken {
        file: "f".into(),
        line,
        expected,
        found,
    };
    assert_eq!(flaws(&lines), []);
    let missing = [lines[0], lines[2], lines[3]];
    assert_eq!(flaws(&missing), [broken(2, 2, 3)]);
    let twice = [lines[0], lines[0], lines[1]];
    assert_eq!(flaws(&twice), [broken(2, 2, 1)]);
    let forged = lines[1].replace("alice", "bobby");
    assert_eq!(flaws(&[lines[0], &forged, lines[2]]), [broken(3, 3, 3)]);
    let nonsense = [lines[0], "nonsense", lines[1]];
    let no_line = Flaw::NoLine {
        file: "f".into(),
        line: 2,
    };
    assert_eq!(flaws(&nonsense), [no_line]);
    // The beginning is missing: that is a file of the middle, and is said, not judged.
    assert_eq!(flaws(&lines[2..]), []);
}

#[test]
fn cut_off_lines_are_missed_when_a_later_hash_was_noted() {
    let log = Log::new();
    log.life(&["one", "two"]);
    let noted = log.verdict().last.unwrap().1;
    let text = log.text();
    let kept = text.lines().take(2).collect::<Vec<_>>().join("\n") + "\n";
    for (text, found) in [(&text, true), (&kept, false)] {
        let mut verifier = Verifier::new(Some(noted));
        verifier.read("f", text.as_bytes()).unwrap();
        let verdict = verifier.finish();
        assert_eq!((verdict.noted_found, verdict.flaw_count), (found, 0));
    }
}

#[test]
fn wherever_a_crash_tears_the_last_line_the_chain_goes_on() {
    let log = Log::new();
    log.life(&["one"]);
    let whole = fs::read(&log.path).unwrap();
    let last_line = whole[..whole.len() - 1]
        .iter()
        .rposition(|b| *b == b'\n')
        .unwrap()
        + 1;
    let last_byte = whole.len() - 1;
    for cut in (last_line..whole.len()).step_by(17).chain([last_byte]) {
        fs::write(&log.path, &whole[..cut]).unwrap();
        log.life(&["two"]);
        let verdict = log.verdict();
        assert_eq!(
            (verdict.flaw_count, verdict.torn_bytes),
            (0, 0),
            "cut at {cut}"
        );
        let whats = log.whats();
        let mended = &whats[2..whats.len() - 3];
        let expected: &[&str] = match cut {
            cut if cut == last_line => &[],
            // Only its end was missing.
            cut if cut == last_byte => &["audit.end"],
            _ => &["audit.torn"],
        };
        assert_eq!(mended, expected, "cut at {cut}");
    }
    // Blocks that a power cut left empty.
    let mut zeros = whole.clone();
    zeros.extend([0; 5_000]);
    fs::write(&log.path, zeros).unwrap();
    log.life(&[]);
    assert_eq!(log.verdict().flaw_count, 0);
    assert!(log.whats().contains(&"audit.torn".to_owned()));
}

#[test]
fn a_first_line_that_was_torn_begins_anew() {
    let log = Log::new();
    for torn in ["{", "{\"n\":1,\"time\":\"", "\0\0\0"] {
        fs::write(&log.path, torn).unwrap();
        log.life(&[]);
        assert_eq!(log.whats(), ["audit.torn", "audit.begin", "audit.end"]);
        assert_eq!(log.verdict().first, Some((1, Hash::default())));
    }
}

#[test]
fn a_file_that_is_no_audit_log_is_left_alone() {
    let log = Log::new();
    let long = "x".repeat(3 * LINE_BYTES_MAX);
    for content in ["root:x:0:0\n", "root", "{\"n\":1}\n", "\n", "\n\n", &long] {
        fs::write(&log.path, content).unwrap();
        let error = Auditor::start(&log.path).unwrap_err();
        assert!(error.to_string().contains("ringmq audit verify"), "{error}");
        assert_eq!(fs::read_to_string(&log.path).unwrap(), content);
    }
}

#[test]
fn two_brokers_do_not_share_a_file_and_nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let log = Log::new();
    let first = Auditor::start(&log.path).unwrap();
    let error = Auditor::start(&log.path).unwrap_err();
    assert!(error.to_string().contains("another broker"), "{error}");
    let mode = fs::metadata(&log.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(first.close(PATIENCE));
}

#[test]
fn a_full_file_is_put_aside_and_the_chain_goes_on_also_after_a_crash_in_between() {
    let log = Log::new();
    let mut file = LogFile::open(&log.path).unwrap();
    let append = |file: &mut LogFile, what: &str| {
        let (mut chain, mut line) = (file.chain, Vec::new());
        Record::of(&act(what), 0).write(None, 0, &mut chain, &mut line);
        file.append(&line, chain).unwrap();
    };
    append(&mut file, "one");
    append(&mut file, "two");
    file.rotate().unwrap();
    append(&mut file, "three");
    file.rotate().unwrap();
    drop(file);
    // As if the crash had come before the new file.
    fs::remove_file(&log.path).unwrap();
    log.life(&["four"]);
    let mut verifier = Verifier::new(None);
    let files = files(&log.path).unwrap();
    let name = |end: &str| PathBuf::from(format!("{}{end}", log.path.display()));
    assert_eq!(files, [".000000000002", ".000000000003", ""].map(name));
    for path in files {
        verifier.read("f", &*fs::read(&path).unwrap()).unwrap();
    }
    let verdict = verifier.finish();
    assert!(verdict.flaws.is_empty(), "{:?}", verdict.flaws);
    assert_eq!(verdict.last.unwrap().0, 6);
    assert_eq!(log.whats(), ["audit.begin", "four", "audit.end"]);
}

#[test]
fn a_flood_of_refusals_neither_fills_the_file_nor_displaces_acts() {
    let log = Log::new();
    let auditor = Auditor::start(&log.path).unwrap();
    for number in 0..50_000 {
        auditor.record(refusal(&number.to_string()));
        auditor.record(refusal("same"));
        if number % 1_000 == 0 {
            auditor.record(act("act"));
        }
    }
    assert!(auditor.close(PATIENCE));
    let (mut refusals, mut acts, mut lost, mut others) = (0, 0, 0, 0);
    for line in log.text().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        lost += line["lost"].as_u64().unwrap_or(0);
        match line["what"].as_str().unwrap() {
            "act" => acts += 1,
            "audit.refusals" => others += line["times"].as_u64().unwrap(),
            "access.denied" => refusals += line["times"].as_u64().unwrap_or(1),
            _ => {}
        }
    }
    assert_eq!(acts, 50);
    assert_eq!(refusals + lost + others, 100_000);
    assert!(log.text().lines().count() < 1_000);
    let verdict = log.verdict();
    assert_eq!((verdict.flaw_count, verdict.lost), (0, lost));
}

#[test]
fn one_that_is_disabled_does_nothing() {
    let auditor = Auditor::disabled();
    auditor.record(act("one"));
    assert!(!auditor.is_enabled() && auditor.flush(PATIENCE) && auditor.close(PATIENCE));
}

#[test]
fn auditors_work_from_many_threads() {
    let log = Log::new();
    let auditor = Auditor::start(&log.path).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let auditor = auditor.clone();
            std::thread::spawn(move || (0..100).for_each(|_| auditor.record(act("act"))))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert!(auditor.flush(PATIENCE));
    assert_eq!(
        log.whats().iter().filter(|what| *what == "act").count(),
        400
    );
    assert_eq!(log.verdict().flaw_count, 0);
}
