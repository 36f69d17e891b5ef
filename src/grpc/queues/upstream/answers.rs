//! The answers of an upstream, in the order of its requests.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::grpc::codec::queue::{upstream_refusal, upstream_response};
use crate::grpc::queues::results::Results;
use crate::grpc::queues::send::Checked;
use crate::grpc::routed::Handed;

/// Messages of one stream that may wait for their receipts; then no further request is taken.
const WAITING_MAX: usize = 4096;

/// Bytes of these messages, as they are stored; a single request may have more.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Requests that may wait for their answers.
const REQUESTS_MAX: usize = 4096;

/// Bytes of results, of messages that wait and of those that wait for the client to read them. A
/// client that reads none is not read from any further.
const RESULT_BYTES_MAX: usize = 256 << 10;

/// Answers that were not sent yet.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Frames that may go out.
    ready: BytesMut,
    /// INVARIANT: the first one waits for a receipt, or for more of its messages.
    requests: VecDeque<Request>,
    waiting_count: usize,
    waiting_bytes: usize,
    result_bytes: usize,
}

#[derive(Debug)]
struct Request {
    id: Box<str>,
    /// Why it was refused as a whole.
    refusal: Option<Box<str>>,
    results: Results,
    /// All its messages were handed over or refused.
    ended: bool,
}

impl Answers {
    /// Begins the answer to a request.
    pub(super) fn begin(&mut self, id: &str) {
        self.push(id, None);
    }

    /// Answers a request as a whole, with an error.
    pub(super) fn refuse(&mut self, id: &str, error: &str) {
        self.push(id, Some(error.into()));
        self.end();
    }

    fn push(&mut self, id: &str, refusal: Option<Box<str>>) {
        self.result_bytes += id.len();
        self.requests.push_back(Request {
            id: id.into(),
            refusal,
            results: Results::default(),
            ended: false,
        });
    }

    /// Adds a message of the request that was begun last.
    pub(super) fn handed_over(&mut self, message: &Checked<'_>) {
        self.add(|results| results.handed_over(message));
    }

    /// Adds a message of the request that was begun last, which went to a route.
    pub(super) fn routed(&mut self, handed: Handed) {
        self.add(|results| results.routed(handed));
    }

    /// Adds a message of the request that was begun last, which was refused.
    pub(super) fn refused(&mut self, message_id: &str, error: &str) {
        self.add(|results| results.refused(message_id, error));
    }

    fn add(&mut self, add: impl FnOnce(&mut Results)) {
        debug_assert!(self.requests.back().is_some_and(|request| !request.ended));
        if let Some(request) = self.requests.back_mut() {
            let results = &mut request.results;
            let before = (
                results.waiting_count(),
                results.waiting_bytes(),
                results.bytes(),
            );
            add(results);
            self.waiting_count += results.waiting_count() - before.0;
            self.waiting_bytes += results.waiting_bytes() - before.1;
            self.result_bytes += results.bytes() - before.2;
        }
    }

    /// The request that was begun last has no more messages.
    pub(super) fn end(&mut self) {
        if let Some(request) = self.requests.back_mut() {
            request.ended = true;
        }
        self.pass_done();
    }

    /// Takes the next receipt: of the first message that waits.
    pub(super) fn receipt(&mut self, outcome: Result<(), Cow<'static, str>>) {
        let first = self.requests.front_mut();
        debug_assert!(first.is_some(), "more receipts than messages that wait");
        if let Some(request) = first {
            let bytes_before = request.results.waiting_bytes();
            request.results.receipt(outcome);
            self.waiting_count -= 1;
            self.waiting_bytes -= bytes_before - request.results.waiting_bytes();
            self.pass_done();
        }
    }

    /// Makes frames of the requests at the front that are done.
    fn pass_done(&mut self) {
        let done = |request: &Request| request.ended && request.results.waiting_count() == 0;
        while self.requests.front().is_some_and(done) {
            let Some(request) = self.requests.pop_front() else {
                return;
            };
            self.result_bytes -= request.id.len() + request.results.bytes();
            match &request.refusal {
                Some(error) => upstream_refusal(&request.id, error, &mut self.ready),
                None => {
                    let fields = request.results.into_fields();
                    upstream_response(&request.id, &fields, &mut self.ready);
                }
            }
        }
    }

