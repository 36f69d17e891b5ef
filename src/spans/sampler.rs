//! Which traces are recorded: the samplers of OpenTelemetry, by their names.

use super::context::{TraceContext, TraceId};

/// Decides for each span whether it is recorded.
///
/// All spans of a trace get the same answer, on every core and in every process that decides by the
/// same rule: ratios look at the trace's id, and `parentbased_…` does what the parent did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// For a trace that begins here, and without `by_parent` for every other.
    rule: Rule,
    by_parent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Always,
    Never,
    /// Recorded are those whose 63 random bits are below this.
    Below(u64),
}

/// One above the largest number of 63 bits.
const ALL: u64 = 1 << 63;

impl Sampler {
    /// The names of the samplers.
    pub const NAMES: [&str; 6] = [
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ];

    /// The sampler of this name; `ratio` is the share of the traces, for those that want one.
    /// `None` when there is no such sampler, or the ratio is not from 0 to 1.
    #[must_use]
    pub fn new(name: &str, ratio: f64) -> Option<Self> {
        let (by_parent, rule) = match name.strip_prefix("parentbased_") {
            Some(rule) => (true, rule),
            None => (false, name),
        };
        let rule = match rule {
            "always_on" => Rule::Always,
            "always_off" => Rule::Never,
            "traceidratio" => Rule::of_ratio(ratio)?,
            _ => return None,
        };
        Some(Self { rule, by_parent })
    }

    /// Whether a span of the trace is recorded.
    #[must_use]
    pub fn samples(&self, trace_id: TraceId, parent: Option<&TraceContext>) -> bool {
        match parent {
            Some(parent) if self.by_parent => parent.is_sampled(),
            _ => match self.rule {
                Rule::Always => true,
                Rule::Never => false,
                Rule::Below(limit) => trace_id.low_half() >> 1 < limit,
            },
        }
    }

    /// Whether no trace that begins here is recorded.
    #[must_use]
    pub fn needs_a_parent(&self) -> bool {
        self.rule == Rule::Never
    }
}

impl Rule {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the ratio is between 0 and 1, and the product below 2^63"
    )]
    fn of_ratio(ratio: f64) -> Option<Self> {
        if ratio == 1.0 {
            return Some(Self::Always);
        }
        (0.0..1.0)
            .contains(&ratio)
            .then_some(Self::Below((ratio * ALL as f64) as u64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::spans::context::SpanId;

    fn parent(trace: [u8; 16], flags: u8) -> TraceContext {
        TraceContext {
            trace_id: TraceId::new(trace).unwrap(),
            span_id: SpanId::new([1; 8]).unwrap(),
            flags,
        }
    }

    #[test]
    fn every_name_is_a_sampler_and_others_are_none() {
        for name in Sampler::NAMES {
            assert!(Sampler::new(name, 0.5).is_some(), "{name}");
        }
        for name in ["", "always", "parentbased_", "ALWAYS_ON", "jaeger_remote"] {
            assert_eq!(Sampler::new(name, 0.5), None, "{name}");
        }
        for ratio in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Sampler::new("traceidratio", ratio), None, "{ratio}");
        }
    }

    #[test]
    fn parent_decides_where_the_name_says_so() {
        let (on, off) = (parent([7; 16], 1), parent([7; 16], 0));
        let answers = |name| {
            let sampler = Sampler::new(name, 0.0).unwrap();
            let id = on.trace_id;
            (
                sampler.samples(id, Some(&on)),
                sampler.samples(id, Some(&off)),
                sampler.samples(id, None),
            )
        };
        assert_eq!(answers("always_on"), (true, true, true));
        assert_eq!(answers("always_off"), (false, false, false));
        assert_eq!(answers("traceidratio"), (false, false, false));
        assert_eq!(answers("parentbased_always_on"), (true, false, true));
        assert_eq!(answers("parentbased_always_off"), (true, false, false));
        assert_eq!(answers("parentbased_traceidratio"), (true, false, false));
    }

    #[test]
    fn ratio_is_the_share_of_random_traces() {
        let sampler = Sampler::new("traceidratio", 0.25).unwrap();
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 27)
        };
        let taken = (0..20_000)
            .filter(|_| {
                let id = u128::from(next()) << 64 | u128::from(next());
                sampler.samples(TraceId::new(id.to_be_bytes()).unwrap(), None)
            })
            .count();
        assert!((4_600..5_400).contains(&taken), "{taken}");
    }

    proptest! {
        #[test]
        fn trace_of_a_smaller_ratio_is_also_in_a_larger_one(
            trace in any::<[u8; 16]>(), one in 0.0..=1.0_f64, other in 0.0..=1.0_f64
        ) {
            let Some(trace) = TraceId::new(trace) else { return Ok(()); };
            let samples = |ratio| Sampler::new("traceidratio", ratio).unwrap().samples(trace, None);
            let (less, more) = (one.min(other), one.max(other));
            prop_assert!(!samples(less) || samples(more));
            prop_assert!(samples(1.0) && !samples(0.0));
            prop_assert_eq!(samples(one), samples(one));
        }
    }
}
