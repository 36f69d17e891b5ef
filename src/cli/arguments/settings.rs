//! The flags of the settings.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::config::{self, Allowed, DEFAULT_FILE, FlagValue, Key, Sources, Unit};

/// The flags of the settings: those that the table of settings names, `--set` for all others, and
/// `--config`. They may stand before and after the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct SettingFlags {
    pub(super) file: Option<PathBuf>,
    pub(super) flags: Vec<FlagValue>,
}

impl SettingFlags {
    /// Adds the flags to the other sources.
    pub(in crate::cli) fn sources(self, other: Sources) -> Sources {
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
        Allowed::OneOf(_) | Allowed::OptionalOneOf(_) => "WORD",
        Allowed::Path | Allowed::OptionalPath => "PATH",
        Allowed::Address | Allowed::OptionalAddress => "ADDRESS",
        Allowed::CpuList => "CPUS",
        Allowed::Word | Allowed::OptionalWord | Allowed::Channel | Allowed::OptionalChannel => {
            "NAME"
        }
        Allowed::List(..) => "LIST",
        Allowed::Pairs => "PAIRS",
        Allowed::Ratio => "RATIO",
        Allowed::ChannelRules => "RULES",
        Allowed::JsonArray => "JSON",
        Allowed::Pem => "PEM",
        Allowed::OptionalUrl => "URL",
        Allowed::Text => "TEXT",
        Allowed::Empty => "NOTHING",
        Allowed::Range(..) if key.unit == Unit::None => "PORT",
        Allowed::Range(..) | Allowed::OptionalRange(..) | Allowed::PowerOfTwo(..) => "NUMBER",
    }
}
