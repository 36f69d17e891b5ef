//! The channels that reports go to.

use std::fmt::Write as _;

use super::Resource;
use crate::model::name::{CHANNEL_BYTES_MAX, check_pattern};

/// Stands for a channel whose name no channel can have.
const NO_NAME: &str = "%invalid";

/// Ends a name that was cut.
const CUT: char = '~';

/// The name of a resource in records and in the channels of reports.
pub(super) const fn resource_name(resource: Resource) -> &'static str {
    match resource {
        Resource::Channels(kind) => kind.name(),
        Resource::Responses => "responses",
    }
}

/// Writes the channel of the reports on a channel: `<prefix>.<resource>.<channel>`. Subscriptions
/// name patterns: their wildcards are written as `%2A` and `%3E`, since no event goes to a
/// pattern. A channel that cannot exist is `%invalid`, and one that has no name is left out. What
/// is longer than a name may be is cut, and ends in `~`.
pub(super) fn report_channel(prefix: &str, resource: Resource, channel: &str, out: &mut String) {
    out.clear();
    let _never_fails = write!(out, "{prefix}.{}", resource_name(resource));
    match check_pattern(channel) {
        _ if channel.is_empty() => return,
        Ok(()) => {
            out.push('.');
            for letter in channel.chars() {
                match letter {
                    '*' => out.push_str("%2A"),
                    '>' => out.push_str("%3E"),
                    letter => out.push(letter),
                }
            }
        }
        Err(_) => {
            out.push('.');
            out.push_str(NO_NAME);
        }
    }
    if out.len() > CHANNEL_BYTES_MAX {
        out.truncate(out.floor_char_boundary(CHANNEL_BYTES_MAX - CUT.len_utf8()));
        out.push(CUT);
    }
}

/// Whether a channel or a pattern is one of reports under a prefix.
pub(super) fn is_below(channel: &str, prefix: &str) -> bool {
    let rest = channel.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Kind;
    use crate::model::name::check_channel;

    fn report(channel: &str) -> String {
        let mut out = "left over".to_owned();
        let resource = Resource::Channels(Kind::EventsStore);
        report_channel("notification", resource, channel, &mut out);
        out
    }

    #[test]
    fn reports_go_to_the_channel_of_the_documentation() {
        assert_eq!(report("foo.bar.2"), "notification.events_store.foo.bar.2");
        let mut out = String::new();
        report_channel("a.b", Resource::Responses, "", &mut out);
        assert_eq!(out, "a.b.responses");
    }

    #[test]
    fn wildcards_and_faulty_names_become_names_that_an_event_may_have() {
        let table = [
            ("orders.*.x", "orders.%2A.x"),
            (">", "%3E"),
            ("a/b:c", "a/b:c"),
            (" ", "%invalid"),
            ("a.", "%invalid"),
            (".a", "%invalid"),
            ("a;b", "%invalid"),
            ("a\tb", "%invalid"),
        ];
        for (channel, expected) in table {
            let expected = format!("notification.events_store.{expected}");
            assert_eq!(report(channel), expected, "{channel:?}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_between_letters() {
        let long = report(&"é".repeat(128));
        assert!(long.len() <= CHANNEL_BYTES_MAX, "{}", long.len());
        assert!(long.ends_with("é~"), "{long}");
        // The cut stands behind a dot.
        let dotted = report(&format!("a{}.a", ".a".repeat(120)));
        assert!(dotted.ends_with(".~") || dotted.ends_with("a~"), "{dotted}");
        assert_eq!(check_channel(&dotted), Ok(()), "{dotted}");
    }

    #[test]
    fn only_what_is_under_the_prefix_is_a_report() {
        for below in ["n", "n.events", "n.>", "n.*.x"] {
            assert!(is_below(below, "n"), "{below}");
        }
        for other in ["", "nn", "nn.events", "m.n", ">"] {
            assert!(!is_below(other, "n"), "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_report_channel_is_a_channel(channel in "\\PC{0,300}|[a*>. ;\u{1}é]{0,300}") {
            let out = report(&channel);
            prop_assert_eq!(check_channel(&out), Ok(()), "{}", out);
            prop_assert!(is_below(&out, "notification"));
        }
    }
}
