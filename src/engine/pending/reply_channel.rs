//! The name of a reply channel: `_INBOX.<22 letters and digits>.<number>`.
//!
//! Clients see it, log it and send it back, so it looks as they know it. The 22 characters are the
//! secret: drawn uniformly from 62 symbols they carry 130.99 bits. The number is the way home, the
//! caller's slot times 65,536 plus its core.

use std::fmt;
use std::io::Write;

use super::Random;

/// Characters of the secret.
pub const SECRET_CHARS: usize = 22;

const PREFIX: &str = "_INBOX.";

/// A slot has 32 bits and a core 16: the number stays below 2^48.
const NUMBER_DIGITS_MAX: usize = 15;
const _: () = assert!(1_u64 << 48 < 10_u64.pow(15));

const TEXT_BYTES_MAX: usize = PREFIX.len() + SECRET_CHARS + 1 + NUMBER_DIGITS_MAX;

const SYMBOLS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Bytes from here on are drawn again: below it, every symbol stands for equally many.
const ACCEPTED_BELOW: u8 = 248;
const _: () = assert!((ACCEPTED_BELOW as usize).is_multiple_of(SYMBOLS.len()));

/// Draws at one go. Enough for a whole secret but once in a billion.
const DRAWN_BYTES: usize = 32;

/// A source that fails to give a secret in as many goes is broken.
const DRAWS_MAX: usize = 64;

/// Where a response belongs, as its reply channel says. Whether someone waits there, and with this
/// secret, only the table of that core knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplyAddress {
    /// The core that holds the caller.
    pub core: u16,
    /// The caller's slot in that core's table.
    pub index: u32,
    /// What the responder must know to be heard: letters and digits.
    pub secret: [u8; SECRET_CHARS],
}

impl ReplyAddress {
    /// Writes the address as a channel's name.
    #[must_use]
    pub fn channel(&self) -> ReplyChannel {
        let mut text = [0; TEXT_BYTES_MAX];
        let mut rest = text.as_mut_slice();
        let number = u64::from(self.index) << 16 | u64::from(self.core);
        let written = rest
            .write_all(PREFIX.as_bytes())
            .and_then(|()| rest.write_all(&self.secret))
            .and_then(|()| write!(rest, ".{number}"));
        written.expect("the buffer holds the longest name");
        let len = TEXT_BYTES_MAX - rest.len();
        ReplyChannel {
            text,
            len,
            address: *self,
        }
    }
}

/// Hides the secret: whoever reads it in a log could answer in the responder's place.
impl fmt::Debug for ReplyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyAddress")
            .field("core", &self.core)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// The name of a reply channel, at most 45 bytes, without any allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReplyChannel {
    text: [u8; TEXT_BYTES_MAX],
    len: usize,
    address: ReplyAddress,
}

impl ReplyChannel {
    /// Reads a name as this broker writes it. Anything else is `None`: another prefix, secret of
    /// another length or with other symbols, a number with a sign, leading zeros or out of range.
    #[must_use]
    pub fn parse(name: &str) -> Option<ReplyAddress> {
        let name = name.as_bytes().strip_prefix(PREFIX.as_bytes())?;
        let (secret, rest) = name.split_first_chunk::<SECRET_CHARS>()?;
        if !secret.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let number = parse_number(rest.strip_prefix(b".")?)?;
        Some(ReplyAddress {
            core: u16::try_from(number & u64::from(u16::MAX)).ok()?,
            index: u32::try_from(number >> 16).ok()?,
            secret: *secret,
        })
    }

    /// Where the name leads.
    #[must_use]
    pub fn address(&self) -> ReplyAddress {
        self.address
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..self.len).unwrap_or_default();
        std::str::from_utf8(text).expect("a name of letters, digits and dots")
    }
}

impl fmt::Display for ReplyChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Hides the secret, as the address does.
impl fmt::Debug for ReplyChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplyChannel")
            .field(&Self::parse(self.as_str()))
            .finish()
    }
}

/// Draws the secret of one request.
///
/// # Panics
/// When the source repeats unusable bytes for ever.
pub(super) fn draw_secret(random: Random<'_>) -> [u8; SECRET_CHARS] {
    let mut secret = [0; SECRET_CHARS];
    let mut missing = secret.iter_mut();
    for _ in 0..DRAWS_MAX {
        let mut drawn = [0; DRAWN_BYTES];
        random(&mut drawn);
        let symbols = drawn
            .into_iter()
            .filter(|byte| *byte < ACCEPTED_BELOW)
            .filter_map(|byte| SYMBOLS.get(usize::from(byte) % SYMBOLS.len()));
        for symbol in symbols {
            let Some(char) = missing.next() else {
                return secret;
            };
            *char = *symbol;
        }
        if missing.len() == 0 {
            return secret;
        }
    }
    panic!("the source of randomness is stuck");
}

