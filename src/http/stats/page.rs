//! What a list is asked for: which channels, in which order, which of them.

use crate::model::Kind;
use crate::shard::{ChannelFacts, Rank};

/// Channels on a page when the request does not say.
const PER_PAGE: usize = 100;

/// The largest page.
const PER_PAGE_MAX: usize = 1_000;

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Sort {
    Name,
    Messages,
    Volume,
    Bytes,
    Waiting,
    Delivered,
    Errors,
    Clients,
    Activity,
}

/// What lists of channels can be sorted by.
pub(in crate::http) const CHANNEL_SORTS: &[(&str, Sort)] = &[
    ("name", Sort::Name),
    ("messages", Sort::Messages),
    ("volume", Sort::Volume),
    ("bytes", Sort::Bytes),
    ("waiting", Sort::Waiting),
    ("delivered", Sort::Delivered),
    ("clients", Sort::Clients),
    ("activity", Sort::Activity),
];

/// What lists of clients can be sorted by.
pub(in crate::http) const CLIENT_SORTS: &[(&str, Sort)] = &[
    ("name", Sort::Name),
    ("messages", Sort::Messages),
    ("volume", Sort::Volume),
    ("errors", Sort::Errors),
    ("activity", Sort::Activity),
];

/// A page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Page {
    /// Its number, from 1.
    pub(in crate::http) number: usize,
    /// Rows on each.
    pub(in crate::http) size: usize,
}

impl Page {
    /// Rows before it.
    pub(in crate::http) const fn before(self) -> usize {
        self.number.saturating_sub(1).saturating_mul(self.size)
    }

    /// Rows up to its end.
    pub(in crate::http) const fn through(self) -> usize {
        self.number.saturating_mul(self.size)
    }
}

/// What a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Asked {
    /// A page; `None`: the whole list.
    pub(in crate::http) page: Option<Page>,
    /// Those whose names hold this text.
    pub(in crate::http) search: Box<str>,
    pub(in crate::http) sort: Sort,
    pub(in crate::http) descending: bool,
    /// Kinds; empty: all.
    pub(in crate::http) kinds: Vec<Kind>,
}

/// A parameter that says nothing sensible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {parameter} value {value:?}, {allowed}")]
pub(in crate::http) struct BadParameter {
    parameter: &'static str,
    value: String,
    allowed: String,
}

impl Asked {
    /// Reads the parameters of a request; `parameter` finds one by its name.
    pub(in crate::http) fn read(
        sorts: &[(&str, Sort)],
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BadParameter> {
        let number = |name: &'static str, max: usize| -> Result<Option<usize>, BadParameter> {
            let Some(value) = parameter(name).filter(|value| !value.is_empty()) else {
                return Ok(None);
            };
            let parsed = value.parse().ok().filter(|n| (1..=max).contains(n));
            parsed.map(Some).ok_or_else(|| BadParameter {
                parameter: name,
                value,
                allowed: format!("must be a whole number from 1 to {max}"),
            })
        };
        // No product of the two is beyond what a list can hold.
        let page = number("page", 1_000_000_000)?;
        let per_page = number("per_page", PER_PAGE_MAX)?;
        let page = (page.is_some() || per_page.is_some()).then(|| Page {
            number: page.unwrap_or(1),
            size: per_page.unwrap_or(PER_PAGE),
        });
        let sort = choice("sort", parameter("sort"), sorts, Sort::Name)?;
        let orders = [("asc", false), ("desc", true)];
        let descending = choice("order", parameter("order"), &orders, false)?;
        let kinds = parameter("kind").unwrap_or_default();
        let kinds = kinds.split(',').filter(|kind| !kind.is_empty());
        let kinds = kinds.map(|kind| {
            Kind::from_name(kind).ok_or_else(|| BadParameter {
                parameter: "kind",
                value: kind.to_owned(),
                allowed: format!("must be one of {}", Kind::ALL.map(Kind::name).join(", ")),
            })
        });
        Ok(Self {
            page,
            search: parameter("search").unwrap_or_default().into(),
            sort,
            descending,
            kinds: kinds.collect::<Result<_, _>>()?,
        })
    }

    /// How many rows must be known, from the first on.
    pub(in crate::http) fn keep(&self) -> usize {
        self.page.map_or(usize::MAX, Page::through)
    }

