//! What may stand on the command line.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::VERSION;
use crate::config::{self, Allowed, DEFAULT_FILE, FlagValue, Key, Sources, Unit};

/// A message broker that speaks the KubeMQ protocol.
#[derive(Debug, Parser)]
#[command(name = "ringmq", version = VERSION, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) settings: SettingFlags,
}

const AFTER_HELP: &str = "\
Settings are read from the defaults, a TOML file, the environment and the flags; later ones win.
`ringmq config` shows all of them with their names and where each value comes from.";

#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Command {
    /// Run the broker until SIGTERM or SIGINT; what is done without a command
    #[command(visible_alias = "serve")]
    Server,
    /// Run the broker and send it an event, a command and a query, to see it work
    Demo,
    /// Print every setting: its value, where that comes from, and its names
    Config {
        /// How to print them
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Look at a store that no broker has open, or divide it anew
    Store {
        #[command(subcommand)]
        task: StoreTask,
    },
    /// Look at the queues of a running broker, empty them, send dead letters back
    Queue {
        #[command(flatten)]
        broker: Broker,
        #[command(subcommand)]
        task: QueueTask,
    },
    /// Print the version
    Version,
}

/// The broker that `ringmq queue` talks to.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Broker {
    /// Host, or host and port of its gRPC service [default: 127.0.0.1 and the setting grpc.port]
    #[arg(long, global = true)]
    pub(super) address: Option<String>,
    /// Token, if the broker asks for one [env: RINGMQ_TOKEN]
    #[arg(long, global = true)]
    pub(super) token: Option<String>,
}

/// What `ringmq queue` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum QueueTask {
    /// Print the queues with what is in them
    List {
        /// Only those whose names hold this text
        #[arg(long, default_value = "", hide_default_value = true)]
        search: String,
    },
    /// Print all that is known of a queue
    Info {
        /// The queue
        queue: String,
    },
    /// Print the first messages of a queue, one JSON object a line; they stay
    Peek {
        /// The queue
        queue: String,
        /// How many at most
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
        max: u16,
    },
    /// Remove all messages that nobody is working on
    Purge {
        /// The queue
        queue: String,
    },
    /// Send dead letters back; those that a consumer has stay
    Redrive {
        /// The queue that they are in
        #[arg(long)]
        from: String,
        /// The queue that they go to [default: each to the one that it came from]
        #[arg(long, default_value = "", hide_default_value = true)]
        to: String,
        /// Messages a second, as 100 or 100/s [default: as fast as it goes]
        #[arg(long, default_value = "0", hide_default_value = true, value_parser = rate)]
        rate: u64,
        /// How many at most [default: all that are there]
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        max: u64,
    },
}

fn rate(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let wrong = |_| "it must be a whole number, as 100 or 100/s".to_owned();
    number.parse().map_err(wrong)
}

/// What `ringmq store` does with the store that `--data` or the settings name.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum StoreTask {
    /// Print what is in it: logs, segments, channels, positions
    Info {
        /// As one JSON object, for programs
        #[arg(long)]
        json: bool,
    },
    /// Read every byte of it and list what is damaged; changes nothing
    Verify,
    /// Print the messages of a channel, one JSON object a line
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
    /// Rewrite it into another number of logs; needs as much free space as it has live data
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

/// How `ringmq config` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns
    Table,
    /// A file that sets the same, with origins as comments
    Toml,
    /// One object, for programs
    Json,
}

/// The flags of the settings: those that the table of settings names, `--set` for all others, and
/// `--config`. They may stand before and after the command.
#[derive(Clone, Debug)]
pub(super) struct SettingFlags {
    file: Option<PathBuf>,
    flags: Vec<FlagValue>,
}

impl SettingFlags {
    /// Adds the flags to the other sources.
    pub(super) fn sources(self, other: Sources) -> Sources {
        Sources {
            file: self.file,
            flags: self.flags,
            ..other
        }
    }
}

const FILE: &str = "config-file";
const SET: &str = "set";

