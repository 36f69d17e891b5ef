//! Where answers go: tables and texts for people, one JSON object a line for programs.
//!
//! What was asked for goes to the standard output, all else to standard error: how much it was,
//! what went wrong.

mod shown;

use std::io::{IsTerminal, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::Failure;
use super::text;

pub(super) use shown::{Sent, Shown};

/// How answers look.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// How answers look
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Says nothing but what was asked for, and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// When to use colours; never with NO_COLOR in the environment
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    color: When,
}

/// How answers look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables and texts, for people
    Table,
    /// One JSON object a line, for programs
    Json,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How bodies of messages are written, where messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct BodyStyle {
    /// Write the bytes of bodies and nothing else, also nothing between them
    #[arg(long)]
    raw: bool,
    /// Write each body and a line end, and nothing else
    #[arg(long, conflicts_with = "raw")]
    lines: bool,
}

/// What something looks like on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Head,
    Faint,
    Good,
    Bad,
}

/// The standard output of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    format: Format,
    quiet: bool,
    colored: bool,
    terminal: bool,
}

impl OutputArgs {
    /// The output that the flags and the terminal make.
    pub(super) fn output(&self) -> Output {
        let terminal = std::io::stdout().is_terminal();
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Output {
            format: self.output,
            quiet: self.quiet,
            colored: match self.color {
                When::Always => !forbidden,
                When::Never => false,
                When::Auto => terminal && !forbidden,
            },
            terminal,
        }
    }
}

impl Output {
    /// Whether programs read it.
    pub(super) const fn is_json(self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// Whether a person reads it, on a screen.
    pub(super) const fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Writes one JSON object and a line end.
    pub(super) fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(std::io::Error::other)?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Writes a text as it is.
    pub(super) fn text(self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes bytes, whatever they are, and passes them on at once.
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// Writes rows under a head; for programs, an object for each row of `items`.
    pub(super) fn rows<const N: usize, T: Serialize>(
        self,
        items: &[T],
        head: [&str; N],
        row: impl Fn(&T) -> [String; N],
    ) -> Result<(), Failure> {
        if self.is_json() {
            return items.iter().try_for_each(|item| self.json(item));
        }
        let rows: Vec<_> = items.iter().map(row).collect();
        let table = text::table(head, &rows);
        match table.split_once('\n') {
            Some((head, rows)) => {
                let head = self.paint(Style::Head, head);
                self.text(&format!("{head}\n{rows}"))
            }
            None => self.text(&table),
        }
    }

    /// Writes names and values, one of each in a line.
    pub(super) fn facts(self, facts: &[(&str, String)]) -> Result<(), Failure> {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in facts {
            let name = self.paint(Style::Head, &format!("{name:<width$}"));
            text += &format!("{name}  {value}\n");
        }
        self.text(&text)
    }

    /// Writes a message that came.
    pub(super) fn message(self, style: BodyStyle, message: &Shown<'_>) -> Result<(), Failure> {
        if style.raw {
            self.bytes(message.bytes())
        } else if style.lines {
            self.bytes(&[message.bytes(), b"\n"].concat())
        } else if self.is_json() {
            self.json(message)
        } else {
            self.text(&message.text(self))
        }
    }

    /// Says something about what happens, to people; on standard error.
    pub(super) fn note(self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Says what went wrong although the command goes on.
    pub(super) fn complain(self, text: &str) {
        eprintln!("ringmq: {text}");
    }

    /// Says that something was done: for people, unless they want quiet.
    pub(super) fn done(self, text: &str) -> Result<(), Failure> {
        if self.quiet || self.is_json() {
            return Ok(());
        }
        self.text(&format!("{text}\n"))
    }

    /// The text with what makes it look so, where colours are allowed.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        if !self.colored {
            return text.to_owned();
        }
        let code = match style {
            Style::Head => "1",
            Style::Faint => "2",
            Style::Good => "32",
            Style::Bad => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}
