//! What has to hold for any bytes that a peer sends, or an operator hands over. As in `checks.rs`,
//! each function panics when something does not hold, and says whether the bytes meant anything.

use std::collections::HashMap;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use ringmq::config::{Config, Sources};
use ringmq::grpc::codec::context::{Sent, with_context};
use ringmq::grpc::codec::downstream::DownstreamView;
use ringmq::grpc::codec::event::{EventView, encode_event_receive, event_receive_len};
use ringmq::grpc::codec::queue::QueueMessageView;
use ringmq::grpc::codec::queue_stream::QueueStreamView;
use ringmq::grpc::codec::request::RequestView;
use ringmq::grpc::codec::response::ResponseView;
use ringmq::grpc::codec::sender::{Signed, sender_of, with_sender};
use ringmq::grpc::codec::validate::{validate_event, validate_request, validate_response};
use ringmq::grpc::codec::{management, subscribe};
use ringmq::routing::RoutingTable;
use ringmq::security::Credentials;
use ringmq::security::authentication::{
    Accepts, Algorithm, ApiKeys, Authenticator, Origin, Parties, Recognised, TokenKeys,
};
use ringmq::security::policy::Policy;
use ringmq::wire::framing::{Encoding, GatherLimit, MessageDecoder};

/// The key of the tokens.
pub const TOKEN_KEY: &[u8] = b"the key of the fuzzed tokens, 32 bytes and more";

/// When it is, in nanoseconds since 1970.
const NOW_NS: i64 = 1_800_000_000_000_000_000;

/// Longest message that the framing lets through here.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// A message of the contract, read as each of them.
pub fn contract(data: &[u8]) -> bool {
    let event = event(data);
    let queue = QueueMessageView::parse(data).is_ok();
    let request = RequestView::parse(data).is_ok_and(|request| {
        let _as_it_says = (request.timeout(), request.cache_lifetime());
        let _refused_or_not = validate_request(&request);
        let _asked_or_not = management::Operation::read(&request);
        true
    });
    let response = ResponseView::parse(data).is_ok_and(|response| {
        let _refused_or_not = validate_response(&response);
        true
    });
    let downstream = DownstreamView::parse(data).is_ok_and(|view| {
        assert!(view.sequences().count() <= data.len(), "a byte for each");
        true
    });
    let _what_is_left = (
        DownstreamView::remains(data),
        QueueStreamView::remains(data),
    );
    let others = QueueStreamView::parse(data).is_ok() | subscribe::decode(data).is_ok();
    for signed in [Signed::Request, Signed::Response, Signed::Other] {
        sender(data, signed);
    }
    for sent in [Sent::Event, Sent::Request, Sent::QueueMessage] {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let _with_it_or_not = with_context(data, sent, trace, "");
    }
    event | queue | request | response | downstream | others
}

fn event(data: &[u8]) -> bool {
    let Ok(event) = EventView::parse(data) else {
        return false;
    };
    let _refused_or_not = validate_event(&event);
    let id = EventView::event_id_of(data).unwrap_or_default();
    let mut out = BytesMut::new();
    encode_event_receive(&event, id, &mut out);
    assert_eq!(
        out.len(),
        event_receive_len(&event, id),
        "as long as was said"
    );
    true
}

/// Whoever is put in the place of the sender is the sender, for everybody.
fn sender(data: &[u8], signed: Signed) {
    if sender_of(data, signed).is_none() {
        return;
    }
    let forced = with_sender(data, signed, "forced");
    let found = sender_of(&forced, signed).expect("it could be decoded before");
    assert_eq!((found.client_id, found.once), ("forced", true));
}

/// Frames of gRPC in DATA that is cut anywhere, with and without gzip.
pub fn frames(data: &[u8]) -> bool {
    let (cut, data) = data
        .split_first()
        .map_or((7, data), |(cut, rest)| (usize::from(*cut), rest));
    let mut whole = 0;
    for encoding in [Encoding::Identity, Encoding::Gzip] {
        let limit = GatherLimit::new(2 * MESSAGE_BYTES_MAX);
        let mut decoder = MessageDecoder::new(MESSAGE_BYTES_MAX, Rc::clone(&limit), encoding);
        'chunks: for chunk in data.chunks(cut + 1) {
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next_message() {
                    Ok(Some(message)) => {
                        assert!(message.len() <= MESSAGE_BYTES_MAX, "the limit holds");
                        whole += 1;
                    }
                    Ok(None) if decoder.is_inflating() => {}
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(decoder.next_message(), Err(error), "for ever");
                        break 'chunks;
                    }
                }
                assert!(limit.held_bytes() <= 2 * MESSAGE_BYTES_MAX);
            }
        }
        drop(decoder);
        assert_eq!(limit.held_bytes(), 0, "nothing counts for what is gone");
    }
    whole > 0
}

/// A token: who is taken for somebody has shown the right signature.
pub fn token(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let keys = TokenKeys::one(Algorithm::HS256, TOKEN_KEY, Parties::default());
    let authenticator = Authenticator::new(Accepts {
        tokens: vec![keys.expect("a secret is any bytes").into()],
        ..Accepts::default()
    });
    let shown = Credentials {
        token: Some(&text),
        certificate: None,
    };
    let mut recognised = Recognised::default();
    let taken = authenticator
        .authenticate(&shown, NOW_NS, &mut recognised)
        .is_ok();
    if taken {
        let (signed, signature) = text.rsplit_once('.').expect("a token has three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("as was read");
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, TOKEN_KEY);
        ring::hmac::verify(&key, signed.as_bytes(), &signature).expect("signed with the key");
    }
    taken
}

/// Keys of tokens and API keys, as files have them.
pub fn keys(data: &[u8]) -> bool {
    let set = TokenKeys::set(data, Origin::Local, Parties::default()).is_ok();
    set | ApiKeys::parse(data).is_ok()
}

/// A policy, or a table of routes.
pub fn rules(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let policy = Policy::parse(&text, "fuzz", false).is_ok_and(|policy| {
        let _told = policy.warnings();
        true
    });
    policy | Policy::parse(&text, "fuzz", true).is_ok() | RoutingTable::parse(&text, true).is_ok()
}

/// A configuration, as the environment of a container has it.
pub fn configuration(data: &[u8]) -> bool {
    let environment = HashMap::from([("CONFIG".to_owned(), STANDARD.encode(data).into())]);
    let loaded = Config::load(&Sources {
        environment,
        ..Sources::default()
    });
    if let Err(error) = &loaded {
        assert!(!error.to_string().is_empty(), "a refusal says why");
    }
    loaded.is_ok()
}
