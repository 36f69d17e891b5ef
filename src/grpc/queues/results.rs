//! The results of one batch or upstream request, in the order of its messages.

use std::borrow::Cow;

use bytes::BytesMut;

use super::send::Checked;
use crate::grpc::codec::queue::{SendFacts, result_as_field, results_of};
use crate::grpc::routed::{Fate, Handed};

/// Results, written when the messages are handed over, as the successes that they will nearly
/// always be. Only for what a log did not take they are written anew.
#[derive(Debug, Default)]
pub(super) struct Results {
    fields: BytesMut,
    entries: Vec<Entry>,
    /// How many entries from the front were looked at for receipts.
    settled: usize,
    waiting_count: usize,
    waiting_bytes: usize,
    /// What the logs did not take: places, ascending, and why.
    failed: Vec<(usize, Cow<'static, str>)>,
    have_errors: bool,
}

#[derive(Debug)]
enum Entry {
    Refused,
    /// It waits for its receipt, or has had it; so many bytes in the log.
    HandedOver(usize),
    /// It went to a route and waits for several receipts, or has had them.
    Routed(Box<Fate>, usize),
}

impl Results {
    /// Adds the result of a message that was handed over.
    pub(super) fn handed_over(&mut self, message: &Checked<'_>) {
        self.wait(message.message_id(), message.facts(), message.stored_len());
    }

    pub(super) fn wait(&mut self, message_id: &str, facts: SendFacts, stored_len: usize) {
        result_as_field(message_id, Ok(facts), &mut self.fields);
        self.entries.push(Entry::HandedOver(stored_len));
        self.waiting_count += 1;
        self.waiting_bytes += stored_len;
    }

    /// Adds the result of a message that was handed over to a route.
    pub(super) fn routed(&mut self, handed: Handed) {
        let Handed {
            id,
            facts,
            fate,
            bytes,
        } = handed;
        if fate.awaited() == 0 {
            return self.refused(&id, &fate.failure().unwrap_or_default());
        }
        result_as_field(&id, Ok(facts), &mut self.fields);
        self.waiting_count += fate.awaited();
        self.waiting_bytes += bytes;
        self.entries.push(Entry::Routed(Box::new(fate), bytes));
    }

    /// Adds the result of a message that was refused.
    pub(super) fn refused(&mut self, message_id: &str, error: &str) {
        result_as_field(message_id, Err(error), &mut self.fields);
        self.entries.push(Entry::Refused);
        self.have_errors = true;
    }

    /// Takes the next receipt: of the first message that still waits.
    pub(super) fn receipt(&mut self, mut outcome: Result<(), Cow<'static, str>>) {
        let place = loop {
            let place = self.settled;
            self.settled += 1;
            match self.entries.get_mut(place) {
                Some(Entry::Refused) => {}
                Some(Entry::HandedOver(bytes)) => {
                    self.waiting_bytes -= *bytes;
                    break place;
                }
                Some(Entry::Routed(fate, bytes)) => {
                    fate.outcome(outcome);
                    if fate.awaited() > 0 {
                        // Its next receipt comes here too.
                        self.settled = place;
                        self.waiting_count -= 1;
                        return;
                    }
                    self.waiting_bytes -= *bytes;
                    outcome = fate.failure().map_or(Ok(()), |failure| Err(failure.into()));
                    break place;
                }
                None => {
                    debug_assert!(false, "more receipts than messages that wait");
                    return;
                }
            }
        };
        self.waiting_count -= 1;
        if let Err(error) = outcome {
            self.failed.push((place, error));
            self.have_errors = true;
        }
    }

    /// Receipts that are outstanding.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    /// Bytes of these messages, as they are stored.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Bytes of the results.
    pub(super) fn bytes(&self) -> usize {
        self.fields.len()
    }

    /// Whether any message was refused, or not stored.
    pub(super) fn have_errors(&self) -> bool {
        self.have_errors
    }

    /// The results as fields of the answer. No message waits any more.
    pub(super) fn into_fields(self) -> BytesMut {
        debug_assert_eq!(self.waiting_count, 0);
        if self.failed.is_empty() {
            return self.fields;
        }
        let mut fields = BytesMut::with_capacity(self.fields.len());
        let mut failed = self.failed.iter().peekable();
        for (place, (field, message_id)) in results_of(&self.fields).enumerate() {
            match failed.next_if(|(failed, _)| *failed == place) {
                Some((_, error)) => result_as_field(message_id, Err(error), &mut fields),
                None => fields.extend_from_slice(field),
            }
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ringmq_proto::kubemq::{QueueMessagesBatchResponse, SendQueueMessageResult};

    use super::*;

    const FACTS: SendFacts = SendFacts {
        sent_at_ns: 7,
        expires_at_ns: 8,
        visible_at_ns: 9,
    };

    fn success(id: &str) -> SendQueueMessageResult {
        SendQueueMessageResult {
            message_id: id.into(),
            sent_at: 7,
            expiration_at: 8,
            delayed_to: 9,
            ..SendQueueMessageResult::default()
        }
    }

    fn failure(id: &str, error: &str) -> SendQueueMessageResult {
        SendQueueMessageResult {
            message_id: id.into(),
            is_error: true,
            error: error.into(),
            ..SendQueueMessageResult::default()
        }
    }

    fn decoded(results: Results) -> Vec<SendQueueMessageResult> {
        let fields = results.into_fields();
        QueueMessagesBatchResponse::decode(fields).unwrap().results
    }

    #[test]
    fn results_keep_the_order_of_the_messages() {
        let mut results = Results::default();
        results.wait("a", FACTS, 10);
        results.refused("b", "bad");
        results.refused("", "worse");
        results.wait("d", FACTS, 20);
        assert_eq!((results.waiting_count(), results.waiting_bytes()), (2, 30));
        assert!(results.have_errors());
        results.receipt(Ok(()));
        assert_eq!((results.waiting_count(), results.waiting_bytes()), (1, 20));
        results.receipt(Ok(()));
        let expected = [
            success("a"),
            failure("b", "bad"),
            failure("", "worse"),
            success("d"),
        ];
        assert_eq!(decoded(results), expected);
    }

    #[test]
    fn what_a_log_did_not_take_is_told_in_its_place_with_its_id() {
        let mut results = Results::default();
        let ids = ["a", "", "c", "d", "e"];
        for id in ids {
            results.wait(id, FACTS, 1);
        }
        assert!(!results.have_errors());
        for full in [false, true, true, false, true] {
            results.receipt(if full { Err("full".into()) } else { Ok(()) });
        }
        assert!(results.have_errors());
        let expected = [
            success("a"),
            failure("", "full"),
            failure("c", "full"),
            success("d"),
            failure("e", "full"),
        ];
        assert_eq!(decoded(results), expected);
    }

    #[test]
    fn receipts_may_come_while_messages_are_still_handed_over() {
        let mut results = Results::default();
        results.wait("a", FACTS, 1);
        results.receipt(Err("full".into()));
        results.refused("b", "bad");
        results.wait("c", FACTS, 1);
        results.receipt(Ok(()));
        let expected = [failure("a", "full"), failure("b", "bad"), success("c")];
        assert_eq!(decoded(results), expected);
    }
}
