//! What was decided lately.

use std::cell::RefCell;
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use super::Policy;
use crate::model::identity::Identity;
use crate::security::{Action, Attempt, Resource};

/// Decisions that one executor remembers.
const SLOTS: usize = 1_024;

/// An attempt with longer names than this is decided anew each time: the table stays below a
/// megabyte whatever clients call themselves.
const NAMES_BYTES_MAX: usize = 768;

/// The last decisions of one executor, each in a slot that its hash names. The hash is seeded: a
/// client cannot choose whose slot it takes.
#[derive(Debug, Default)]
pub struct Decisions {
    slots: RefCell<Box<[Option<Decided>]>>,
    seed: RandomState,
}

#[derive(Debug)]
struct Decided {
    client_id: Box<str>,
    channel: Box<str>,
    roles: Box<[Box<str>]>,
    resource: Resource,
    action: Action,
    allowed: bool,
}

impl Decided {
    fn answers(&self, roles: &[Box<str>], attempt: &Attempt<'_>) -> bool {
        self.resource == attempt.resource
            && self.action == attempt.action
            && *self.client_id == *attempt.client_id
            && *self.channel == *attempt.channel
            && *self.roles == *roles
    }
}

impl Decisions {
    /// Whether a policy allows an attempt; asks it only for what was not decided lately. All that
    /// is remembered must be of the same policy: [`Decisions::forget`] when it is replaced.
    pub fn allows(&self, policy: &Policy, identity: &Identity, attempt: &Attempt<'_>) -> bool {
        // Without rules for roles they decide nothing.
        let roles = if policy.has_roles() {
            &*identity.roles
        } else {
            &[]
        };
        let role_bytes: usize = roles.iter().map(|role| role.len() + 16).sum();
        if attempt.client_id.len() + attempt.channel.len() + role_bytes > NAMES_BYTES_MAX {
            return policy.allows(identity, attempt);
        }
        let key = (
            attempt.client_id,
            attempt.channel,
            roles,
            attempt.resource,
            attempt.action,
        );
        let slots = u64::try_from(SLOTS).unwrap_or(1);
        let slot = usize::try_from(self.seed.hash_one(key) % slots).unwrap_or(0);
        if let Some(Some(decided)) = self.slots.borrow().get(slot)
            && decided.answers(roles, attempt)
        {
            return decided.allowed;
        }
        let allowed = policy.allows(identity, attempt);
        let mut slots = self.slots.borrow_mut();
        if slots.is_empty() {
            *slots = std::iter::repeat_with(|| None).take(SLOTS).collect();
        }
        if let Some(slot) = slots.get_mut(slot) {
            *slot = Some(Decided {
                client_id: attempt.client_id.into(),
                channel: attempt.channel.into(),
                roles: roles.into(),
                resource: attempt.resource,
                action: attempt.action,
                allowed,
            });
        }
        allowed
    }

    /// Forgets all.
    pub fn forget(&self) {
        *self.slots.borrow_mut() = Box::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn attempt<'a>(client_id: &'a str, channel: &'a str) -> Attempt<'a> {
        Attempt {
            resource: Resource::Messages(Kind::Events),
            action: Action::Read,
            client_id,
            channel,
        }
    }

    #[test]
    fn remembered_decisions_are_those_of_the_policy_until_they_are_forgotten() {
        let policy = |client: &str| {
            let json =
                format!(r#"[{{"ClientID":"{client}","Channel":"a.*","Events":true,"Read":true}}]"#);
            Policy::parse(&json, "test", false).unwrap()
        };
        let (first, second) = (policy("alice"), policy("bob"));
        let (decisions, nobody) = (Decisions::default(), Identity::anonymous());
        let ask =
            |policy: &Policy, client| decisions.allows(policy, &nobody, &attempt(client, "ab"));
        for _ in 0..2 {
            assert!(ask(&first, "alice"));
            assert!(!ask(&first, "bob"));
        }
        // Remembered, and therefore to be forgotten with the policy.
        assert!(ask(&second, "alice"));
        decisions.forget();
        assert!(!ask(&second, "alice"));
        assert!(ask(&second, "bob"));
    }

    #[test]
    fn every_part_of_an_attempt_counts() {
        let json = r#"[{"Roles":["r"],"Channel":"c","Events":true,"Read":true}]"#;
        let policy = Policy::parse(json, "test", false).unwrap();
        let decisions = Decisions::default();
        let someone = |role: &str| Identity {
            roles: [role.into()].into(),
            ..Identity::anonymous()
        };
        let good = attempt("x", "c");
        let others = [
            Attempt {
                channel: "d",
                ..good
            },
            Attempt {
                action: Action::Write,
                ..good
            },
            Attempt {
                resource: Resource::Management,
                ..good
            },
        ];
        for _ in 0..2 {
            assert!(decisions.allows(&policy, &someone("r"), &good));
            assert!(!decisions.allows(&policy, &someone("s"), &good));
            for other in &others {
                assert!(!decisions.allows(&policy, &someone("r"), other));
            }
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let policy = Policy::parse("[]", "test", false).unwrap();
        let (decisions, nobody) = (Decisions::default(), Identity::anonymous());
        for number in 0..10 * SLOTS {
            let channel = format!("c{number}");
            assert!(!decisions.allows(&policy, &nobody, &attempt("x", &channel)));
        }
        let long = "c".repeat(NAMES_BYTES_MAX + 1);
        assert!(!decisions.allows(&policy, &nobody, &attempt("x", &long)));
        let slots = decisions.slots.borrow();
        assert_eq!(slots.len(), SLOTS);
        let mut filled = slots.iter().flatten();
        assert!(filled.all(|decided| decided.channel.len() < NAMES_BYTES_MAX));
    }
}
