//! What is sent: bodies from the command line, a file, or the standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;

use super::failure::Failure;
use super::parse;
use crate::rt;

/// Lines that are read in one go at most, when so many are there.
const LINES_MAX: usize = 100;

/// Where the body comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct BodyArgs {
    /// The body; - reads all of the standard input
    #[arg(allow_hyphen_values = true)]
    body: Option<String>,
    /// Read the body from a file; - is the standard input
    #[arg(long, short, value_name = "PATH", conflicts_with = "body")]
    file: Option<PathBuf>,
}

/// What goes with a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct ExtraArgs {
    /// A text beside the body
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) metadata: String,
    /// A tag; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse::tag)]
    pub(super) tags: Vec<(String, String)>,
}

/// How many messages are made of the bodies.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct ManyArgs {
    /// Send one message for each line of the standard input
    #[arg(long, conflicts_with_all = ["body", "file", "count"])]
    lines: bool,
    /// Send the message so many times
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    count: u64,
    /// Messages a second, as 100 or 100/s [default: as fast as it goes]
    #[arg(long, default_value = "0", hide_default_value = true, value_parser = parse::rate)]
    rate: u64,
}

impl BodyArgs {
    /// Reads the body. May block: it is called before the command has an executor.
    pub(super) fn read(&self) -> Result<Option<Bytes>, Failure> {
        let path = match (&self.body, &self.file) {
            (Some(body), _) if body != "-" => return Ok(Some(Bytes::from(body.clone()))),
            (None, None) => return Ok(None),
            (Some(_), _) => None,
            (None, Some(path)) => Some(path).filter(|path| path.as_os_str() != "-"),
        };
        let bytes = match path {
            Some(path) => std::fs::read(path).map_err(unreadable(&path.display().to_string())),
            None => {
                let mut bytes = Vec::new();
                let read = io::stdin().lock().read_to_end(&mut bytes);
                read.map(|_| bytes)
                    .map_err(unreadable("the standard input"))
            }
        };
        bytes.map(|bytes| Some(bytes.into()))
    }

    /// The body, or none where metadata takes its place.
    pub(super) fn read_with(&self, extra: &ExtraArgs) -> Result<Bytes, Failure> {
        match self.read()? {
            Some(body) => Ok(body),
            None if !extra.metadata.is_empty() => Ok(Bytes::new()),
            None => Err(Failure::Usage(NO_BODY.to_owned())),
        }
    }
}

const NO_BODY: &str = "there is no body: give one, or - for the standard input, or --file PATH";

fn unreadable(what: &str) -> impl FnOnce(io::Error) -> Failure {
    let what = what.to_owned();
    |source| Failure::Input { what, source }
}

/// The bodies of the messages that a command sends, one after the other.
#[derive(Debug)]
pub(super) struct Bodies {
    source: Source,
    rate: u64,
    began: rt::Instant,
    given: u64,
}

#[derive(Debug)]
enum Source {
    Same {
        body: Bytes,
        left: u64,
    },
    /// The reader is away while it reads.
    Lines(Option<BufReader<File>>),
}

/// Where bodies come from, before there is an executor.
#[derive(Debug)]
pub(super) struct Plan {
    source: Source,
    rate: u64,
}

impl Plan {
    /// Reads the body, if there is one for all messages.
    pub(super) fn read(
        body: &BodyArgs,
        extra: &ExtraArgs,
        many: &ManyArgs,
    ) -> Result<Self, Failure> {
        let source = if many.lines {
            Source::Lines(None)
        } else {
            Source::Same {
                body: body.read_with(extra)?,
                left: many.count,
            }
        };
        Ok(Self {
            source,
            rate: many.rate,
        })
    }

    /// Whether exactly one message is sent.
    pub(super) const fn is_one(&self) -> bool {
        matches!(self.source, Source::Same { left: 1, .. })
    }

    /// Begins to give bodies; the clock of the rate starts.
    pub(super) fn begin(self) -> Bodies {
        Bodies {
            source: self.source,
            rate: self.rate,
            began: rt::now(),
            given: 0,
        }
    }
}

