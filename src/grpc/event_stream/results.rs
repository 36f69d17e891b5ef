//! The results of a publish stream, in the order of its events.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::grpc::codec::event::{EventView, event_result_frame};
use crate::grpc::routed::Fate;
use crate::wire::framing::PREFIX_BYTES;

/// Stored events of one stream that may wait for their receipts; then it is not read on.
const WAITING_MAX: usize = 4096;

/// Bytes of these events, as they are stored; a single larger one passes alone.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Bytes of results, of events that wait and of those that wait for the client to read them. A
/// client that reads none is not read from any further.
const RESULT_BYTES_MAX: usize = 256 << 10;

/// Results that were not sent yet.
///
/// The result of a stored event is encoded when the event is handed over, as the success that it
/// will nearly always be. A receipt then only moves a mark; of a failure the result is written
/// anew, with the id from the success.
///
/// ```text
///   done            frames
///   ├── may go ──┤  ├── ready_bytes ──┤── entries: wait, or stand behind one that waits ──┤
/// ```
#[derive(Debug, Default)]
pub(super) struct Results {
    done: BytesMut,
    frames: BytesMut,
    ready_bytes: usize,
    /// INVARIANT: the first one waits; their bytes are those of `frames` behind `ready_bytes`.
    entries: VecDeque<Entry>,
    waiting_count: usize,
    waiting_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    result_bytes: usize,
    /// Of the event, while its result waits.
    stored_bytes: Option<usize>,
    /// Of an event that went to a route: it waits for several receipts.
    routed: Option<Box<RoutedEntry>>,
}

#[derive(Debug)]
struct RoutedEntry {
    fate: Fate,
    /// A plain event has a result only when a target has not taken it.
    silent: bool,
}

impl Results {
    /// Adds the result of an event that is being stored, `stored_bytes` long.
    pub(super) fn wait(&mut self, event_id: &str, stored_bytes: usize) {
        let result_bytes = self.write(event_id, true, "");
        self.entries.push_back(Entry {
            result_bytes,
            stored_bytes: Some(stored_bytes),
            routed: None,
        });
        self.waiting_count += 1;
        self.waiting_bytes += stored_bytes;
    }

    /// Adds the result of an event that went to a route and of which copies are being stored.
    /// When it is `silent`, only a failure is told.
    pub(super) fn wait_routed(&mut self, event_id: &str, bytes: usize, silent: bool, fate: Fate) {
        let (copies, result_bytes) = (fate.awaited(), self.write(event_id, true, ""));
        debug_assert!(copies > 0, "a routed event that waits for nothing");
        let stored_bytes = bytes.saturating_mul(copies);
        self.entries.push_back(Entry {
            result_bytes,
            stored_bytes: Some(stored_bytes),
            routed: Some(Box::new(RoutedEntry { fate, silent })),
        });
        self.waiting_count += copies;
        self.waiting_bytes = self.waiting_bytes.saturating_add(stored_bytes);
    }

    /// The copies of the oldest event that waits, when it went to a route.
    pub(super) fn routed_front(&mut self) -> Option<&mut Fate> {
        let entry = self.entries.front_mut()?.routed.as_mut()?;
        Some(&mut entry.fate)
    }

    /// One of these copies has had its receipt; the last one makes the result.
    pub(super) fn copy_settled(&mut self) {
        if self.routed_front().is_some_and(|fate| fate.awaited() > 0) {
            self.waiting_count = self.waiting_count.saturating_sub(1);
            return;
        }
        let Some(mut entry) = self.take_first() else {
            return;
        };
        let routed = entry.routed.take();
        let (failure, silent) = routed.map_or((None, false), |routed| {
            (routed.fate.failure(), routed.silent)
        });
        match failure {
            Some(failure) => self.write_anew(&entry, &failure),
            None if silent => {
                self.gather_done();
                drop(self.frames.split_to(entry.result_bytes));
            }
            None => self.ready_bytes += entry.result_bytes,
        }
        self.pass_settled();
    }

