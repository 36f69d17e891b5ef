//! Payloads of records of queues that nobody has written.

use ringmq_storage::record::payload::BadPayload;
use ringmq_storage::record::queue::{
    QueueHead, decode_counted, decode_move, decode_move_ids, decode_requeued, decode_settle,
};

use crate::sample;

/// A head with one field changed.
fn queue_head(at: usize, byte: u8) -> Result<(), BadPayload> {
    let payload = &sample::queue_payloads()[1].4;
    let mut changed = payload.clone();
    changed[at] = byte;
    QueueHead::decode(&changed).map(drop)
}

#[test]
fn malformed_heads_of_messages_are_refused() {
    assert_eq!(queue_head(24, 7), Ok(()), "as it was");
    for (at, byte, what) in [
        (16, 0, "it could never be received"),
        (20, 255, "a name that is longer than all"),
        (24, 3, "a reason without a move"),
        (24, 15, "an unknown flag"),
        (26, 1, "reserved"),
        (28, 1, "reserved"),
        (33, 255, "no slot"),
        (34, 1, "reserved"),
        (50, 0xff, "no UTF-8"),
    ] {
        assert_eq!(queue_head(at, byte), Err(BadPayload), "{what}");
    }
    let payload = &sample::queue_payloads()[1].4;
    for len in 0..55 {
        assert_eq!(
            QueueHead::decode(&payload[..len]).map(drop),
            Err(BadPayload),
            "{len}"
        );
    }
}

#[test]
fn malformed_payloads_of_queues_are_refused() {
    let entry = |first: u64, second: u64| {
        let mut entry = first.to_le_bytes().to_vec();
        entry.extend_from_slice(&second.to_le_bytes());
        entry
    };
    let settle = |first, last| [vec![0; 8], entry(first, last)].concat();
    assert!(decode_settle(&settle(3, 3)).is_ok());
    assert!(decode_settle(&settle(4, 3)).is_err(), "backwards");
    assert!(decode_settle(&settle(0, 3)).is_err(), "no sequence");
    assert!(decode_settle(&[0; 7]).is_err());
    assert!(decode_settle(&[1; 8 + 15]).is_err());
    assert!(decode_requeued(&entry(3, 1)).is_ok());
    assert!(decode_requeued(&entry(3, 1 << 32)).is_err(), "reserved");
    assert!(decode_requeued(&[0; 17]).is_err());
    assert!(decode_counted(&entry(3, 2)).is_ok());
    assert!(decode_counted(&entry(3, 2 << 32)).is_err(), "no messages");
    assert!(
        decode_counted(&entry(u64::MAX, 2)).is_err(),
        "beyond all sequences"
    );
    assert!(decode_counted(&[1; 15]).is_err());
    assert_eq!(decode_move(&[1, 0, 0, 0, 0, 0, 0, 0]), Ok((1, "")));
    assert_eq!(decode_move(&[1; 8]), Err(BadPayload), "reserved");
    assert_eq!(decode_move(&[1, 0, 0, 0, 0, 0, 0]), Err(BadPayload));
    assert_eq!(
        decode_move(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff]),
        Err(BadPayload)
    );
    assert!(decode_move_ids(&entry(1 << 32 | 63, 9)).is_ok());
    assert!(decode_move_ids(&entry(1 << 32 | 64, 9)).is_err(), "no slot");
    assert!(decode_move_ids(&entry(1 << 16, 9)).is_err(), "reserved");
    assert!(decode_move_ids(&[0; 8]).is_err());
    // One entry that is none spoils all: nothing of them is applied.
    let half = [settle(1, 1), entry(5, 4)].concat();
    assert!(decode_settle(&half).is_err());
}
