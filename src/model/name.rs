//! The rules for the names that clients choose: channels, client ids, groups.
//!
//! A channel's name is a list of tokens separated by dots. White space is what Unicode calls
//! `White_Space`, control characters are the category `Cc`; everything else of Unicode is allowed,
//! `/` and `:` included. Names are case-sensitive and are not normalised: two spellings of one
//! letter are two names.
//!
//! A name with several faults is refused for the one that comes first in the order of the
//! variants of [`NameError`], whatever their order in the name; clients see the same text for the
//! same name everywhere.

/// Longest channel name or pattern, in bytes.
pub const CHANNEL_BYTES_MAX: usize = 256;

/// Longest route, in bytes: 256 targets of the longest names.
pub const ROUTE_BYTES_MAX: usize = 256 * CHANNEL_BYTES_MAX;

/// Longest client id, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 300;

/// Longest group name, in bytes. A subscription holds its group as long as it lives.
pub const GROUP_BYTES_MAX: usize = 256;

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum NameError {
    /// There is no name.
    #[error("name is empty")]
    Empty,
    /// The last character is a dot.
    #[error("name ends with a dot")]
    EndsWithDot,
    /// It is longer than the bound of its sort.
    #[error("name is too long")]
    TooLong,
    /// It holds white space.
    #[error("name holds white space")]
    WhiteSpace,
    /// It holds a control character.
    #[error("name holds a control character")]
    Control,
    /// It holds `*` or `>` where one channel must be named.
    #[error("name holds a wildcard")]
    Wildcard,
    /// It holds `;`, which separates the targets of a route.
    #[error("name holds a semicolon")]
    Semicolon,
    /// Two dots in a row, or a dot in front.
    #[error("name has an empty token")]
    EmptyToken,
}

/// Checks a name that means exactly one channel: to send to, to ask, to store in, to consume from.
///
/// # Errors
/// The first fault in the order of [`NameError`].
pub fn check_channel(name: &str) -> Result<(), NameError> {
    check_tokens(name, WILDCARD)
}

/// Checks what a subscription to events, commands or queries names: a channel or a pattern.
///
/// `*` and `>` are wildcards only as whole tokens, `>` only as the last one. In other places they
/// are accepted and match nothing, because no channel has such a name.
///
/// # Errors
/// The first fault in the order of [`NameError`], never [`NameError::Wildcard`].
pub fn check_pattern(name: &str) -> Result<(), NameError> {
    check_tokens(name, 0)
}

/// Checks a client id: not empty, at most [`CLIENT_ID_BYTES_MAX`], no control characters.
///
/// # Errors
/// [`NameError::Empty`], [`NameError::TooLong`] or [`NameError::Control`].
pub fn check_client_id(id: &str) -> Result<(), NameError> {
    if id.is_empty() {
        return Err(NameError::Empty);
    }
    if id.len() > CLIENT_ID_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    match classes(id) & CONTROL {
        0 => Ok(()),
        _ => Err(NameError::Control),
    }
}

/// Checks a group: at most [`GROUP_BYTES_MAX`], no control characters, no white space. An empty one
/// is no group at all and passes.
///
/// # Errors
/// [`NameError::TooLong`], [`NameError::WhiteSpace`] or [`NameError::Control`].
pub fn check_group(group: &str) -> Result<(), NameError> {
    if group.len() > GROUP_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    let found = classes(group);
    if found & SPACE != 0 {
        return Err(NameError::WhiteSpace);
    }
    if found & CONTROL != 0 {
        return Err(NameError::Control);
    }
    Ok(())
}

/// What a name that something is sent to means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One channel.
    Channel,
    /// A list of targets, or a key of the routing table; its parts have yet to be checked.
    Route,
}

/// Checks a name that an event or a queue message is sent to. It is a route if it holds `;` or
/// starts with the name of a stored or published kind, or of the routing table, and a colon.
///
/// # Errors
/// As [`check_channel`]. Of a route only the length is checked: blanks around its parts are legal.
pub fn check_target(name: &str) -> Result<Target, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > ROUTE_BYTES_MAX {
        return judge(name, 0, WILDCARD).map(|()| Target::Channel);
    }
    let found = classes(name);
    if found & SEMICOLON != 0 || (found & COLON != 0 && has_route_prefix(name)) {
        return Ok(Target::Route);
    }
    judge(name, found, WILDCARD).map(|()| Target::Channel)
}

const ROUTE_PREFIXES: [&str; 5] = ["events:", "events_store:", "queues:", "route:", "routes:"];

