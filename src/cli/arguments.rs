//! What may stand on the command line.

mod settings;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::connection::ConnectionArgs;
use super::output::OutputArgs;
use super::{VERSION, audit, auth, channels, examples, pubsub, queues, requests, top};

pub(super) use settings::SettingFlags;

/// A message broker that speaks the KubeMQ protocol, and a client for any server that does.
#[derive(Debug, Parser)]
#[command(name = "ringmq", version = VERSION, max_term_width = 100, after_help = examples::ROOT)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Command {
    /// Run the broker until SIGTERM or SIGINT; what is done without a command
    #[command(visible_alias = "serve", after_help = examples::SERVER)]
    Server(SettingFlags),
    /// Run the broker and send it an event, a command and a query, to see it work
    #[command(after_help = examples::DEMO)]
    Demo(SettingFlags),
    /// Print every setting: its value, where that comes from, and its names
    #[command(after_help = examples::CONFIG)]
    Config {
        #[command(subcommand)]
        task: Option<ConfigTask>,
        /// How to print them
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Look at a store that no broker has open, or divide it anew
    #[command(after_help = examples::STORE)]
    Store {
        #[command(subcommand)]
        task: StoreTask,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Say who may do what, and why; make keys and look at tokens
    #[command(after_help = examples::AUTH)]
    Auth {
        #[command(subcommand)]
        task: auth::Task,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Say whether an audit log is as the broker wrote it
    #[command(after_help = examples::AUDIT)]
    Audit {
        #[command(subcommand)]
        task: audit::Task,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Send and receive messages of queues; look at queues, empty them, send dead letters back
    #[command(visible_alias = "queue", after_help = examples::QUEUES)]
    Queues(Remote<queues::Task>),
    /// Send events, and print them as they come
    #[command(after_help = examples::EVENTS)]
    Events(Remote<pubsub::EventsTask>),
    /// Send events that are stored, and print them from where you say
    #[command(alias = "events_store", after_help = examples::EVENTS_STORE)]
    EventsStore(Remote<pubsub::EventsStoreTask>),
    /// Send commands, and answer them
    #[command(after_help = examples::COMMANDS)]
    Commands(Remote<requests::CommandsTask>),
    /// Send queries, and answer them
    #[command(after_help = examples::QUERIES)]
    Queries(Remote<requests::QueriesTask>),
    /// List, make, delete and empty channels
    #[command(after_help = examples::CHANNELS)]
    Channels(Remote<channels::Task>),
    /// Say whether a broker is well, which one it is, and how much there is in it
    #[command(after_help = examples::STATUS)]
    Status(RemoteArgs),
    /// Show live what is going on in a broker
    #[command(after_help = examples::TOP)]
    Top {
        #[command(flatten)]
        top: top::TopArgs,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Print what completes commands in a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the version
    #[command(after_help = examples::VERSION)]
    Version,
}

/// A command that talks to a broker, and what it does there.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Remote<T: Subcommand> {
    #[command(subcommand)]
    pub(super) task: T,
    #[command(flatten)]
    pub(super) remote: RemoteArgs,
}

/// The flags of all commands that talk to a broker.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct RemoteArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl Arguments {
    /// The whole command line, as clap sees it.
    pub(super) fn line() -> clap::Command {
        // The flags of the settings reach down into the commands that know them, and no further.
        Self::command().mut_args(|argument| argument.global(false))
    }

    /// Reads a command line; the first word is the program's name.
    pub(super) fn read<I, T>(words: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches = Self::line().try_get_matches_from(words)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut Self::line()))
    }

    /// The flags of the settings. Those before a command that knows them have reached it.
    pub(super) fn settings(&self) -> SettingFlags {
        let settings = match &self.command {
            Some(
                Command::Server(settings)
                | Command::Demo(settings)
                | Command::Config { settings, .. }
                | Command::Store { settings, .. }
                | Command::Auth { settings, .. }
                | Command::Audit { settings, .. },
            ) => settings,
            _ => &self.settings,
        };
        settings.clone()
    }
}