    /// Adds the result of an event that was refused at once.
    pub(super) fn refuse(&mut self, event_id: &str, error: &str) {
        let result_bytes = self.write(event_id, false, error);
        self.settled(result_bytes);
    }

    /// Adds the result of an event that was taken and is not stored.
    pub(super) fn taken(&mut self, event_id: &str) {
        let result_bytes = self.write(event_id, true, "");
        self.settled(result_bytes);
    }

    /// A result that waits for nothing was written: it keeps its place behind those that do.
    fn settled(&mut self, result_bytes: usize) {
        if self.entries.is_empty() {
            self.ready_bytes += result_bytes;
        } else {
            self.entries.push_back(Entry {
                result_bytes,
                stored_bytes: None,
                routed: None,
            });
        }
    }

    /// The oldest event that waits is stored.
    pub(super) fn stored(&mut self) {
        if let Some(entry) = self.take_first() {
            self.ready_bytes += entry.result_bytes;
            self.pass_settled();
        }
    }

    /// The oldest event that waits is not stored.
    pub(super) fn not_stored(&mut self, error: &str) {
        if let Some(entry) = self.take_first() {
            self.write_anew(&entry, error);
            self.pass_settled();
        }
    }

    /// Writes a failure in place of the success that an entry was given.
    fn write_anew(&mut self, entry: &Entry, error: &str) {
        self.gather_done();
        let success = self.frames.split_to(entry.result_bytes);
        let message = success.get(PREFIX_BYTES..).unwrap_or_default();
        let event_id = EventView::event_id_of(message).unwrap_or_default();
        event_result_frame(event_id, false, error, &mut self.done);
    }

    /// Whether any receipt is outstanding.
    pub(super) fn are_waiting(&self) -> bool {
        self.waiting_count > 0
    }