fn has_route_prefix(name: &str) -> bool {
    ROUTE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

// Classes of characters, as bits.
const SPACE: u8 = 1;
const CONTROL: u8 = 1 << 1;
const WILDCARD: u8 = 1 << 2;
const SEMICOLON: u8 = 1 << 3;
const COLON: u8 = 1 << 4;
const DOT: u8 = 1 << 5;
const EMPTY_TOKEN: u8 = DOT << 1;
const NOT_ASCII: u8 = 1 << 7;

/// Every message has its names looked at: a table, and no branch for a character.
#[allow(
    clippy::indexing_slicing,
    reason = "made by the compiler, which would refuse an index out of bounds"
)]
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = u8::MIN;
    loop {
        classes[byte as usize] = class(byte);
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

const fn class(byte: u8) -> u8 {
    match byte {
        // These are white space as well as control characters.
        b'\t'..=b'\r' => SPACE | CONTROL,
        0..=0x1f | 0x7f => CONTROL,
        b' ' => SPACE,
        b'*' | b'>' => WILDCARD,
        b';' => SEMICOLON,
        b':' => COLON,
        b'.' => DOT,
        0x80.. => NOT_ASCII,
        _ => 0,
    }
}

/// The classes of all characters together, and whether a token is empty.
fn classes(name: &str) -> u8 {
    let mut found = 0;
    // A dot at the start has an empty token before it.
    let mut before = DOT;
    for byte in name.bytes() {
        let this = CLASSES.get(usize::from(byte)).copied().unwrap_or(CONTROL);
        found |= this | (this & before & DOT) << 1;
        before = this;
    }
    if found & NOT_ASCII != 0 {
        found |= classes_beyond_ascii(name);
    }
    found
}

#[cold]
fn classes_beyond_ascii(name: &str) -> u8 {
    name.chars()
        .filter(|character| !character.is_ascii())
        .fold(0, |found, character| {
            let space = if character.is_whitespace() { SPACE } else { 0 };
            let control = if character.is_control() { CONTROL } else { 0 };
            found | space | control
        })
}

/// Checks a name of tokens, with the classes in `also` refused too.
fn check_tokens(name: &str, also: u8) -> Result<(), NameError> {
    // A name can be as long as a message; one that is too long is not looked at.
    let found = if name.len() > CHANNEL_BYTES_MAX {
        0
    } else {
        classes(name)
    };
    judge(name, found, also)
}

/// The verdict on a name whose characters are of the classes `found`.
fn judge(name: &str, found: u8, also: u8) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.ends_with('.') {
        return Err(NameError::EndsWithDot);
    }
    if name.len() > CHANNEL_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    match found & (SPACE | CONTROL | SEMICOLON | EMPTY_TOKEN | also) {
        0 => Ok(()),
        faults => Err(first_fault(faults)),
    }
}

