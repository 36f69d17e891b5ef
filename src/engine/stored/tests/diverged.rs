use ringmq_storage::frame::{Frame, FrameHeader, FrameKind};
use ringmq_storage::log::{Apply, Divergence};
use ringmq_storage::record::payload::{self, ChannelCreate, CursorCreate};
use ringmq_storage::record::queue::{self, Counted, Requeued};
use ringmq_storage::record::{RecordHead, RecordKind};
use ringmq_storage::{ChannelId, CursorId, FrameIndex, Position, SegmentId, Sequence, Term};

use super::queue_rules::{Sent, move_id, runs};
use super::rules::Fixture;
use super::tape::slot;
use crate::engine::queues::SettleReason;

impl Fixture {
    /// Applies a frame with one record that nobody has prepared, as the next frame of the slot.
    fn forge(&mut self, head: RecordHead, payload: &[u8], time_ns: u64) -> Result<(), Divergence> {
        let mut bytes = Vec::new();
        let len = u32::try_from(payload.len()).unwrap();
        let head = RecordHead {
            payload_len: len,
            ..head
        };
        bytes.extend_from_slice(&head.encode());
        bytes.extend_from_slice(payload);
        let index = self.slots.applied(slot(3)).0.next();
        self.slots.apply(&Frame {
            header: entry(index, time_ns, bytes.len()),
            payload: &bytes,
            position: Position::new(SegmentId::new(1), 64),
        })
    }
}

fn entry(index: FrameIndex, base_timestamp_ns: u64, len: usize) -> FrameHeader {
    FrameHeader {
        payload_len: u32::try_from(len).unwrap(),
        kind: FrameKind::Entry,
        flags: 0,
        slot: Some(slot(3)),
        record_count: 1,
        term: Term::new(1),
        index,
        base_timestamp_ns,
        synced_through: Position::default(),
        payload_checksum: 0,
    }
}