/// Reads a decimal number as `Display` writes it.
fn parse_number(digits: &[u8]) -> Option<u64> {
    let canonical = match digits {
        [] | [b'0', _, ..] => false,
        digits => digits.len() <= NUMBER_DIGITS_MAX,
    };
    canonical.then_some(())?;
    digits.iter().try_fold(0_u64, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8; SECRET_CHARS] = b"abcdefghijklmnopqrsTUV";

    #[test]
    fn a_name_looks_as_clients_know_it() {
        let address = ReplyAddress {
            core: 3,
            index: 5,
            secret: *SECRET,
        };
        assert_eq!(
            address.channel().as_str(),
            "_INBOX.abcdefghijklmnopqrsTUV.327683"
        );
        assert_eq!(address.channel().to_string(), address.channel().as_str());
        let largest = ReplyAddress {
            core: u16::MAX,
            index: u32::MAX,
            secret: *SECRET,
        };
        assert_eq!(
            largest.channel().as_str(),
            "_INBOX.abcdefghijklmnopqrsTUV.281474976710655"
        );
        assert_eq!(largest.channel().as_str().len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn other_names_lead_nowhere() {
        let wrong = [
            "",
            "_INBOX.",
            "orders.created",
            "_INBOX.abcdefghijklmnopqrsTUV",
            "_INBOX.abcdefghijklmnopqrsTUV.",
            "_INBOX.abcdefghijklmnopqrsTU.0",
            "_INBOX.abcdefghijklmnopqrsTUVW.0",
            "_INBOX.abcdefghijklmnopqrsTU-.0",
            "_INBOX.abcdefghijklmnopqrsTU\u{e4}.0",
            "_inbox.abcdefghijklmnopqrsTUV.0",
            "_INBOX.abcdefghijklmnopqrsTUV.00",
            "_INBOX.abcdefghijklmnopqrsTUV.01",
            "_INBOX.abcdefghijklmnopqrsTUV.+1",
            "_INBOX.abcdefghijklmnopqrsTUV.-1",
            "_INBOX.abcdefghijklmnopqrsTUV.1x",
            "_INBOX.abcdefghijklmnopqrsTUV.1 ",
            "_INBOX.abcdefghijklmnopqrsTUV.281474976710656",
            "_INBOX.abcdefghijklmnopqrsTUV.1000000000000000",
            "_INBOX.abcdefghijklmnopqrsTUV.18446744073709551616",
        ];
        for name in wrong {
            assert_eq!(ReplyChannel::parse(name), None, "{name}");
        }
        assert!(ReplyChannel::parse("_INBOX.abcdefghijklmnopqrsTUV.0").is_some());
    }

    #[test]
    fn logs_do_not_show_the_secret() {
        let address = ReplyAddress {
            core: 3,
            index: 5,
            secret: *SECRET,
        };
        let shown = format!("{address:?} {:?}", address.channel());
        assert!(
            shown.contains("core: 3") && !shown.contains("abc"),
            "{shown}"
        );
    }

    #[test]
    fn every_symbol_is_equally_likely() {
        // All accepted byte values, each equally often, in blocks as large as one draw.
        let mut bytes = (0..=u8::MAX).cycle();
        let mut counts = [0_u32; 128];
        for _ in 0..248 {
            let mut left = SECRET_CHARS;
            let secret = draw_secret(&mut |drawn| {
                drawn.fill(u8::MAX);
                for byte in drawn.iter_mut().take(left) {
                    *byte = bytes.by_ref().find(|byte| *byte < ACCEPTED_BELOW).unwrap();
                    left -= 1;
                }
            });
            secret
                .iter()
                .for_each(|char| counts[usize::from(*char)] += 1);
        }
        for symbol in SYMBOLS {
            assert_eq!(counts[usize::from(*symbol)], 22 * 248 / 62);
        }
    }

    #[test]
    #[should_panic(expected = "the source of randomness is stuck")]
    fn a_stuck_source_is_found_out() {
        draw_secret(&mut |drawn| drawn.fill(u8::MAX));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(core: u16, index: u32, secret in "[0-9A-Za-z]{22}") {
            let secret = secret.into_bytes().try_into().unwrap();
            let address = ReplyAddress { core, index, secret };
            prop_assert_eq!(ReplyChannel::parse(address.channel().as_str()), Some(address));
        }

        #[test]
        fn what_is_read_is_written_back(name in "_INBOX\\.[0-9A-Za-z]{22}\\.[0-9]{1,16}") {
            if let Some(address) = ReplyChannel::parse(&name) {
                prop_assert_eq!(address.channel().to_string(), name);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(name in ".*") {
            let _address = ReplyChannel::parse(&name);
        }
    }
}
