//! Who of a group gets a message.

use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;

use super::SubscriberAddress;
use crate::engine::arena::Arena;

/// One subscription, as a pattern holds it: 16 bytes with all that a selection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    key: u64,
    /// Where the subscription itself is.
    pub(super) subscription: u32,
    core: u16,
    /// The subscriber said that its buffer is full.
    pub(super) full: bool,
}

const _: () = assert!(size_of::<Member>() == 16);

impl Member {
    pub(super) fn new(address: SubscriberAddress, subscription: u32) -> Self {
        Self {
            key: address.key,
            subscription,
            core: address.core,
            full: false,
        }
    }

    pub(super) fn address(&self) -> SubscriberAddress {
        SubscriberAddress {
            core: self.core,
            key: self.key,
        }
    }
}

/// The members that a group has on one pattern; never none.
#[derive(Debug)]
pub(super) struct Cohort {
    pub(super) group: u32,
    pub(super) members: Vec<Member>,
}

/// Chooses one of the members that match a channel: with the channel's turn they rotate. One that
/// is full is passed over for one that is not; `None` if all are.
///
/// As long as none is full, this touches one member. While the same members are full, the others
/// share their turns evenly: in each round over `count` members, the substitute of a full one moves
/// on by one.
pub(super) fn choose<'a>(
    members: impl Iterator<Item = &'a Member> + Clone,
    turn: usize,
) -> Option<SubscriberAddress> {
    let count = members.clone().count();
    let in_turn = members.clone().nth(turn.checked_rem(count)?)?;
    if !in_turn.full {
        return Some(in_turn.address());
    }
    let mut ready = members.filter(|member| !member.full);
    let ready_count = ready.clone().count();
    let round = turn.checked_div(count)?;
    ready
        .nth(round.checked_rem(ready_count)?)
        .map(Member::address)
}

/// The names of the groups that have members, as small numbers.
#[derive(Debug)]
pub(super) struct GroupNames {
    ids: HashMap<Rc<str>, u32, RandomState>,
    groups: Arena<Group>,
}

#[derive(Debug)]
struct Group {
    name: Rc<str>,
    members: usize,
}

impl GroupNames {
    pub(super) fn new() -> Self {
        Self {
            ids: HashMap::default(),
            groups: Arena::new(),
        }
    }

    /// The id of a group, for one more member of it.
    pub(super) fn join(&mut self, name: &str) -> u32 {
        if let Some(&id) = self.ids.get(name) {
            if let Some(group) = self.groups.at_mut(id) {
                group.members += 1;
            }
            return id;
        }
        let name: Rc<str> = name.into();
        let id = self
            .groups
            .insert(Group {
                name: Rc::clone(&name),
                members: 1,
            })
            .index();
        self.ids.insert(name, id);
        id
    }

    /// Takes one member's share back; the id is free once all have left.
    pub(super) fn leave(&mut self, id: u32) {
        let group = self.groups.at_mut(id).expect("a member's group lives");
        group.members -= 1;
        if group.members == 0
            && let Some(group) = self.groups.remove_at(id)
        {
            self.ids.remove(&group.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(full: &[bool]) -> Vec<Member> {
        (0..)
            .zip(full)
            .map(|(key, &full)| Member {
                key,
                subscription: 0,
                core: 0,
                full,
            })
            .collect()
    }

    /// How often each member is chosen in so many turns.
    fn counts(full: &[bool], turns: usize) -> Vec<usize> {
        let members = members(full);
        let mut counts = vec![0; full.len()];
        for turn in 0..turns {
            let chosen = choose(members.iter(), turn).expect("one has room");
            counts[usize::try_from(chosen.key).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn members_take_turns() {
        assert_eq!(counts(&[false; 3], 30), [10, 10, 10]);
    }

    #[test]
    fn the_turns_of_full_members_are_shared_evenly() {
        assert_eq!(
            counts(&[true, false, false, true, false], 5 * 3),
            [0, 5, 5, 0, 5]
        );
    }

    #[test]
    fn nobody_is_chosen_when_all_are_full_or_none_is_there() {
        for turn in 0..5 {
            assert_eq!(choose(members(&[true; 3]).iter(), turn), None);
            assert_eq!(choose([].iter(), turn), None);
        }
    }

    #[test]
    fn a_group_keeps_its_id_until_the_last_member_leaves() {
        let mut names = GroupNames::new();
        let id = names.join("g");
        assert_eq!(names.join("g"), id);
        assert_ne!(names.join("G"), id);
        names.leave(id);
        assert_eq!(names.join("g"), id);
        names.leave(id);
        names.leave(id);
        assert!(!names.ids.contains_key("g"));
        assert_eq!(names.groups.len(), 1);
    }
}