impl Args for SettingFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let file = Arg::new(FILE)
            .long("config")
            .value_name("PATH")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!(
                "File to read settings from [default: {DEFAULT_FILE}, if it exists] [env: CONFIG]"
            ));
        let set = Arg::new(SET)
            .long("set")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .help("Any setting, by its key; may be repeated");
        let flags = config::keys()
            .iter()
            .filter_map(|key| Some((*key, long(key)?)));
        let flags = flags.map(|(key, long)| setting_argument(key, long));
        let all = [file].into_iter().chain(flags).chain([set]);
        command.args(all.map(|argument| argument.global(true).help_heading("Settings")))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let named = config::keys().iter().filter_map(|key| {
            let flag = key.flag?;
            let value = matches.get_one::<String>(key.name)?.clone();
            Some(FlagValue::Setting {
                key: key.name,
                flag,
                value,
            })
        });
        let assigned = matches.get_many::<String>(SET).into_iter().flatten();
        let assigned = assigned.map(|text| FlagValue::Assignment(text.clone()));
        let flags = named.chain(assigned).collect();
        Ok(Self {
            file: matches.get_one::<PathBuf>(FILE).cloned(),
            flags,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn long(key: &Key) -> Option<&'static str> {
    key.flag?.strip_prefix("--")
}

/// The argument takes any text: whether it is allowed says the configuration, together with all
/// else that is wrong.
fn setting_argument(key: &'static Key, long: &'static str) -> Arg {
    let sentence = key.doc.split(". ").next().unwrap_or(key.doc);
    let sentence = sentence.trim().trim_end_matches('.');
    let default = match key.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let words = match key.allowed {
        Allowed::OneOf(words) => format!(" [values: {}]", words.join(", ")),
        _ => String::new(),
    };
    let variable = key
        .env
        .first()
        .map_or_else(String::new, |name| format!(" [env: {name}]"));
    Arg::new(key.name)
        .long(long)
        .value_name(value_name(key))
        .allow_hyphen_values(true)
        // Of one flag twice the last counts, so that scripts can append to a command line.
        .overrides_with(key.name)
        .help(format!("{sentence}{words}{default}{variable}"))
}

fn value_name(key: &Key) -> &'static str {
    match key.allowed {
        Allowed::OneOf(_) => "WORD",
        Allowed::Path | Allowed::OptionalPath => "PATH",
        Allowed::Address => "ADDRESS",
        Allowed::CpuList => "CPUS",
        Allowed::OptionalWord | Allowed::OptionalChannel => "NAME",
        Allowed::ChannelRules => "RULES",
        Allowed::RoutingTable => "JSON",
        Allowed::Empty => "NOTHING",
        Allowed::Range(..) if key.unit == Unit::None => "PORT",
        Allowed::Range(..) | Allowed::PowerOfTwo(..) => "NUMBER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["ringmq"], line].concat())
    }

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn server_is_what_nothing_means() {
        assert_eq!(parse(&[]).unwrap().command, None);
        assert_eq!(parse(&["serve"]).unwrap().command, Some(Command::Server));
        let json = Some(Command::Config {
            format: Format::Json,
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
            let flags = parse(&line).unwrap().settings.flags;
            let value = "1".to_owned();
            let expected = FlagValue::Setting {
                key: "grpc.port",
                flag: "--grpc-port",
                value,
            };
            assert_eq!(flags, [expected]);
        }
        let settings = parse(&["--config", "a.toml"]).unwrap().settings;
        assert_eq!(settings.file, Some(PathBuf::from("a.toml")));
    }

    #[test]
    fn store_is_named_before_and_after_its_task() {
        let reshard = StoreTask::Reshard { logs: 4 };
        for line in [
            &["store", "reshard", "--logs", "4", "--data", "d"][..],
            &["--data", "d", "store", "reshard", "--logs=4"],
        ] {
            let arguments = parse(line).unwrap();
            let task = reshard.clone();
            assert_eq!(arguments.command, Some(Command::Store { task }));
            assert_eq!(arguments.settings.flags.len(), 1);
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
    fn redrive_takes_a_pace_in_two_spellings() {
        for rate in ["100", "100/s"] {
            let line = ["queue", "redrive", "--from", "dead", "--rate", rate];
            let command = parse(&line).unwrap().command;
            let Some(Command::Queue { broker, task }) = command else {
                panic!("{command:?}");
            };
            assert_eq!(broker.address, None);
            let expected = QueueTask::Redrive {
                from: "dead".to_owned(),
                to: String::new(),
                rate: 100,
                max: 0,
            };
            assert_eq!(task, expected);
        }
        for wrong in [
            &["queue"][..],
            &["queue", "redrive"],
            &["queue", "redrive", "--from", "dead", "--rate", "100/m"],
            &["queue", "peek", "q", "--max", "0"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn last_of_a_repeated_flag_counts() {
        let flags = parse(&["server", "--cores", "1", "--cores", "2"])
            .unwrap()
            .settings
            .flags;
        assert!(matches!(flags.as_slice(), [FlagValue::Setting { value, .. }] if value == "2"));
    }

    #[test]
    fn any_setting_can_be_assigned_repeatedly() {
        let flags = parse(&["demo", "--set", "a=1", "--set", "b=-2"])
            .unwrap()
            .settings
            .flags;
        let expected = ["a=1", "b=-2"].map(|text| FlagValue::Assignment(text.to_owned()));
        assert_eq!(flags, expected);
    }

    #[test]
    fn every_flag_of_the_table_is_understood() {
        for key in config::keys() {
            let Some(flag) = key.flag else { continue };
            let flags = parse(&[flag, "-1"]).unwrap().settings.flags;
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
