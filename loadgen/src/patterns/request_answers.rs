//! What callers and responders get, read without decoding; and answers, written without encoding
//! what is the same in each: see [`super::fields`].

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use prost::Message;
use ringmq_proto::kubemq::Response;

use super::fields::{Fields, bytes, is_set, text};
use crate::payload::{Bodies, Stamp, put_varint};

/// Fields of an answer.
const REQUEST_ID_KEY: u8 = 2 << 3 | 2;
const REPLY_CHANNEL_KEY: u8 = 3 << 3 | 2;
const BODY_KEY: u8 = 5 << 3 | 2;

/// A request as a responder gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub id: &'a [u8],
    pub reply_channel: &'a [u8],
    pub body: &'a [u8],
}

impl<'a> Asked<'a> {
    /// Reads a request; `None`: this is none.
    pub(super) fn read(request: &'a [u8]) -> Option<Self> {
        let (mut id, mut reply_channel, mut body) = (&[][..], &[][..], &[][..]);
        let mut fields = Fields::of(request);
        for (number, value) in fields.by_ref() {
            match number {
                1 => id = bytes(value),
                6 => body = bytes(value),
                7 => reply_channel = bytes(value),
                _ => {}
            }
        }
        (!fields.is_broken()).then_some(Self {
            id,
            reply_channel,
            body,
        })
    }
}

/// Writes the answers of one responder.
#[derive(Debug)]
pub(super) struct AnswerFrames {
    /// The fields before what belongs to the request.
    before: Vec<u8>,
    /// The fields behind the body.
    after: Vec<u8>,
    /// None: commands are answered without data.
    bodies: Option<Bodies>,
}

impl AnswerFrames {
    pub(super) fn new(bodies: Option<Bodies>) -> Self {
        let before = Response {
            client_id: "loadgen-responder".into(),
            ..Response::default()
        };
        let after = Response {
            executed: true,
            ..Response::default()
        };
        Self {
            before: before.encode_to_vec(),
            after: after.encode_to_vec(),
            bodies,
        }
    }

    /// Appends the answer to a request; its body carries the request's stamp.
    pub(super) fn write(&mut self, asked: &Asked<'_>, stamp: &Stamp, out: &mut BytesMut) {
        out.put_slice(&self.before);
        put_field(REQUEST_ID_KEY, asked.id, out);
        put_field(REPLY_CHANNEL_KEY, asked.reply_channel, out);
        if let Some(bodies) = &mut self.bodies {
            let body_bytes = bodies.next_len();
            out.put_u8(BODY_KEY);
            put_varint(body_bytes, out);
            bodies.put(stamp, body_bytes, out);
        }
        out.put_slice(&self.after);
    }
}

fn put_field(key: u8, content: &[u8], out: &mut BytesMut) {
    out.put_u8(key);
    put_varint(content.len(), out);
    out.put_slice(content);
}

/// An answer as its caller gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    /// The request's.
    pub id: &'a [u8],
    pub body: &'a [u8],
    /// Why the request was not carried out.
    pub refusal: Option<Cow<'a, str>>,
}

impl<'a> Answer<'a> {
    /// Reads an answer; `None`: this is none.
    pub(super) fn read(answer: &'a [u8]) -> Option<Self> {
        let (mut id, mut body, mut executed) = (&[][..], &[][..], false);
        let mut reason = Cow::Borrowed("not executed");
        let mut fields = Fields::of(answer);
        for (number, value) in fields.by_ref() {
            match number {
                2 => id = bytes(value),
                5 => body = bytes(value),
                8 => executed = is_set(&value),
                9 => reason = text(value),
                _ => {}
            }
        }
        (!fields.is_broken()).then(|| Self {
            id,
            body,
            refusal: (!executed).then_some(reason),
        })
    }
}

#[cfg(test)]
mod tests {
    use ringmq_proto::kubemq::Request;

    use super::*;
    use crate::payload;
    use crate::scenario::Payload;

    const STAMP: Stamp = Stamp {
        run: 1,
        flow: 2,
        producer: 3,
        number: 4,
        intended_ns: 5,
    };

    fn answered(bodies: Option<Bodies>) -> Response {
        let request = Request {
            request_id: "a request".into(),
            reply_channel: "a reply channel".into(),
            body: "asked".into(),
            timeout: 1,
            ..Request::default()
        };
        let request = request.encode_to_vec();
        let asked = Asked::read(&request).unwrap();
        assert_eq!(asked.body, b"asked");
        let mut out = BytesMut::new();
        AnswerFrames::new(bodies).write(&asked, &STAMP, &mut out);
        Response::decode(out).unwrap()
    }

    #[test]
    fn an_answer_goes_where_the_request_says() {
        let answer = answered(None);
        assert_eq!(answer.request_id, "a request");
        assert_eq!(answer.reply_channel, "a reply channel");
        assert_eq!(answer.client_id, "loadgen-responder");
        assert!(answer.executed && answer.error.is_empty() && answer.body.is_empty());
    }

    #[test]
    fn an_answer_with_data_carries_the_stamp() {
        let answer = answered(Some(Bodies::new(&Payload::Fixed(300), 1, true)));
        assert_eq!(answer.body.len(), 300);
        assert_eq!(payload::read(&answer.body, true, 1), Ok(STAMP));
        let encoded = answer.encode_to_vec();
        let read = Answer::read(&encoded).unwrap();
        assert_eq!(read.id, b"a request");
        assert_eq!(read.body, &answer.body);
        assert_eq!(read.refusal, None);
    }

    #[test]
    fn what_was_not_executed_is_refused_with_its_reason() {
        let refused = |error: &str| {
            let response = Response {
                error: error.into(),
                ..Response::default()
            };
            let encoded = response.encode_to_vec();
            Answer::read(&encoded)
                .unwrap()
                .refusal
                .unwrap()
                .into_owned()
        };
        assert_eq!(refused("no money"), "no money");
        assert_eq!(refused(""), "not executed");
        assert_eq!(Answer::read(&[0x0A, 9]), None);
        assert_eq!(Asked::read(&[0x0A, 9]), None);
    }
}
