//! Whether a chain holds, from its first line to its last.

use std::fmt;
use std::io::{self, BufRead, Read};

use super::chain::{Chain, Hash, LINE_BYTES_MAX, Link};

/// Flaws that are kept; more are counted.
const FLAWS_MAX: usize = 100;

/// Reads files of one chain, the oldest first.
#[derive(Debug, Default)]
pub struct Verifier {
    chain: Option<Chain>,
    noted: Option<Hash>,
    verdict: Verdict,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Lines that were read.
    pub lines: u64,
    /// The number of the first one, and the hash that it wants before it.
    pub first: Option<(u64, Hash)>,
    /// The number of the last one, and its hash.
    pub last: Option<(u64, Hash)>,
    /// What is wrong, in its order; no more than a hundred.
    pub flaws: Vec<Flaw>,
    /// How much is wrong.
    pub flaw_count: u64,
    /// Bytes of a last line that has no end.
    pub torn_bytes: u64,
    /// Entries that found no room when they were to be written.
    pub lost: u64,
    /// Whether the hash that was asked for is that of a line.
    pub noted_found: bool,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Something that is no line of an audit log.
    NoLine {
        /// The file.
        file: String,
        /// The line in the file, from 1.
        line: u64,
    },
    /// A line that is not the next one of the chain: it or those before were changed, or some were
    /// taken out or put in.
    Broken {
        /// The file.
        file: String,
        /// The line in the file, from 1.
        line: u64,
        /// The number that the line should have.
        expected: u64,
        /// The number that it has.
        found: u64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLine { file, line } => {
                write!(f, "{file}:{line}: is no line of an audit log")
            }
            Self::Broken {
                file,
                line,
                expected,
                found,
            } if expected == found => write!(
                f,
                "{file}:{line}: line {found} is not tied to what stands before it: that was changed"
            ),
            Self::Broken {
                file,
                line,
                expected,
                found,
            } => write!(
                f,
                "{file}:{line}: line {expected} should be here and line {found} is: lines were \
                 taken out, put in or moved"
            ),
        }
    }
}

impl Verifier {
    /// Begins without having read anything. `noted` is the hash of a line that was written down
    /// earlier: when it is not found, lines were cut off.
    #[must_use]
    pub fn new(noted: Option<Hash>) -> Self {
        Self {
            noted,
            ..Self::default()
        }
    }

    /// Reads the next file; `name` is what flaws call it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&mut self, name: &str, mut file: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        let bound = u64::try_from(LINE_BYTES_MAX + 1).unwrap_or(u64::MAX);
        for number in 1.. {
            line.clear();
            file.by_ref().take(bound).read_until(b'\n', &mut line)?;
            let whole = line.last() == Some(&b'\n');
            if whole {
                line.pop();
                self.line(name, number, &line);
            } else if line.len() > LINE_BYTES_MAX {
                self.flaw(Flaw::NoLine {
                    file: name.to_owned(),
                    line: number,
                });
                skip_line(&mut file)?;
            } else {
                self.verdict.torn_bytes += u64::try_from(line.len()).unwrap_or(0);
                break;
            }
        }
        Ok(())
    }

    fn line(&mut self, name: &str, number: u64, line: &[u8]) {
        let hash = Hash::of(line);
        let file = || name.to_owned();
        let Some(link) = Link::read(line) else {
            return self.flaw(Flaw::NoLine {
                file: file(),
                line: number,
            });
        };
        let first = (link.number, link.previous);
        self.verdict.first.get_or_insert(first);
        if let Some(chain) = self.chain
            && !link.follows(&chain)
        {
            self.flaw(Flaw::Broken {
                file: file(),
                line: number,
                expected: chain.last.saturating_add(1),
                found: link.number,
            });
        }
        self.chain = Some(Chain {
            last: link.number,
            hash,
        });
        self.verdict.lines += 1;
        self.verdict.last = Some((link.number, hash));
        self.verdict.lost = self.verdict.lost.saturating_add(lost(line));
        self.verdict.noted_found |= self.noted == Some(hash);
    }

    fn flaw(&mut self, flaw: Flaw) {
        self.verdict.flaw_count += 1;
        if self.verdict.flaws.len() < FLAWS_MAX {
            self.verdict.flaws.push(flaw);
        }
    }

    /// What was found in all files.
    #[must_use]
    pub fn finish(mut self) -> Verdict {
        if let Some((number, previous)) = self.verdict.first
            && number == 1
            && previous != Hash::default()
        {
            let file = String::from("the first line");
            let flaw = Flaw::Broken {
                file,
                line: 1,
                expected: 1,
                found: 1,
            };
            self.flaw(flaw);
        }
        self.verdict
    }
}

fn lost(line: &[u8]) -> u64 {
    #[derive(serde::Deserialize)]
    struct Fields {
        #[serde(default)]
        lost: u64,
    }
    serde_json::from_slice::<Fields>(line).map_or(0, |fields| fields.lost)
}

/// Reads to the end of a line without keeping it.
fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = file.fill_buf()?;
        let (count, ended) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (bytes.len(), bytes.is_empty()),
        };
        file.consume(count);
        if ended {
            return Ok(());
        }
    }
}
