//! What a message says of itself when it arrives in another queue.

use ringmq_storage::record::queue::{MoveId, QueueHead};

use crate::engine::queues::MoveReason;

/// The policy that a message was sent with, as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentPolicy<'a> {
    /// How long it lives, in nanoseconds; 0: for ever.
    pub lives_ns: u64,
    /// How often it may be received, at least 1.
    pub receives_max: u32,
    /// The queue of its dead letters; empty: none.
    pub dead_letter: &'a str,
}

/// A message that leaves its queue.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    /// Its move.
    pub id: MoveId,
    /// Why it goes.
    pub reason: MoveReason,
    /// Name of the queue that it leaves.
    pub source: &'a str,
    /// Name of the queue that it goes to.
    pub target: &'a str,
    /// When it was stored, in nanoseconds since 1970.
    pub stored_ns: u64,
    /// What stands before its body.
    pub head: QueueHead<'a>,
    /// What its sender wanted, which a dead letter gets back when it is sent back.
    pub policy: SentPolicy<'a>,
}

/// What stands before its body in the target.
///
/// A dead letter keeps the time at which it expires, is marked as re-routed, and its policy is at
/// an end: it may be received as often as `receives_max` says. Any other message starts anew under
/// its policy: its time to live begins again, without its delay but for a resend. A redrive gives a
/// dead letter its policy back, and where it came from stays with it.
#[must_use]
pub fn arriving_head<'a>(leaving: &Leaving<'a>, receives_max: u32, now_ns: u64) -> QueueHead<'a> {
    let Leaving {
        id, reason, head, ..
    } = *leaving;
    let moved = Some((reason as u8, id));
    // One that only changes its place in its queue comes from where it came from.
    let stays = leaving.source == leaving.target;
    let origin = match reason {
        MoveReason::Redrive if !head.origin.is_empty() => head.origin,
        _ if stays && !head.origin.is_empty() => head.origin,
        _ => leaving.source,
    };
    if reason == MoveReason::DeadLetter {
        return QueueHead {
            visible_at_ns: 0,
            expires_at_ns: head.expires_at_ns,
            receives_max: receives_max.max(1),
            rerouted: true,
            policy_cleared: true,
            dead_letter: "",
            origin,
            moved,
        };
    }
    if reason == MoveReason::Redrive && head.policy_cleared {
        let lives_ns = leaving.policy.lives_ns;
        return QueueHead {
            visible_at_ns: 0,
            expires_at_ns: if lives_ns > 0 {
                now_ns.saturating_add(lives_ns)
            } else {
                0
            },
            receives_max: leaving.policy.receives_max.max(1),
            rerouted: false,
            policy_cleared: false,
            dead_letter: leaving.policy.dead_letter,
            origin,
            moved,
        };
    }
    let delay_ns = match reason {
        MoveReason::Resend => head.visible_at_ns.saturating_sub(leaving.stored_ns),
        _ => 0,
    };
    let visible_at_ns = if delay_ns > 0 {
        now_ns.saturating_add(delay_ns)
    } else {
        0
    };
    let expires_at_ns = if head.expires_at_ns > 0 {
        let lives_ns = head
            .expires_at_ns
            .saturating_sub(head.visible_at_ns.max(leaving.stored_ns));
        now_ns.max(visible_at_ns).saturating_add(lives_ns.max(1))
    } else {
        0
    };
    QueueHead {
        visible_at_ns,
        expires_at_ns,
        rerouted: false,
        origin,
        moved,
        ..head
    }
}

#[cfg(test)]
mod tests {
    use ringmq_storage::{ChannelId, Sequence, SlotId};

    use super::*;

    const HEAD: QueueHead<'static> = QueueHead {
        visible_at_ns: 1_500,
        expires_at_ns: 1_800,
        receives_max: 3,
        rerouted: false,
        policy_cleared: false,
        dead_letter: "dead",
        origin: "",
        moved: None,
    };

    fn leaving(reason: MoveReason, target: &'static str) -> Leaving<'static> {
        let id = MoveId {
            slot: SlotId::new(3).expect("a slot"),
            channel: ChannelId::new(4),
            sequence: Sequence::new(5),
        };
        Leaving {
            id,
            reason,
            source: "orders",
            target,
            stored_ns: 1_000,
            head: HEAD,
            policy: SentPolicy {
                lives_ns: 700,
                receives_max: 3,
                dead_letter: "dead",
            },
        }
    }

    #[test]
    fn dead_letter_keeps_its_expiry_and_loses_its_policy() {
        let head = arriving_head(&leaving(MoveReason::DeadLetter, "dead"), 1_024, 9_000);
        assert_eq!((head.visible_at_ns, head.expires_at_ns), (0, 1_800));
        assert!(head.rerouted && head.policy_cleared);
        assert_eq!((head.receives_max, head.dead_letter), (1_024, ""));
        assert_eq!(head.origin, "orders");
        assert_eq!(
            head.moved.map(|(reason, id)| (reason, id.sequence.get())),
            Some((1, 5))
        );
    }

    #[test]
    fn requeued_message_lives_as_long_as_at_first_and_is_not_delayed_again() {
        let head = arriving_head(&leaving(MoveReason::Requeue, "other"), 1_024, 9_000);
        assert_eq!((head.visible_at_ns, head.expires_at_ns), (0, 9_300));
        assert!(!head.rerouted && !head.policy_cleared);
        assert_eq!((head.receives_max, head.dead_letter), (3, "dead"));
        assert_eq!(head.origin, "orders");
    }

    #[test]
    fn resent_message_is_delayed_anew() {
        let head = arriving_head(&leaving(MoveReason::Resend, "other"), 1_024, 9_000);
        assert_eq!((head.visible_at_ns, head.expires_at_ns), (9_500, 9_800));
    }

    #[test]
    fn redriven_message_has_its_policy_again_and_keeps_where_it_came_from() {
        let mut leaving = leaving(MoveReason::Redrive, "orders");
        leaving.source = "dead";
        leaving.head.origin = "orders";
        leaving.head.rerouted = true;
        leaving.head.policy_cleared = true;
        (leaving.head.dead_letter, leaving.head.receives_max) = ("", 1_024);
        let head = arriving_head(&leaving, 1_024, 9_000);
        assert_eq!((head.origin, head.rerouted), ("orders", false));
        assert_eq!((head.dead_letter, head.receives_max), ("dead", 3));
        assert_eq!((head.policy_cleared, head.expires_at_ns), (false, 9_700));
        leaving.reason = MoveReason::Requeue;
        assert_eq!(arriving_head(&leaving, 1_024, 9_000).origin, "dead");
    }

    #[test]
    fn message_without_expiry_never_gets_one() {
        let mut leaving = leaving(MoveReason::Resend, "orders");
        leaving.head.expires_at_ns = 0;
        leaving.head.visible_at_ns = 0;
        let head = arriving_head(&leaving, 1_024, 9_000);
        assert_eq!((head.visible_at_ns, head.expires_at_ns), (0, 0));
    }
}