/// What `ringmq store` does with the store that `--data` or the settings name.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum StoreTask {
    /// Print what is in it: logs, segments, channels, positions
    #[command(after_help = examples::STORE_INFO)]
    Info {
        /// As one JSON object, for programs
        #[arg(long)]
        json: bool,
    },
    /// Read every byte of it and list what is damaged; changes nothing
    #[command(after_help = examples::STORE_VERIFY)]
    Verify,
    /// Print the messages of a channel, one JSON object a line
    #[command(after_help = examples::STORE_DUMP)]
    Dump {
        /// The channel
        #[arg(long)]
        channel: String,
        /// The kind of the channel
        #[arg(long, value_enum, default_value_t = DumpKind::EventsStore)]
        kind: DumpKind,
        /// First sequence
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Last sequence [default: the last one]
        #[arg(long)]
        to: Option<u64>,
    },
    /// Wrap the keys of an encrypted store with the first of the master keys that are given
    #[command(after_help = examples::STORE_REWRAP)]
    Rewrap,
    /// Rewrite it into another number of logs; needs as much free space as it has live data
    #[command(after_help = examples::STORE_RESHARD)]
    Reshard {
        /// How many logs, at best as many as the broker has cores
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
        logs: u16,
    },
}

/// Kinds of channels that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DumpKind {
    /// Events store
    EventsStore,
    /// Queues
    Queues,
}

/// What `ringmq config` does instead of printing all settings.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum ConfigTask {
    /// Say what a setting does, what it may be, what it is and where that comes from
    #[command(after_help = examples::CONFIG_EXPLAIN)]
    Explain {
        /// Its key, in any spelling, or its environment variable or flag
        key: String,
    },
    /// Say whether a broker would start with a file, and what is wrong with it
    #[command(after_help = examples::CONFIG_CHECK)]
    Check {
        /// The file; the environment does not count
        file: PathBuf,
    },
}