    /// How many do.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    /// Whether no more events are to be taken for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting_count >= WAITING_MAX
            || self.waiting_bytes >= WAITING_BYTES_MAX
            || self.done.len() + self.frames.len() >= RESULT_BYTES_MAX
    }

    /// Whether everything was sent.
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.frames.is_empty()
    }

    /// Bytes that may go out.
    pub(super) fn ready_bytes(&self) -> usize {
        self.done.len() + self.ready_bytes
    }

    /// Takes up to `count` bytes of what may go out.
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        self.gather_done();
        let count = count.min(self.done.len());
        self.done.split_to(count).freeze()
    }

    fn write(&mut self, event_id: &str, sent: bool, error: &str) -> usize {
        let before = self.frames.len();
        event_result_frame(event_id, sent, error, &mut self.frames);
        self.frames.len() - before
    }

    fn take_first(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front();
        debug_assert!(entry.is_some(), "more receipts than events that wait");
        let entry = entry?;
        debug_assert!(entry.stored_bytes.is_some(), "the first one waits");
        self.waiting_count = self.waiting_count.saturating_sub(1);
        let stored_bytes = entry.stored_bytes.unwrap_or_default();
        self.waiting_bytes = self.waiting_bytes.saturating_sub(stored_bytes);
        Some(entry)
    }

    /// Lets go what stood behind the one that waited.
    fn pass_settled(&mut self) {
        while let Some(Entry {
            result_bytes,
            stored_bytes: None,
            ..
        }) = self.entries.front()
        {
            self.ready_bytes += result_bytes;
            self.entries.pop_front();
        }
        debug_assert!(self.ready_bytes <= self.frames.len());
    }

    fn gather_done(&mut self) {
        if self.ready_bytes > 0 {
            // Both are pieces of one buffer nearly always; then nothing is copied.
            self.done.unsplit(self.frames.split_to(self.ready_bytes));
            self.ready_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ringmq_proto::kubemq;

    use super::*;

    /// The results that may go out, as (id, sent, error).
    fn sent(results: &mut Results) -> Vec<(String, bool, String)> {
        let mut bytes = results.take(usize::MAX);
        assert_eq!(results.ready_bytes(), 0);
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let prefix = bytes.split_to(PREFIX_BYTES);
            let len = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            let message = bytes.split_to(len as usize);
            let result = kubemq::Result::decode(message).unwrap();
            found.push((result.event_id, result.sent, result.error));
        }
        found
    }

    fn success(id: &str) -> (String, bool, String) {
        (id.into(), true, String::new())
    }

    fn failure(id: &str, error: &str) -> (String, bool, String) {
        (id.into(), false, error.into())
    }

    #[test]
    fn a_refusal_waits_for_the_stored_events_before_it_and_for_no_others() {
        let mut results = Results::default();
        results.refuse("a", "bad");
        assert_eq!(sent(&mut results), [failure("a", "bad")]);
        results.wait("b", 10);
        results.refuse("c", "bad");
        results.refuse("d", "worse");
        results.wait("e", 10);
        results.refuse("f", "bad");
        assert_eq!(sent(&mut results), []);
        results.stored();
        let first = [success("b"), failure("c", "bad"), failure("d", "worse")];
        assert_eq!(sent(&mut results), first);
        assert_eq!(results.waiting_count(), 1);
        results.stored();
        assert_eq!(sent(&mut results), [success("e"), failure("f", "bad")]);
        assert!(results.is_empty());
        assert!(!results.are_waiting());
    }

    #[test]
    fn an_event_that_was_taken_keeps_its_place_as_a_refused_one_does() {
        let mut results = Results::default();
        results.taken("a");
        assert_eq!(sent(&mut results), [success("a")]);
        results.wait("b", 10);
        results.taken("c");
        results.refuse("d", "bad");
        assert_eq!(sent(&mut results), []);
        results.stored();
        let expected = [success("b"), success("c"), failure("d", "bad")];
        assert_eq!(sent(&mut results), expected);
    }

    #[test]
    fn a_failure_takes_the_place_and_the_id_of_the_success() {
        let mut results = Results::default();
        let ids = ["first", "", "third", "fourth"];
        for id in ids {
            results.wait(id, 1);
        }
        results.stored();
        results.not_stored("disk full");
        results.not_stored("disk full");
        results.stored();
        let expected = [
            success("first"),
            failure("", "disk full"),
            failure("third", "disk full"),
            success("fourth"),
        ];
        assert_eq!(sent(&mut results), expected);
        assert!(results.is_empty());
    }

    #[test]
    fn results_may_be_taken_in_pieces_while_others_come() {
        let mut results = Results::default();
        let mut taken = BytesMut::new();
        for number in 0..100 {
            results.wait(&format!("id-{number}"), 1);
            if number % 3 == 0 {
                results.refuse(&format!("bad-{number}"), "bad");
            }
            match number % 5 {
                0 => results.not_stored("no"),
                _ => results.stored(),
            }
            taken.extend_from_slice(&results.take(7));
        }
        taken.extend_from_slice(&results.take(usize::MAX));
        let mut whole = Results {
            done: taken,
            ..Results::default()
        };
        let sent = sent(&mut whole);
        assert_eq!(sent.len(), 134);
        let stored = sent.iter().filter(|(_, sent, _)| *sent).count();
        assert_eq!(stored, 80);
        let ids: Vec<_> = sent.iter().map(|(id, _, _)| id.as_str()).collect();
        assert_eq!(ids[..5], ["id-0", "bad-0", "id-1", "id-2", "id-3"]);
    }

    #[test]
    fn every_bound_stops_the_reading_and_a_receipt_lets_it_go_on() {
        let mut many = Results::default();
        (0..WAITING_MAX).for_each(|_| many.wait("", 1));
        assert!(many.is_full());
        many.stored();
        assert!(!many.is_full());
        let mut large = Results::default();
        large.wait("", WAITING_BYTES_MAX);
        assert!(large.is_full());
        large.stored();
        assert!(!large.is_full());
        let mut unread = Results::default();
        unread.refuse(&"x".repeat(RESULT_BYTES_MAX), "bad");
        assert!(unread.is_full());
        unread.take(usize::MAX);
        assert!(!unread.is_full());
    }
}