    /// Whether names fall.
    pub(in crate::http) fn falling(&self) -> bool {
        self.sort == Sort::Name && self.descending
    }
}

fn choice<T: Copy>(
    parameter: &'static str,
    value: Option<String>,
    known: &[(&str, T)],
    default: T,
) -> Result<T, BadParameter> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(default);
    };
    let found = known.iter().find(|(name, _)| *name == value);
    found.map(|(_, found)| *found).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        BadParameter {
            parameter,
            value,
            allowed: format!("must be one of {}", names.join(", ")),
        }
    })
}

/// Messages that went over a channel, in both directions.
pub(in crate::http) fn messages(facts: &ChannelFacts<'_>) -> u64 {
    let traffic = &facts.traffic;
    [
        traffic.messages_out,
        traffic.responses_in,
        traffic.responses_out,
    ]
    .into_iter()
    .fold(traffic.messages_in, u64::saturating_add)
}

/// Their bytes.
pub(in crate::http) fn volume(facts: &ChannelFacts<'_>) -> u64 {
    facts
        .traffic
        .bytes_in
        .saturating_add(facts.traffic.bytes_out)
}

/// The rank by which a list is sorted.
pub(in crate::http) fn rank(asked: &Asked) -> Rank {
    macro_rules! by {
        ($of:expr) => {
            if asked.descending {
                |facts, _| !$of(facts)
            } else {
                |facts, _| $of(facts)
            }
        };
    }
    // Errors are no figure of a channel: no list of channels is sorted by them.
    match asked.sort {
        Sort::Name | Sort::Errors => |_, _| 0,
        Sort::Messages => by!(messages),
        Sort::Volume => by!(volume),
        Sort::Bytes => by!((|facts: &ChannelFacts<'_>| facts.bytes)),
        Sort::Waiting => by!((|facts: &ChannelFacts<'_>| facts.waiting)),
        Sort::Delivered => by!((|facts: &ChannelFacts<'_>| facts.delivered)),
        Sort::Clients => by!((|facts: &ChannelFacts<'_>| facts.consumers)),
        Sort::Activity => by!((|facts: &ChannelFacts<'_>| facts.traffic.last_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &[(&str, &str)]) -> Result<Asked, BadParameter> {
        Asked::read(CHANNEL_SORTS, |name| {
            let found = query.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_parameters_it_is_the_whole_list_by_name() {
        let whole = asked(&[]).unwrap();
        assert_eq!((whole.page, whole.keep()), (None, usize::MAX));
        assert_eq!((whole.sort, whole.falling()), (Sort::Name, false));
    }

    #[test]
    fn either_parameter_of_a_page_asks_for_one() {
        let third = asked(&[("page", "3"), ("per_page", "20"), ("sort", "waiting")]).unwrap();
        let page = third.page.unwrap();
        assert_eq!((page.before(), page.through(), third.keep()), (40, 60, 60));
        let first = asked(&[("per_page", "5")]).unwrap().page.unwrap();
        assert_eq!((first.number, first.size), (1, 5));
        let second = asked(&[("page", "2")]).unwrap().page.unwrap();
        assert_eq!((second.before(), second.size), (100, 100));
    }

    #[test]
    fn senseless_parameters_are_refused_with_what_is_allowed() {
        for (key, value) in [
            ("page", "0"),
            ("page", "-1"),
            ("page", "99999999999999999999"),
            ("per_page", "1001"),
            ("per_page", "x"),
            ("sort", "size"),
            ("sort", "errors"),
            ("order", "up"),
            ("kind", "queues,topics"),
        ] {
            let text = asked(&[(key, value)]).unwrap_err().to_string();
            assert!(text.starts_with(&format!("invalid {key} value ")), "{text}");
        }
    }

    #[test]
    fn ranks_rise_and_fall_with_their_figure() {
        let (mut few, mut many) = (ChannelFacts::default(), ChannelFacts::default());
        (few.waiting, many.waiting) = (1, 2);
        let rising = rank(&asked(&[("sort", "waiting")]).unwrap());
        assert!(rising(&few, 0) < rising(&many, 0));
        let falling = rank(&asked(&[("sort", "waiting"), ("order", "desc")]).unwrap());
        assert!(falling(&few, 0) > falling(&many, 0));
    }
}
