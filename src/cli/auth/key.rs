//! `ringmq auth key`: API keys, made and listed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::failure::Failure;
use crate::cli::text::{harmless, table, time};
use crate::cli::{answer, examples, exit, parse};
use crate::config::{Config, Error};
use crate::rt;
use crate::security::authentication::{ApiKey, ApiKeys};

/// What `ringmq auth key` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(in crate::cli) enum KeyTask {
    /// Make a key: its hash goes to the file, and the key itself is told once
    #[command(after_help = examples::AUTH_KEY)]
    Create(CreateArgs),
    /// Tell whose keys there are
    #[command(after_help = examples::AUTH_KEY)]
    List(FileArgs),
}

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct FileArgs {
    /// File with the hashes of the keys [default: authentication.api_keys_file]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// Whose key.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(in crate::cli) struct CreateArgs {
    /// The name of its owner: a word
    name: String,
    /// The client id of its owner, when client ids are bound [default: the name]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// A role of its owner; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// How long it counts, as `90d` or `12h` [default: until it is taken out of the file]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    expires_in: Option<Duration>,
    #[command(flatten)]
    file: FileArgs,
}

impl KeyTask {
    /// The file that is meant. The settings are read only when it is not given; it is none when
    /// they name none.
    pub(super) fn file(
        &self,
        load: impl FnOnce() -> Result<Config, Error>,
    ) -> Result<Option<PathBuf>, Error> {
        let (Self::Create(CreateArgs { file, .. }) | Self::List(file)) = self;
        match &file.file {
            Some(path) => Ok(Some(path.clone())),
            None => Ok(load()?.authentication.api_keys_file),
        }
    }
}

/// Makes a key or lists them.
pub(super) fn run(task: &KeyTask, file: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let Some(path) = file else {
        return Err(Failure::Usage(
            "there is no file of keys: name one by --file, or set authentication.api_keys_file"
                .to_owned(),
        ));
    };
    match task {
        KeyTask::Create(args) => create(args, &path),
        KeyTask::List(_) => list(&path),
    }
}

fn create(args: &CreateArgs, path: &Path) -> Result<ExitCode, Failure> {
    let expires_at_s = args.expires_in.map(|after| {
        let now_s = rt::unix_ns() / 1_000_000_000;
        now_s.saturating_add(i64::try_from(after.as_secs()).unwrap_or(i64::MAX))
    });
    let made = ApiKey::create(
        &args.name,
        args.client_id.as_deref(),
        &args.roles,
        expires_at_s,
    );
    let made = made.map_err(|what| Failure::Usage(what.to_owned()))?;
    match append(path, &made.line) {
        Ok(None) => {}
        Ok(Some(wrong)) => return Ok(refuse(path, &wrong)),
        Err(source) => {
            let what = path.display().to_string();
            return Err(Failure::Input { what, source });
        }
    }
    answer(&format!("{}\n", made.key));
    eprintln!(
        "The hash of this key is in {}; the key itself is told only now. A running broker takes it \
         at its next look at the file (authentication.refresh_seconds), or at once by SIGHUP.",
        path.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Adds a line to a file that is a good one, or gives back what is wrong with it. The file is made
/// if there is none, for its owner alone.
fn append(path: &Path, line: &str) -> io::Result<Option<String>> {
    let mut options = OpenOptions::new();
    let options = options.read(true).append(true).create(true).mode(0o600);
    let mut file: File = options.open(path)?;
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut text)?;
    if let Err(error) = ApiKeys::parse(&text) {
        return Ok(Some(error.to_string()));
    }
    let needs_break = text.last().is_some_and(|last| *last != b'\n');
    let before = if needs_break { "\n" } else { "" };
    // In one write: a broker that looks at the file meanwhile sees all of the line or nothing.
    file.write_all(format!("{before}{line}\n").as_bytes())?;
    file.sync_all()?;
    Ok(None)
}

fn list(path: &Path) -> Result<ExitCode, Failure> {
    let text = std::fs::read(path).map_err(|source| Failure::Input {
        what: path.display().to_string(),
        source,
    })?;
    let keys = match ApiKeys::parse(&text) {
        Ok(keys) => keys,
        Err(error) => return Ok(refuse(path, &error.to_string())),
    };
    let now_s = rt::unix_ns() / 1_000_000_000;
    let row = |key: &ApiKey| {
        let ends = match key.expires_at_s {
            None => "never".to_owned(),
            Some(at) => {
                let at_ns = u64::try_from(at).unwrap_or(0).saturating_mul(1_000_000_000);
                let ended = if at <= now_s { " (ended)" } else { "" };
                format!("{}{ended}", time(at_ns))
            }
        };
        let client_id = key.client_id.as_ref().unwrap_or(&key.name);
        [
            harmless(&key.name).into_owned(),
            harmless(client_id).into_owned(),
            harmless(&key.roles.join(",")).into_owned(),
            ends,
            key.mark(),
        ]
    };
    let rows: Vec<_> = keys.list().iter().map(row).collect();
    let head = ["NAME", "CLIENT ID", "ROLES", "ENDS", "HASH BEGINS WITH"];
    answer(&table(head, &rows));
    Ok(ExitCode::SUCCESS)
}

fn refuse(path: &Path, what: &str) -> ExitCode {
    eprintln!("ringmq: {}: {what}", path.display());
    ExitCode::from(exit::CONFIG)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn lines_are_added_behind_one_another_and_never_to_a_file_that_is_bad() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let line = |name: &str| ApiKey::create(name, None, &[], None).unwrap().line;
        assert_eq!(append(&path, &line("first")).unwrap(), None);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.trim_end()).unwrap();
        assert_eq!(append(&path, &line("second")).unwrap(), None);
        let keys = ApiKeys::parse(&std::fs::read(&path).unwrap()).unwrap();
        let names: Vec<_> = keys.list().iter().map(|key| &*key.name).collect();
        assert_eq!(names, ["first", "second"]);
        std::fs::write(&path, "what is this").unwrap();
        assert!(append(&path, &line("third")).unwrap().is_some());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "what is this");
    }
}
