//! `ringmq audit`: whether nobody has changed what an audit log says.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::text::{counted, harmless};
use super::{answer, examples, exit, refuse};
use crate::config::{Config, Sources};
use crate::security::audit::{self, Hash, Verdict, Verifier};

/// What `ringmq audit` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Task {
    /// Read an audit log and say whether every line is tied to the one before it
    #[command(after_help = examples::AUDIT_VERIFY)]
    Verify(VerifyArgs),
}

/// Which log.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct VerifyArgs {
    /// Its files, the oldest first [default: audit.log_file with all that were put aside]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// A hash that was noted earlier; when no line has it any more, lines were cut off
    #[arg(long, value_name = "HASH", value_parser = parse_hash)]
    noted: Option<Hash>,
}

fn parse_hash(text: &str) -> Result<Hash, String> {
    Hash::parse(text).ok_or_else(|| "a hash has 64 hexadecimal digits".to_owned())
}

/// Does a task, and gives back the exit code of the process.
pub(super) fn run(sources: &Sources, task: Task) -> ExitCode {
    let Task::Verify(args) = task;
    let log_file = if args.files.is_empty() {
        match Config::load(sources) {
            Ok(config) => config.audit.log_file,
            Err(error) => return refuse(&error),
        }
    } else {
        None
    };
    match verify(args, log_file) {
        Ok(verdict) if is_sound(&verdict) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(exit::DAMAGED),
        Err(failure) => {
            eprintln!("ringmq: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// What was found, and the hash that it was to hold.
struct Found {
    verdict: Verdict,
    noted: Option<Hash>,
}

fn is_sound(found: &Found) -> bool {
    found.verdict.flaw_count == 0 && (found.noted.is_none() || found.verdict.noted_found)
}

fn verify(args: VerifyArgs, log_file: Option<PathBuf>) -> Result<Found, Failure> {
    let files = match log_file {
        Some(path) => audit::files(&path).map_err(unreadable(&path))?,
        None => args.files,
    };
    if files.is_empty() {
        return Err(Failure::Usage(
            "there is no audit log: name its files, or set audit.log_file".to_owned(),
        ));
    }
    let mut verifier = Verifier::new(args.noted);
    for path in &files {
        let name = path.display().to_string();
        let read = File::open(path).and_then(|file| verifier.read(&name, BufReader::new(file)));
        read.map_err(unreadable(path))?;
    }
    let found = Found {
        verdict: verifier.finish(),
        noted: args.noted,
    };
    answer(&harmless(&told(&found)));
    Ok(found)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let what = path.display().to_string();
    move |source| Failure::Input { what, source }
}

fn told(found: &Found) -> String {
    let verdict = &found.verdict;
    let mut text = String::new();
    for flaw in &verdict.flaws {
        let _never_fails = writeln!(text, "{flaw}");
    }
    let kept = u64::try_from(verdict.flaws.len()).unwrap_or(u64::MAX);
    if verdict.flaw_count > kept {
        let more = verdict.flaw_count - kept;
        let _never_fails = writeln!(text, "and {more} more");
    }
    if let (Some((first, previous)), Some((last, hash))) = (verdict.first, verdict.last) {
        let lines = counted(verdict.lines, "line");
        let _never_fails = writeln!(text, "{lines}, {first} to {last}");
        if first > 1 {
            let _never_fails = writeln!(text, "begins behind the line with the hash {previous}");
        }
        let _never_fails = writeln!(text, "ends in the line with the hash {hash}");
    }
    if verdict.torn_bytes > 0 {
        let bytes = counted(verdict.torn_bytes, "byte");
        let _never_fails = writeln!(
            text,
            "then {bytes} of a line without an end: being written, or torn by a crash"
        );
    }
    if verdict.lost > 0 {
        let entries = counted(verdict.lost, "entry").replace("entrys", "entries");
        let _never_fails = writeln!(text, "{entries} found no room when they came");
    }
    if let Some(noted) = found.noted
        && !verdict.noted_found
    {
        let _never_fails = writeln!(text, "no line has the hash {noted}: lines were cut off");
    }
    text.push_str(if is_sound(found) {
        "nothing is wrong with it\n"
    } else {
        "this is not what the broker wrote\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, noted: Option<Hash>) -> Found {
        let mut verifier = Verifier::new(noted);
        verifier.read("f", text.as_bytes()).unwrap();
        Found {
            verdict: verifier.finish(),
            noted,
        }
    }

    fn line(n: u64, previous: Hash) -> String {
        format!(r#"{{"n":{n},"what":"act","previous":"{previous}"}}"#)
    }

    #[test]
    fn a_sound_log_is_told_with_the_hash_to_note() {
        let first = line(1, Hash::default());
        let second = line(2, Hash::of(first.as_bytes()));
        let hash = Hash::of(second.as_bytes());
        let sound = found(&format!("{first}\n{second}\n"), Some(hash));
        let text = format!(
            "2 lines, 1 to 2\nends in the line with the hash {hash}\nnothing is wrong with it\n"
        );
        assert_eq!(told(&sound), text);
        assert!(is_sound(&sound));
        // Cut: the chain holds, and the noted hash is missing.
        let cut = found(&format!("{first}\n"), Some(hash));
        assert!(!is_sound(&cut) && told(&cut).contains("lines were cut off"));
        let forged = found(
            &format!("{}\n{second}\n", first.replace("act", "axt")),
            None,
        );
        assert!(!is_sound(&forged), "{}", told(&forged));
        assert!(told(&forged).contains("f:2: line 2 is not tied"));
    }

    #[test]
    fn the_middle_of_a_chain_and_a_torn_end_are_said_and_no_flaw() {
        let middle = line(7, Hash::of(b"x"));
        let found = found(&format!("{middle}\n{{\"n\":8"), None);
        let text = told(&found);
        assert!(is_sound(&found));
        assert!(
            text.contains("begins behind the line with the hash 2d711642"),
            "{text}"
        );
        assert!(
            text.contains("then 6 bytes of a line without an end"),
            "{text}"
        );
    }

    #[test]
    fn something_else_is_no_audit_log() {
        let found = found(&"nonsense\n".repeat(150), None);
        assert!(!is_sound(&found));
        assert!(told(&found).contains("and 50 more\n"));
    }
}