fn head(kind: RecordKind, channel: u32, sequence: u64) -> RecordHead {
    RecordHead {
        kind,
        encoding: 0,
        channel: ChannelId::new(channel),
        sequence: Sequence::new(sequence),
        time_delta_ns: 0,
        payload_len: 0,
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of all cases")]
fn what_does_not_follow_from_the_state_stops_the_slot() {
    let create = |name: &str| {
        let mut bytes = Vec::new();
        ChannelCreate { kind: 1, name }.encode(&mut bytes);
        bytes
    };
    let cursor = |number, name: &str| {
        let mut bytes = Vec::new();
        let cursor = CursorId::new(number);
        CursorCreate {
            cursor,
            owner: 1,
            name,
        }
        .encode(&mut bytes);
        bytes
    };
    let moves = |number, to| {
        let mut bytes = Vec::new();
        payload::encode_moves(&[(CursorId::new(number), Sequence::new(to))], &mut bytes);
        bytes
    };
    let delete = |number| {
        let mut bytes = Vec::new();
        payload::encode_cursor_delete(CursorId::new(number), &mut bytes);
        bytes
    };
    let long = "x".repeat(2000);
    // The state: channel 1 "orders" with messages 1 and 2, and position 1 "reader"; time 10.
    let forged = [
        (
            head(RecordKind::Message, 1, 2),
            vec![],
            "message 2 of channel 1 where 3 comes next",
        ),
        (
            head(RecordKind::Message, 1, 4),
            vec![],
            "message 4 of channel 1 where 3 comes next",
        ),
        (
            head(RecordKind::Message, 2, 1),
            vec![],
            "channel 2 is not there",
        ),
        (
            head(RecordKind::Trim, 1, 3),
            vec![],
            "3 lies behind the last message 2",
        ),
        (
            head(RecordKind::Trim, 7, 1),
            vec![],
            "channel 7 is not there",
        ),
        (
            head(RecordKind::ChannelDelete, 2, 0),
            vec![],
            "channel 2 is not there",
        ),
        (
            head(RecordKind::ChannelCreate, 2, 0),
            create("orders"),
            "or its name is taken",
        ),
        (
            head(RecordKind::ChannelCreate, 3, 0),
            create("new"),
            "channel 3 where 2 comes next",
        ),
        (
            head(RecordKind::ChannelCreate, 1, 0),
            create("new"),
            "channel 1 where 2 comes next",
        ),
        (
            head(RecordKind::ChannelCreate, 2, 0),
            create(""),
            "a name of 0 bytes",
        ),
        (
            head(RecordKind::ChannelCreate, 2, 0),
            create(&long),
            "a name of 2000 bytes",
        ),
        (
            head(RecordKind::ChannelCreate, 2, 0),
            vec![1],
            "does not have the form",
        ),
        (
            head(RecordKind::ChannelCreate, 2, 0),
            vec![9; 9],
            "does not have the form",
        ),
        (
            head(RecordKind::CursorCreate, 1, 0),
            cursor(2, "reader"),
            "or its name is taken",
        ),
        (
            head(RecordKind::CursorCreate, 1, 0),
            cursor(1, "new"),
            "position 1 where 2 comes next",
        ),
        (
            head(RecordKind::CursorCreate, 1, 3),
            cursor(2, "new"),
            "3 lies behind the last",
        ),
        (
            head(RecordKind::CursorCreate, 2, 0),
            cursor(2, "new"),
            "channel 2 is not there",
        ),
        (
            head(RecordKind::CursorMove, 0, 0),
            moves(2, 1),
            "position 2 is not there",
        ),
        (
            head(RecordKind::CursorMove, 0, 0),
            moves(1, 3),
            "3 lies behind the last message 2",
        ),
        (
            head(RecordKind::CursorMove, 0, 0),
            vec![1],
            "does not have the form",
        ),
        (
            head(RecordKind::CursorDelete, 0, 0),
            delete(2),
            "position 2 is not there",
        ),
    ];
    for (head, payload, reason) in forged {
        let mut broker = Fixture::new();
        let key = broker.send("orders", 10).key;
        broker.send("orders", 10);
        broker.cursor(key, "reader", 0, 10);
        broker.commit();
        let found = broker.forge(head, &payload, 10).unwrap_err();
        assert!(found.reason.contains(reason), "{head:?}: {found}");
        assert_eq!(found.slot, slot(3));
    }
}

/// The state: queue 1 with messages 1 to 3 of which 2 is gone, and events store 2; time 10.
fn with_queue() -> Fixture {
    let mut broker = Fixture::new();
    let moved = Sent {
        moved: Some(move_id(5, 6, 7)),
        ..Sent::default()
    };
    let key = broker.queue_message("jobs", moved, 10).key;
    broker.queue_message("jobs", Sent::default(), 10);
    broker.queue_message("jobs", Sent::default(), 10);
    broker.settle(key, SettleReason::Acked, 32, &[(2, 2)], 10);
    broker.send("orders", 10);
    broker.commit();
    broker
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of all cases")]
fn what_does_not_follow_from_the_state_of_a_queue_stops_the_slot() {
    let settle = |of: &[(u64, u64)]| {
        let mut bytes = Vec::new();
        queue::encode_settle(0, &runs(of), &mut bytes);
        bytes
    };
    let requeue = |old, receives| {
        let mut bytes = Vec::new();
        let old = Sequence::new(old);
        queue::encode_requeued(&[Requeued { old, receives }], &mut bytes);
        bytes
    };
    let count = |first, count| {
        let mut bytes = Vec::new();
        let counted = Counted {
            first: Sequence::new(first),
            count,
            receives: 1,
        };
        queue::encode_counted(&[counted], &mut bytes);
        bytes
    };
    let moves = |reason, target: &str| {
        let mut bytes = Vec::new();
        queue::encode_move(reason, target, &mut bytes);
        bytes
    };
    let encoded = |kind, channel, sequence, encoding| RecordHead {
        encoding,
        ..head(kind, channel, sequence)
    };
    let settled = |channel, floor| encoded(RecordKind::QueueSettle, channel, floor, 1);
    let message = Sent::default().payload();
    let mut unknown_reason = Sent {
        moved: Some(move_id(5, 6, 8)),
        ..Sent::default()
    }
    .payload();
    unknown_reason[25] = 9;
    let again = Sent {
        moved: Some(move_id(5, 6, 7)),
        ..Sent::default()
    };
    let kinds = [
        RecordKind::QueueRequeue,
        RecordKind::QueueCount,
        RecordKind::QueueMoveCancel,
    ];
    let mut forged = vec![
        (
            head(RecordKind::Message, 1, 4),
            vec![1; 9],
            "does not have the form",
        ),
        (
            head(RecordKind::Message, 1, 5),
            message,
            "where 4 comes next",
        ),
        (
            head(RecordKind::Message, 1, 4),
            again.payload(),
            "was moved here before",
        ),
        (
            head(RecordKind::Message, 1, 4),
            unknown_reason,
            "unknown number 9",
        ),
        (
            head(RecordKind::Trim, 1, 1),
            vec![],
            "needs messages up to 1",
        ),
        (settled(1, 0), vec![1], "does not have the form"),
        (
            settled(1, 0),
            settle(&[(4, 4)]),
            "4 lies behind the last message 3",
        ),
        (
            settled(1, 0),
            settle(&[(1, 9)]),
            "9 lies behind the last message 3",
        ),
        (settled(1, 1), settle(&[(3, 3)]), "needs messages up to 1"),
        (
            settled(1, 4),
            settle(&[(1, 3)]),
            "4 lies behind the last message 3",
        ),
        (
            encoded(RecordKind::QueueSettle, 1, 0, 0),
            settle(&[]),
            "unknown number 0",
        ),
        (
            encoded(RecordKind::QueueSettle, 1, 0, 9),
            settle(&[]),
            "unknown number 9",
        ),
        (settled(2, 0), settle(&[]), "channel 2 is of another kind"),
        (settled(3, 0), settle(&[]), "channel 3 is not there"),
        (
            head(RecordKind::QueueRequeue, 1, 4),
            vec![1],
            "does not have the form",
        ),
        (
            head(RecordKind::QueueRequeue, 1, 5),
            requeue(1, 1),
            "where 4 comes next",
        ),
        (
            head(RecordKind::QueueRequeue, 1, 3),
            requeue(1, 1),
            "where 4 comes next",
        ),
        (
            head(RecordKind::QueueRequeue, 1, 4),
            requeue(4, 1),
            "4 lies behind",
        ),
        (
            head(RecordKind::QueueCount, 1, 0),
            vec![1],
            "does not have the form",
        ),
        (
            head(RecordKind::QueueCount, 1, 0),
            count(3, 2),
            "4 lies behind",
        ),
        (
            head(RecordKind::QueueMove, 1, 1),
            vec![1],
            "does not have the form",
        ),
        (
            head(RecordKind::QueueMove, 1, 4),
            moves(1, "dead"),
            "4 lies behind",
        ),
        (
            head(RecordKind::QueueMove, 1, 1),
            moves(0, "dead"),
            "unknown number 0",
        ),
        (
            head(RecordKind::QueueMove, 1, 1),
            moves(1, ""),
            "a name of 0 bytes",
        ),
        (
            head(RecordKind::QueueMove, 2, 1),
            moves(1, "dead"),
            "of another kind",
        ),
        (
            head(RecordKind::QueueMoveCancel, 1, 4),
            vec![],
            "4 lies behind",
        ),
        (
            head(RecordKind::QueueMoveForget, 0, 0),
            vec![1],
            "does not have the form",
        ),
    ];
    for kind in kinds {
        forged.push((head(kind, 2, 1), vec![], "channel 2 is of another kind"));
        forged.push((head(kind, 3, 1), vec![], "channel 3 is not there"));
    }
    for (head, payload, reason) in forged {
        let found = with_queue().forge(head, &payload, 10).unwrap_err();
        assert!(found.reason.contains(reason), "{head:?}: {found}");
    }
}

#[test]
fn a_name_in_the_register_has_no_messages() {
    let mut broker = Fixture::new();
    let mut create = Vec::new();
    let name = "news";
    ChannelCreate { kind: 3, name }.encode(&mut create);
    let created = head(RecordKind::ChannelCreate, 1, 0);
    broker.forge(created, &create, 10).unwrap();
    let found = broker.forge(head(RecordKind::Message, 1, 1), b"", 10);
    assert!(found.unwrap_err().reason.contains("of another kind"));
}

#[test]
fn what_is_absent_from_a_queue_is_ignored() {
    let mut broker = with_queue();
    let mut bytes = Vec::new();
    queue::encode_settle(0, &runs(&[(2, 2)]), &mut bytes);
    let absent = RecordHead {
        encoding: 1,
        ..head(RecordKind::QueueSettle, 1, 0)
    };
    broker.forge(absent, &bytes, 10).unwrap();
    let of = ringmq_storage::ChannelKey {
        slot: slot(3),
        channel: ChannelId::new(1),
    };
    let queue = broker.slots.queue(of).unwrap();
    assert_eq!((queue.len(), queue.counters().acked), (2, 1));
}

#[test]
fn frames_that_do_not_follow_stop_the_slot() {
    let state = || {
        let mut broker = Fixture::new();
        broker.send("orders", 10);
        broker.commit();
        broker
    };
    let message = head(RecordKind::Message, 1, 2).encode();
    let index = state().slots.applied(slot(3)).0;
    let good = entry(index.next(), 10, message.len());
    let apply = |header: FrameHeader, payload: &[u8]| {
        let position = Position::default();
        state().slots.apply(&Frame {
            header,
            payload,
            position,
        })
    };
    let reason = |header: FrameHeader, payload: &[u8]| apply(header, payload).unwrap_err().reason;
    assert_eq!(apply(good, &message), Ok(()));
    assert!(reason(FrameHeader { index, ..good }, &message).contains("does not follow"));
    let index = index.next().next();
    assert!(reason(FrameHeader { index, ..good }, &message).contains("does not follow"));
    let early = FrameHeader {
        base_timestamp_ns: 9,
        ..good
    };
    assert!(reason(early, &message).contains("time 9 lies before 10"));
    let two = FrameHeader {
        record_count: 2,
        ..good
    };
    assert!(reason(two, &message).contains("1 records where 2 were announced"));
    assert!(reason(good, &message[..31]).contains("cut short"));
    let carried = FrameHeader {
        kind: FrameKind::Carried,
        ..good
    };
    assert!(reason(carried, &message).contains("changes no state"));
    let foreign = FrameHeader {
        slot: Some(slot(4)),
        ..good
    };
    assert!(reason(foreign, &message).contains("another log"));
}

#[test]
fn a_frame_without_records_counts() {
    let mut broker = Fixture::new();
    let header = FrameHeader {
        kind: FrameKind::NoOp,
        record_count: 0,
        ..entry(FrameIndex::new(1), 10, 0)
    };
    let position = Position::default();
    let payload = &[];
    let applied = broker.slots.apply(&Frame {
        header,
        payload,
        position,
    });
    assert_eq!(applied, Ok(()));
    assert_eq!(broker.slots.applied(slot(3)).0, FrameIndex::new(1));
}