    /// Whether any message waits for its receipt.
    pub(super) fn are_waiting(&self) -> bool {
        self.waiting_count > 0
    }

    /// How many do.
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting_count
    }

    /// Whether no more requests are to be taken for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting_count >= WAITING_MAX
            || self.waiting_bytes >= WAITING_BYTES_MAX
            || self.requests.len() >= REQUESTS_MAX
            || self.ready.len() + self.result_bytes >= RESULT_BYTES_MAX
    }

    /// Whether everything was sent.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.requests.is_empty()
    }

    /// Bytes that may go out.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready.len()
    }

    /// Takes up to `count` bytes of what may go out.
    pub(super) fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.ready.len());
        self.ready.split_to(count).freeze()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use ringmq_proto::kubemq::QueuesUpstreamResponse;

    use super::*;
    use crate::grpc::codec::queue::SendFacts;
    use crate::wire::framing::PREFIX_BYTES;

    impl Answers {
        fn wait(&mut self, message_id: &str, stored_len: usize) {
            self.add(|results| results.wait(message_id, SendFacts::default(), stored_len));
        }
    }

    /// The answers that may go out, as (request, messages with their errors, error).
    fn sent(answers: &mut Answers) -> Vec<(String, Vec<String>, String)> {
        let mut bytes = answers.take(usize::MAX);
        assert_eq!(answers.ready_bytes(), 0);
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let prefix = bytes.split_to(PREFIX_BYTES);
            let len = u32::from_be_bytes(prefix[1..].try_into().unwrap());
            let message = bytes.split_to(len as usize);
            let answer = QueuesUpstreamResponse::decode(message).unwrap();
            let results = answer.results.iter();
            let results = results.map(|result| format!("{}{}", result.message_id, result.error));
            found.push((answer.ref_request_id, results.collect(), answer.error));
        }
        found
    }

    fn answer(id: &str, results: &[&str], error: &str) -> (String, Vec<String>, String) {
        let results = results.iter().map(|result| (*result).to_owned()).collect();
        (id.into(), results, error.into())
    }

    #[test]
    fn a_request_is_answered_when_all_its_messages_are_and_those_before_it() {
        let mut answers = Answers::default();
        answers.begin("first");
        answers.wait("a", 10);
        answers.refused("b", " bad");
        answers.wait("c", 10);
        answers.end();
        answers.refuse("second", "nothing to send");
        answers.begin("third");
        answers.refused("d", " bad");
        answers.end();
        answers.begin("fourth");
        answers.wait("e", 10);
        answers.receipt(Ok(()));
        assert_eq!(sent(&mut answers), []);
        answers.receipt(Err(" full".into()));
        let expected = [
            answer("first", &["a", "b bad", "c full"], ""),
            answer("second", &[], "nothing to send"),
            answer("third", &["d bad"], ""),
        ];
        assert_eq!(sent(&mut answers), expected);
        answers.receipt(Ok(()));
        assert!(!answers.are_waiting());
        assert_eq!(sent(&mut answers), [], "more of its messages may come");
        answers.end();
        assert_eq!(sent(&mut answers), [answer("fourth", &["e"], "")]);
        assert!(answers.is_empty());
        let left = (answers.waiting_bytes, answers.result_bytes);
        assert_eq!(left, (0, 0));
    }

    #[test]
    fn every_bound_stops_the_reading_and_a_receipt_lets_it_go_on() {
        let mut many = Answers::default();
        for _ in 0..WAITING_MAX {
            many.begin("");
            many.wait("", 1);
            many.end();
        }
        assert!(many.is_full());
        many.receipt(Ok(()));
        assert!(!many.is_full());
        let mut large = Answers::default();
        large.begin("");
        large.wait("", WAITING_BYTES_MAX);
        large.end();
        assert!(large.is_full());
        large.receipt(Ok(()));
        assert!(!large.is_full());
        let mut unread = Answers::default();
        unread.refuse(&"x".repeat(RESULT_BYTES_MAX), "bad");
        assert!(unread.is_full());
        unread.take(usize::MAX);
        assert!(!unread.is_full());
    }
}