/// How `ringmq config` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns
    Table,
    /// A file that sets the same, with origins as comments
    Toml,
    /// The same in YAML
    Yaml,
    /// One object, for programs
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, FlagValue};

    fn parse(line: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::read([&["ringmq"], line].concat())
    }

    fn flags(line: &[&str]) -> Vec<FlagValue> {
        parse(line).unwrap().settings().flags
    }

    #[test]
    fn command_line_is_consistent() {
        Arguments::line().debug_assert();
    }

    #[test]
    fn server_is_what_nothing_means() {
        assert_eq!(parse(&[]).unwrap().command, None);
        let server = Some(Command::Server(SettingFlags::default()));
        assert_eq!(parse(&["serve"]).unwrap().command, server);
        let json = Some(Command::Config {
            task: None,
            format: Format::Json,
            settings: SettingFlags::default(),
        });
        assert_eq!(
            parse(&["config", "--format", "json"]).unwrap().command,
            json
        );
    }

    #[test]
    fn settings_may_stand_before_and_after_the_command() {
        for line in [
            ["--grpc-port", "1", "server"],
            ["server", "--grpc-port", "1"],
        ] {
            let value = "1".to_owned();
            let expected = FlagValue::Setting {
                key: "grpc.port",
                flag: "--grpc-port",
                value,
            };
            assert_eq!(flags(&line), [expected]);
        }
        for line in [
            &["--config", "a.toml"][..],
            &["--config", "a.toml", "config"],
            &["store", "verify", "--config", "a.toml"],
            &["--config", "a.toml", "queues", "list"],
        ] {
            let settings = parse(line).unwrap().settings();
            assert_eq!(settings.file, Some(PathBuf::from("a.toml")), "{line:?}");
        }
    }

    #[test]
    fn commands_that_talk_to_a_broker_do_not_show_its_settings() {
        let help = parse(&["queues", "send", "--help"])
            .unwrap_err()
            .to_string();
        assert!(
            help.contains("--address") && !help.contains("--grpc-port"),
            "{help}"
        );
        let flags = flags(&["--grpc-port", "7", "queues", "list"]);
        assert_eq!(flags.len(), 1);
    }

    /// Every command, with its path.
    fn commands(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        for sub in command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
        {
            let path = format!("{path} {}", sub.get_name());
            let end = sub.get_after_help().map(ToString::to_string);
            found.push((path.clone(), end.unwrap_or_default()));
            commands(sub, &path, found);
        }
    }

    #[test]
    fn every_help_ends_with_examples_of_its_command() {
        let mut found = Vec::new();
        commands(&Arguments::line(), "ringmq", &mut found);
        assert!(found.len() > 40, "{}", found.len());
        for (path, end) in found {
            assert!(end.starts_with("EXAMPLES\n"), "{path}");
            assert!(end.contains(&path), "{path}");
        }
    }

    /// What an example says up to a comment, a pipe or a redirection can be read.
    #[test]
    fn examples_are_command_lines() {
        let mut found = Vec::new();
        commands(&Arguments::line(), "ringmq", &mut found);
        let mut checked = 0;
        for (path, end) in found {
            for line in end.lines().skip(1) {
                let Some(at) = line.find("ringmq ") else {
                    continue;
                };
                let line = &line[at..];
                let line = line.split("   ").next().unwrap();
                let end = [" | ", " > ", " && ", " < "]
                    .iter()
                    .filter_map(|end| line.find(end));
                let line = &line[..end.min().unwrap_or(line.len())];
                let words = words(line);
                if let Err(error) = Arguments::read(&words) {
                    panic!("{path}: {line}\n{error}");
                }
                checked += 1;
            }
        }
        assert!(checked > 80, "{checked}");
    }

    /// Splits at blanks outside of quotation marks, as a shell does.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quoted) = (vec![String::new()], false);
        for character in line.chars() {
            match character {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                other => words.last_mut().unwrap().push(other),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    #[test]
    fn store_is_named_before_and_after_its_task() {
        let reshard = StoreTask::Reshard { logs: 4 };
        for line in [
            &["store", "reshard", "--logs", "4", "--data", "d"][..],
            &["--data", "d", "store", "reshard", "--logs=4"],
        ] {
            let arguments = parse(line).unwrap();
            assert_eq!(arguments.settings().flags.len(), 1);
            let Some(Command::Store { task, .. }) = arguments.command else {
                panic!("{arguments:?}");
            };
            assert_eq!(task, reshard);
        }
        for wrong in [
            &["store"][..],
            &["store", "reshard"],
            &["store", "reshard", "--logs", "0"],
            &["store", "reshard", "--logs", "65"],
            &["store", "dump"],
            &["store", "dump", "--channel", "a", "--kind", "events"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_old_name_of_queues_still_works() {
        for name in ["queue", "queues"] {
            let line = [name, "redrive", "--from", "dead", "--rate", "100/s"];
            let command = parse(&line).unwrap().command;
            let Some(Command::Queues(remote)) = command else {
                panic!("{command:?}");
            };
            let queues::Task::Redrive(args) = remote.task else {
                panic!("{:?}", remote.task);
            };
            assert_eq!((args.from.as_str(), args.to.as_str()), ("dead", ""));
            assert_eq!((args.rate, args.max), (100, 0));
        }
        for wrong in [
            &["queue"][..],
            &["queue", "redrive"],
            &["queue", "redrive", "--from", "dead", "--rate", "100/m"],
            &["queue", "peek", "q", "--max", "0"],
            &["queues", "send", "q", "body", "--file", "f"],
            &["queues", "send", "q", "body", "--lines"],
            &["queues", "stream", "q", "--auto", "resend"],
            &["commands", "receive", "c", "--response", "a", "--exec", "b"],
            &["channels", "create", "queues"],
            &["channels", "create", "topics", "a"],
            &["completions", "tcsh"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn flags_of_the_connection_may_stand_anywhere_behind_the_family() {
        for line in [
            ["queues", "--address", "h:1", "list"],
            ["queues", "list", "--address", "h:1"],
        ] {
            let Some(Command::Queues(remote)) = parse(&line).unwrap().command else {
                panic!("{line:?}");
            };
            assert!(!remote.remote.connection.wants_ports());
        }
    }

    #[test]
    fn last_of_a_repeated_flag_counts() {
        let flags = flags(&["server", "--cores", "1", "--cores", "2"]);
        assert!(matches!(flags.as_slice(), [FlagValue::Setting { value, .. }] if value == "2"));
    }

    #[test]
    fn any_setting_can_be_assigned_repeatedly() {
        let flags = flags(&["demo", "--set", "a=1", "--set", "b=-2"]);
        let expected = ["a=1", "b=-2"].map(|text| FlagValue::Assignment(text.to_owned()));
        assert_eq!(flags, expected);
    }

    #[test]
    fn every_flag_of_the_table_is_understood() {
        for key in config::keys() {
            let Some(flag) = key.flag else { continue };
            let flags = flags(&[flag, "-1"]);
            assert!(
                matches!(flags.as_slice(), [FlagValue::Setting { key: name, .. }]
                    if *name == key.name),
                "{flag}"
            );
        }
    }

    #[test]
    fn unknown_flags_come_with_a_suggestion() {
        let text = parse(&["--grpc-prot", "1"]).unwrap_err().to_string();
        assert!(text.contains("--grpc-port"), "{text}");
    }
}