impl Bodies {
    /// The next bodies, when their time has come: at most `max`, none at the end. Lines are given
    /// as soon as they are there.
    pub(super) async fn next(&mut self, max: usize) -> Result<Vec<Bytes>, Failure> {
        let max = if self.rate == 0 {
            max
        } else {
            // A tenth of a second's worth: a rate is kept evenly.
            max.min(usize::try_from(self.rate / 10).unwrap_or(max))
                .max(1)
        };
        let bodies = match &mut self.source {
            Source::Same { body, left } => {
                let count = usize::try_from(*left).unwrap_or(max).min(max);
                *left -= u64::try_from(count).unwrap_or(*left);
                vec![body.clone(); count]
            }
            Source::Lines(reader) => {
                let max = max.min(LINES_MAX);
                let own = reader.take();
                let read = rt::blocking(move || read_lines(own, max)).await;
                let read = read.unwrap_or_else(|| Err(io::ErrorKind::Other.into()));
                let (own, lines) = read.map_err(unreadable("the standard input"))?;
                *reader = Some(own);
                lines
            }
        };
        let due = self.given.saturating_mul(1_000_000).checked_div(self.rate);
        let due = Duration::from_micros(due.unwrap_or(0));
        if let Some(early) = due.checked_sub(rt::now().since(self.began)) {
            rt::sleep(early).await;
        }
        self.given += u64::try_from(bodies.len()).unwrap_or(0);
        Ok(bodies)
    }
}

/// One line at least, unless the input ends, and those behind it that are there already. The first
/// call brings no reader.
fn read_lines(
    reader: Option<BufReader<File>>,
    max: usize,
) -> io::Result<(BufReader<File>, Vec<Bytes>)> {
    let mut reader = match reader {
        Some(reader) => reader,
        // Not the standard library's own: it does not tell what it holds already.
        None => BufReader::new(io::stdin().as_fd().try_clone_to_owned()?.into()),
    };
    let has_another = |reader: &BufReader<File>| reader.buffer().contains(&b'\n');
    let lines = lines_of(&mut reader, max, has_another)?;
    Ok((reader, lines))
}

fn lines_of<R: BufRead>(
    input: &mut R,
    max: usize,
    has_another: impl Fn(&R) -> bool,
) -> io::Result<Vec<Bytes>> {
    let mut lines = Vec::new();
    while lines.is_empty() || (lines.len() < max && has_another(input)) {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.ends_with(b"\n") {
            line.pop();
        }
        if line.ends_with(b"\r") {
            line.pop();
        }
        // An empty line is no message: the broker would refuse it.
        if !line.is_empty() {
            lines.push(line.into());
        }
    }
    Ok(lines)
}

/// Lines of the standard input, for those who ask people.
#[derive(Default)]
pub(super) struct Typed {
    /// A read that somebody stopped waiting for: its line is the next one.
    reading: Option<Reading>,
}

type Reading = Pin<Box<dyn Future<Output = Option<String>>>>;

impl Typed {
    /// The next line; `None` at the end. No line is lost when the waiting is given up.
    pub(super) async fn line(&mut self) -> Option<String> {
        let reading = self.reading.get_or_insert_with(|| Box::pin(read_line()));
        let line = reading.await;
        self.reading = None;
        line
    }
}

async fn read_line() -> Option<String> {
    let read = rt::blocking(|| {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        read.ok().filter(|bytes| *bytes > 0).map(|_| line)
    });
    let line = read.await.flatten()?;
    Some(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bodies_without_their_ends() {
        let mut input = io::Cursor::new(b"a\r\n\nb\nlast".to_vec());
        let more = |input: &io::Cursor<Vec<u8>>| input.position() < 10;
        assert_eq!(lines_of(&mut input, 10, more).unwrap(), ["a", "b", "last"]);
        assert!(lines_of(&mut input, 10, more).unwrap().is_empty());
    }

    #[test]
    fn no_more_lines_are_taken_than_wanted() {
        let mut input = io::Cursor::new(b"a\nb\nc\n".to_vec());
        assert_eq!(lines_of(&mut input, 2, |_| true).unwrap(), ["a", "b"]);
        assert_eq!(lines_of(&mut input, 2, |_| false).unwrap(), ["c"]);
    }

    #[test]
    fn a_body_is_missed_unless_metadata_stands_for_it() {
        let (body, mut extra) = (BodyArgs::default(), ExtraArgs::default());
        assert_eq!(body.read_with(&extra).unwrap_err().code(), 64);
        extra.metadata = "m".to_owned();
        assert!(body.read_with(&extra).unwrap().is_empty());
        let missing = BodyArgs {
            file: Some("/nowhere/body".into()),
            ..BodyArgs::default()
        };
        assert_eq!(missing.read().unwrap_err().code(), 66);
    }
}