#[cold]
fn first_fault(found: u8) -> NameError {
    let faults = [
        (SPACE, NameError::WhiteSpace),
        (CONTROL, NameError::Control),
        (WILDCARD, NameError::Wildcard),
        (SEMICOLON, NameError::Semicolon),
    ];
    let fault = faults.iter().find(|(class, _)| found & class != 0);
    fault.map_or(NameError::EmptyToken, |(_, fault)| *fault)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_pass_in_every_role() {
        for name in [
            "a",
            "a.b",
            "a/b",
            "a:b",
            "$a",
            "a,b",
            "é-世",
            "UP",
            "a-b_c",
            "~",
            "a\u{200b}",
        ] {
            assert_eq!(check_channel(name), Ok(()), "{name:?}");
            assert_eq!(check_pattern(name), Ok(()), "{name:?}");
            assert_eq!(check_target(name), Ok(Target::Channel), "{name:?}");
        }
    }

    #[test]
    fn each_fault_of_a_channel_is_named() {
        let long = "y".repeat(CHANNEL_BYTES_MAX + 1);
        for (name, fault) in [
            ("", NameError::Empty),
            ("a.", NameError::EndsWithDot),
            (".", NameError::EndsWithDot),
            (long.as_str(), NameError::TooLong),
            ("a b", NameError::WhiteSpace),
            ("a\u{a0}b", NameError::WhiteSpace),
            ("a\u{2028}b", NameError::WhiteSpace),
            ("a\tb", NameError::WhiteSpace),
            ("a\r\nb", NameError::WhiteSpace),
            ("a\u{85}", NameError::WhiteSpace),
            ("a\0b", NameError::Control),
            ("a\u{7f}", NameError::Control),
            ("a\u{9f}", NameError::Control),
            ("a.*", NameError::Wildcard),
            ("a.>", NameError::Wildcard),
            ("a*", NameError::Wildcard),
            ("a;b", NameError::Semicolon),
            (".a", NameError::EmptyToken),
            ("a..b", NameError::EmptyToken),
        ] {
            assert_eq!(check_channel(name), Err(fault), "{name:?}");
            if fault == NameError::Wildcard {
                assert_eq!(check_pattern(name), Ok(()), "{name:?}");
            } else {
                assert_eq!(check_pattern(name), Err(fault), "{name:?}");
            }
        }
        assert_eq!(check_channel(&"y".repeat(CHANNEL_BYTES_MAX)), Ok(()));
    }

    #[test]
    fn of_several_faults_the_first_in_the_fixed_order_counts() {
        assert_eq!(check_channel("* ;..\0."), Err(NameError::EndsWithDot));
        assert_eq!(check_channel("*;..\0 "), Err(NameError::WhiteSpace));
        assert_eq!(check_channel("*;..\0"), Err(NameError::Control));
        assert_eq!(check_channel("..;*"), Err(NameError::Wildcard));
        assert_eq!(check_channel("..;"), Err(NameError::Semicolon));
        assert_eq!(check_pattern("..>"), Err(NameError::EmptyToken));
    }

    #[test]
    fn client_ids_may_hold_anything_but_control_characters() {
        for id in [
            "a",
            "a b",
            "a.b;c*>",
            "é",
            ".",
            &"x".repeat(CLIENT_ID_BYTES_MAX),
        ] {
            assert_eq!(check_client_id(id), Ok(()), "{id:?}");
        }
        assert_eq!(check_client_id(""), Err(NameError::Empty));
        assert_eq!(check_client_id("a\nb"), Err(NameError::Control));
        assert_eq!(check_client_id("a\u{80}b"), Err(NameError::Control));
        let long = "x".repeat(CLIENT_ID_BYTES_MAX + 1);
        assert_eq!(check_client_id(&long), Err(NameError::TooLong));
    }

    #[test]
    fn groups_may_hold_anything_but_space_and_control_characters() {
        for group in ["", "g", "g.1", "g*", "g:1", "..", ";"] {
            assert_eq!(check_group(group), Ok(()), "{group:?}");
        }
        assert_eq!(check_group("g 1"), Err(NameError::WhiteSpace));
        assert_eq!(check_group("g\u{3000}1"), Err(NameError::WhiteSpace));
        assert_eq!(check_group("g\0"), Err(NameError::Control));
        assert_eq!(
            check_group(&"g".repeat(GROUP_BYTES_MAX + 1)),
            Err(NameError::TooLong)
        );
    }

    #[test]
    fn routes_are_told_from_names_with_colons() {
        for route in [
            "a;b",
            ";",
            "events:a",
            "events_store: a b",
            "queues:q",
            "route:k",
            "routes:",
        ] {
            assert_eq!(check_target(route), Ok(Target::Route), "{route:?}");
        }
        for channel in ["a:b", "event:a", "Events:a", "xroute:a", "commands:a"] {
            assert_eq!(check_target(channel), Ok(Target::Channel), "{channel:?}");
        }
        assert_eq!(check_target(""), Err(NameError::Empty));
        assert_eq!(check_target("a b"), Err(NameError::WhiteSpace));
        let long = format!("{};", "a".repeat(ROUTE_BYTES_MAX - 1));
        assert_eq!(check_target(&long), Ok(Target::Route));
        assert_eq!(check_target(&format!("{long};")), Err(NameError::TooLong));
    }

    /// The rules once more, one after the other and without a fast path.
    fn naive(name: &str, wildcards: bool) -> Result<(), NameError> {
        let tests: [(bool, NameError); 8] = [
            (name.is_empty(), NameError::Empty),
            (name.ends_with('.'), NameError::EndsWithDot),
            (name.len() > CHANNEL_BYTES_MAX, NameError::TooLong),
            (name.contains(char::is_whitespace), NameError::WhiteSpace),
            (name.contains(char::is_control), NameError::Control),
            (!wildcards && name.contains(['*', '>']), NameError::Wildcard),
            (name.contains(';'), NameError::Semicolon),
            (name.split('.').any(str::is_empty), NameError::EmptyToken),
        ];
        tests
            .iter()
            .find(|(failed, _)| *failed)
            .map_or(Ok(()), |(_, error)| Err(*error))
    }

    proptest! {
        #[test]
        fn one_look_finds_what_the_rules_say(name in "[a.*>;: \\t\\x00é\u{85}\u{2003}]{0,12}") {
            prop_assert_eq!(check_channel(&name), naive(&name, false));
            prop_assert_eq!(check_pattern(&name), naive(&name, true));
        }

        #[test]
        fn any_text_is_judged_as_the_rules_say(name in "\\PC{0,300}") {
            prop_assert_eq!(check_channel(&name), naive(&name, false));
        }
    }
}
