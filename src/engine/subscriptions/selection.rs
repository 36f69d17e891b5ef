//! Who of the subscribers of the matching patterns gets a message.

use super::SubscriberAddress;
use super::groups::{Member, choose};
use super::pattern::Pattern;
use crate::engine::arena::Arena;

/// What [`SubscriptionTable::select`](super::SubscriptionTable::select) found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Subscribers without a group, plus groups, that match.
    pub matched: usize,
    /// Groups among them that have no member with room: nobody was chosen for these.
    pub groups_full: usize,
}

/// The cohort of a group on one of several patterns: group, pattern, position of the cohort.
pub(super) type Span = (u32, u32, usize);

/// Chooses from the subscribers of the patterns `matched`, which are distinct. `spans` is working
/// memory.
pub(super) fn gather(
    patterns: &Arena<Pattern>,
    matched: &[u32],
    turn: usize,
    spans: &mut Vec<Span>,
    chosen: &mut Vec<SubscriberAddress>,
) -> Selection {
    let mut with_groups = 0;
    for pattern in matched.iter().filter_map(|id| patterns.at(*id)) {
        chosen.extend(pattern.solos.iter().map(Member::address));
        with_groups += usize::from(!pattern.cohorts.is_empty());
    }
    let mut selection = Selection {
        matched: chosen.len(),
        groups_full: 0,
    };
    match with_groups {
        0 => {}
        1 => {
            let cohorts = matched
                .iter()
                .filter_map(|id| patterns.at(*id))
                .flat_map(|p| &p.cohorts);
            for cohort in cohorts {
                selection.count_group(choose(cohort.members.iter(), turn), chosen);
            }
        }
        _ => {
            sort_by_group(patterns, matched, spans);
            for cohorts in spans.chunk_by(|left, right| left.0 == right.0) {
                let members = cohorts.iter().flat_map(|span| members(patterns, *span));
                selection.count_group(choose(members, turn), chosen);
            }
        }
    }
    selection
}

impl Selection {
    fn count_group(
        &mut self,
        member: Option<SubscriberAddress>,
        chosen: &mut Vec<SubscriberAddress>,
    ) {
        self.matched += 1;
        self.groups_full += usize::from(member.is_none());
        chosen.extend(member);
    }
}

/// Lists the cohorts of all patterns so that those of one group are neighbours.
fn sort_by_group(patterns: &Arena<Pattern>, matched: &[u32], spans: &mut Vec<Span>) {
    spans.clear();
    for (id, pattern) in matched
        .iter()
        .filter_map(|id| Some((*id, patterns.at(*id)?)))
    {
        let cohorts = pattern.cohorts.iter().enumerate();
        spans.extend(cohorts.map(|(at, cohort)| (cohort.group, id, at)));
    }
    spans.sort_unstable();
}

fn members(patterns: &Arena<Pattern>, (_, pattern, at): Span) -> &[Member] {
    let cohort = patterns
        .at(pattern)
        .and_then(|pattern| pattern.cohorts.get(at));
    cohort.map_or(&[], |cohort| &cohort.members)
}
