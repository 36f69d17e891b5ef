//! The trace context of the W3C: what `traceparent` and `tracestate` say.

use std::fmt::{self, Write as _};

/// Length of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// A longer `tracestate` is left out, as the recommendation allows.
const TRACESTATE_BYTES_MAX: usize = 512;

/// Members that a `tracestate` may have.
const TRACESTATE_MEMBERS_MAX: usize = 32;

/// The flags that are defined: sampled, and random trace id. Others say nothing to us.
const FLAGS_KNOWN: u8 = SAMPLED | RANDOM;

/// The flag of a trace that somebody records.
const SAMPLED: u8 = 1;

/// The flag of a trace whose id is random.
pub(super) const RANDOM: u8 = 2;

/// The id of a trace; never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// The id of a span within its trace; never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// `None` when the bytes are all zero.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The bytes, in the order in which they are written.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The half that ratios of sampling look at: it is random in every version of the format.
    pub(super) const fn low_half(self) -> u64 {
        // The cast keeps exactly the lower half.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the lower half is what is asked for"
        )]
        let low = u128::from_be_bytes(self.0) as u64;
        low
    }
}

impl SpanId {
    /// `None` when the bytes are all zero.
    #[must_use]
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The bytes, in the order in which they are written.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// A span of some process, as others refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether somebody records the trace, and how its id was made.
    pub flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent`, as strictly as the recommendation asks: lower case, no all-zero ids,
    /// nothing behind version 00, and of later versions what version 00 knows. `None` for anything
    /// else: then there is no context.
    #[must_use]
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes = traceparent.as_bytes();
        let (head, rest) = bytes.split_at_checked(TRACEPARENT_BYTES)?;
        let (version, head) = hex_field::<1>(head)?;
        let later = match version {
            [0] if rest.is_empty() => false,
            [0 | 0xff] => return None,
            _ => true,
        };
        if later && !rest.is_empty() && !rest.starts_with(b"-") {
            return None;
        }
        let (trace_id, head) = hex_field::<16>(head.strip_prefix(b"-")?)?;
        let (span_id, head) = hex_field::<8>(head.strip_prefix(b"-")?)?;
        let ([flags], end) = hex_field::<1>(head.strip_prefix(b"-")?)?;
        if !end.is_empty() {
            return None;
        }
        Some(Self {
            trace_id: TraceId::new(trace_id)?,
            span_id: SpanId::new(span_id)?,
            flags: flags & if later { SAMPLED } else { FLAGS_KNOWN },
        })
    }

    /// Whether somebody records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The context of a span of ours in a trace that is recorded.
    pub(super) const fn sampled(trace_id: TraceId, span_id: SpanId, flags: u8) -> Self {
        Self {
            trace_id,
            span_id,
            flags: flags | SAMPLED,
        }
    }

    /// The `traceparent` of version 00 that says this.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(TRACEPARENT_BYTES);
        let (trace_id, span_id) = (self.trace_id, self.span_id);
        let written = write!(text, "00-{trace_id:?}-{span_id:?}-{:02x}", self.flags);
        debug_assert!(written.is_ok(), "a string takes everything");
        text
    }
}

/// Two lower-case digits for each of `N` bytes, and what stands behind them.
fn hex_field<const N: usize>(text: &[u8]) -> Option<([u8; N], &[u8])> {
    let (digits, rest) = text.split_at_checked(N * 2)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = hex_digit(high)? << 4 | hex_digit(low)?;
    }
    Some((bytes, rest))
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Whether a `tracestate` may be passed on: at most 512 bytes and 32 members, each a key that
/// stands once and a value of printable characters. One that breaks a rule is left out as a whole.
#[must_use]
pub fn tracestate_is_valid(tracestate: &str) -> bool {
    if tracestate.len() > TRACESTATE_BYTES_MAX {
        return false;
    }
    let mut keys = [""; TRACESTATE_MEMBERS_MAX];
    let mut count = 0;
    for member in tracestate.split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let Some((key, value)) = member.split_once('=') else {
            return false;
        };
        let seen = keys.iter().take(count).any(|known| *known == key);
        if seen || !is_key(key) || !is_value(value) {
            return false;
        }
        let Some(place) = keys.get_mut(count) else {
            return false;
        };
        *place = key;
        count += 1;
    }
    count > 0
}

fn is_key(key: &str) -> bool {
    let fits = |part: &str, bytes_max: usize, digit_first: bool| {
        let inside = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte)
        };
        let first = part.bytes().next();
        first.is_some_and(|byte| byte.is_ascii_lowercase() || digit_first && byte.is_ascii_digit())
            && part.len() <= bytes_max
            && part.bytes().all(inside)
    };
    match key.split_once('@') {
        None => fits(key, 256, false),
        Some((tenant, system)) => fits(tenant, 241, true) && fits(system, 14, false),
    }
}

fn is_value(value: &str) -> bool {
    // Blanks at the end were trimmed with the member's.
    let printable = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b',' && byte != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn traceparent_of_the_recommendation_is_read() {
        let context = TraceContext::parse(VALID).unwrap();
        assert_eq!(
            format!("{:?}", context.trace_id),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(format!("{:?}", context.span_id), "00f067aa0ba902b7");
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), VALID);
        let quiet = TraceContext::parse(&VALID.replace("-01", "-00")).unwrap();
        assert!(!quiet.is_sampled());
    }

    #[test]
    fn malformed_traceparents_are_no_context() {
        let cases = [
            "",
            "00",
            &VALID[..54],
            &VALID.to_uppercase(),
            &VALID.replace("4bf9", "4BF9"),
            &VALID.replace("00-4", "ff-4"),
            &VALID.replace("00-4", "0-44"),
            &VALID.replace("-01", "-0g"),
            &VALID.replace("-01", "_01"),
            &VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &format!("{VALID}-"),
            &format!("{VALID}-00"),
            &format!(" {VALID}"),
            &format!("{VALID} "),
            &VALID.replace("4bf9", "é9"),
        ];
        for text in cases {
            assert_eq!(TraceContext::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        let later = VALID.replace("00-4", "cc-4");
        let expected = TraceContext::parse(VALID);
        assert_eq!(TraceContext::parse(&later), expected);
        let more = format!("{later}-what-comes-then");
        assert_eq!(TraceContext::parse(&more), expected);
        assert_eq!(TraceContext::parse(&format!("{later}.more")), None);
        let flags = later.replace("-01", "-ff");
        assert_eq!(TraceContext::parse(&flags), expected);
    }

    #[test]
    fn undefined_flags_say_nothing() {
        let context = TraceContext::parse(&VALID.replace("-01", "-fe")).unwrap();
        assert_eq!(context.flags, 2);
        assert!(!context.is_sampled());
    }

    #[test]
    fn tracestates_are_passed_on_when_they_follow_the_rules() {
        let many = |count: usize| {
            let members: Vec<String> = (0..count).map(|i| format!("k{i}=v")).collect();
            members.join(",")
        };
        let valid = [
            "rojo=00f067aa0ba902b7",
            "rojo=1,congo=t61rcWkgMzE",
            "a=1, b=2\t,c=3",
            "fw529a3039@dt=FfVW",
            "0t@sys=x",
            "a=1,,b=2,",
            "a=with blank",
            "a=~!#$%&'()*+-./:;<>?@[]^_`{|}",
            &many(32),
        ];
        for text in valid {
            assert!(tracestate_is_valid(text), "{text:?}");
        }
        let too_long = format!("a={}", "v".repeat(511));
        let invalid = [
            "",
            " , ",
            "a",
            "=1",
            "a=",
            "A=1",
            "1a=1",
            "a=1=2",
            "a=é",
            "a b=1",
            "a=1,a=2",
            "t@=1",
            "@s=1",
            "t@s@u=1",
            "t@0s=1",
            &many(33),
            &too_long,
        ];
        for text in invalid {
            assert!(!tracestate_is_valid(text), "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn what_is_written_is_read_back(
            trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), flags in 0_u8..4
        ) {
            if let (Some(trace_id), Some(span_id)) = (TraceId::new(trace), SpanId::new(span)) {
                let context = TraceContext { trace_id, span_id, flags };
                prop_assert_eq!(TraceContext::parse(&context.traceparent()), Some(context));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}", cut in 0_usize..60) {
            let _any = (TraceContext::parse(&text), tracestate_is_valid(&text));
            let spliced = format!("{}{text}", VALID.get(..cut).unwrap_or_default());
            if let Some(context) = TraceContext::parse(&spliced) {
                prop_assert_eq!(TraceContext::parse(&context.traceparent()), Some(context));
            }
        }
    }
}
