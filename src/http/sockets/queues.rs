//! Queues over sockets: the three streams of the contract.

use ringmq_proto::kubemq::{
    QueuesDownstreamRequest, QueuesDownstreamResponse, QueuesInfoRequest, QueuesUpstreamRequest,
    QueuesUpstreamResponse, StreamQueueMessagesRequest, StreamQueueMessagesResponse,
};

use super::pump::{Dialogue, Rules};
use crate::http::json;

/// One message, received and then settled. Clients know this socket: what it cannot read it has
/// always passed over.
pub(super) struct OneMessage;

impl Dialogue for OneMessage {
    type Said = StreamQueueMessagesRequest;
    type Told = StreamQueueMessagesResponse;
    const RULES: Rules = Rules {
        listens: true,
        answers_each: false,
        ends_in_order: true,
    };

    fn flaw(_frame: &[u8], _flaw: String) -> Option<StreamQueueMessagesResponse> {
        None
    }
}

/// Batches of messages in, results out.
pub(super) struct Upstream;

impl Dialogue for Upstream {
    type Said = QueuesUpstreamRequest;
    type Told = QueuesUpstreamResponse;
    const RULES: Rules = Rules {
        listens: true,
        answers_each: true,
        ends_in_order: true,
    };

    fn flaw(frame: &[u8], flaw: String) -> Option<QueuesUpstreamResponse> {
        Some(QueuesUpstreamResponse {
            ref_request_id: request_id(frame),
            is_error: true,
            error: flaw,
            ..QueuesUpstreamResponse::default()
        })
    }
}

/// Transactions: messages out, settlements in. A settlement that succeeds has no answer.
pub(super) struct Downstream;

impl Dialogue for Downstream {
    type Said = QueuesDownstreamRequest;
    type Told = QueuesDownstreamResponse;
    const RULES: Rules = Rules {
        listens: true,
        answers_each: false,
        ends_in_order: true,
    };

    fn flaw(frame: &[u8], flaw: String) -> Option<QueuesDownstreamResponse> {
        Some(QueuesDownstreamResponse {
            ref_request_id: request_id(frame),
            is_error: true,
            error: flaw,
            ..QueuesDownstreamResponse::default()
        })
    }
}

/// The id of a request that cannot be read as a whole, where it can be read.
fn request_id(frame: &[u8]) -> String {
    // Any message will do that has the id under this name and nothing else that requests have.
    let readable = json::decode::<QueuesInfoRequest>(frame);
    readable.map_or_else(|_| String::new(), |request| request.request_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_cannot_be_read_is_answered_under_its_id() {
        let frame = br#"{"RequestID":"r1","Messages":7}"#;
        let answer = Upstream::flaw(frame, "flaw".into()).unwrap();
        assert_eq!(
            (answer.ref_request_id.as_str(), answer.error.as_str()),
            ("r1", "flaw")
        );
        assert!(answer.is_error);
        let answer = Downstream::flaw(b"{", "flaw".into()).unwrap();
        assert!(answer.is_error && answer.ref_request_id.is_empty());
    }
}
