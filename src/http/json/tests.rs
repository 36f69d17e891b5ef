//! The rules of the text forms, message by message and with texts of every oddness.

mod bounds;

use bytes::Bytes;
use proptest::collection::{hash_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use ringmq_proto::FILE_DESCRIPTOR_SET;
use ringmq_proto::kubemq::{
    AckAllQueueMessagesRequest, AckAllQueueMessagesResponse, Empty, Event, EventReceive,
    PingResult, QueueInfo, QueueMessage, QueueMessageAttributes, QueueMessagePolicy,
    QueueMessagesBatchRequest, QueueMessagesBatchResponse, QueuesDownstreamRequest,
    QueuesDownstreamResponse, QueuesInfo, QueuesInfoRequest, QueuesInfoResponse,
    QueuesUpstreamRequest, QueuesUpstreamResponse, ReceiveQueueMessagesRequest,
    ReceiveQueueMessagesResponse, Request, Response, Result as EventResult, SendQueueMessageResult,
    StreamQueueMessagesRequest, StreamQueueMessagesResponse,
};

use super::{JsonError, JsonMessage, decode, encode, encode_indented, encoded_head, write_text};

fn event(text: &str) -> Event {
    decode(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal<M: JsonMessage>(text: impl AsRef<[u8]>) -> String {
    let text = text.as_ref();
    let decoded = decode::<M>(text);
    decoded
        .expect_err(&String::from_utf8_lossy(text))
        .to_string()
}

fn compact(message: &impl JsonMessage) -> String {
    let mut out = String::new();
    encode(message, &mut out);
    out
}

/// The table against the contract: numbers, names, order, and what is an enumeration.
fn assert_fields<M: JsonMessage>(set: &FileDescriptorSet) {
    let name = M::NAME.strip_prefix("kubemq.").unwrap();
    let mut messages = set.file.iter().flat_map(|file| &file.message_type);
    let of_contract = messages.find(|message| message.name() == name);
    let of_contract = of_contract.unwrap_or_else(|| panic!("{name}"));
    let theirs: Vec<_> = of_contract
        .field
        .iter()
        .map(|field| {
            let is_enumeration = field.r#type() == prost_types::field_descriptor_proto::Type::Enum;
            (field.number(), field.name(), is_enumeration)
        })
        .collect();
    let ours: Vec<_> = M::FIELDS
        .iter()
        .map(|field| {
            let number = i32::try_from(field.number).unwrap();
            (number, field.name, field.enumeration.is_some())
        })
        .collect();
    assert_eq!(ours, theirs, "{name}");
    assert!(ours.len() < 32, "{name}: a bit for each field");
}

#[test]
fn the_table_has_every_field_of_the_contract() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut count = 0;
    macro_rules! check {
        ($($message:ident)*) => {$(
            assert_fields::<$message>(&set);
            count += 1;
        )*};
    }
    check! {
        Empty PingResult EventResult Event EventReceive Request Response QueueMessage
        QueueMessagesBatchRequest QueueMessagesBatchResponse QueueMessageAttributes
        QueueMessagePolicy SendQueueMessageResult ReceiveQueueMessagesRequest
        ReceiveQueueMessagesResponse AckAllQueueMessagesRequest AckAllQueueMessagesResponse
        StreamQueueMessagesRequest StreamQueueMessagesResponse QueuesUpstreamRequest
        QueuesUpstreamResponse QueuesDownstreamRequest QueuesDownstreamResponse QueueInfo
        QueuesInfo QueuesInfoRequest QueuesInfoResponse
    }
    let kubemq = set.file.iter().find(|file| file.package() == "kubemq");
    // Subscriptions travel in the query string.
    assert_eq!(count + 1, kubemq.unwrap().message_type.len());
}

#[test]
fn an_event_is_read_field_by_field() {
    let event = event(
        r#" {"EventID":"e1", "ClientID":"c1","Channel":"a.b","Metadata":"m\n\"\u00e4\ud83d\ude00",
             "Body":"aGVsbG8=","Store":true,"Tags":{"k":"v","k2":null}} "#,
    );
    assert_eq!(event.event_id, "e1");
    assert_eq!(event.client_id, "c1");
    assert_eq!(event.channel, "a.b");
    assert_eq!(event.metadata, "m\n\"\u{e4}\u{1f600}");
    assert_eq!(event.body, "hello");
    assert!(event.store);
    assert_eq!(event.tags.get("k").map(String::as_str), Some("v"));
    assert_eq!(event.tags.get("k2").map(String::as_str), Some(""));
}

#[test]
fn names_match_in_any_case_and_unknown_ones_are_skipped() {
    let read = event(
        r#"{"eventid":"e","CLIENTID":"c","chAnnel":"x","extra":{"a":[1,2,{"b":"]"}]},"n":-1.5e+3}"#,
    );
    assert_eq!(
        (&*read.event_id, &*read.client_id, &*read.channel),
        ("e", "c", "x")
    );
}

#[test]
fn nothing_and_null_are_the_empty_message() {
    assert_eq!(event(""), Event::default());
    assert_eq!(event("null"), Event::default());
    assert_eq!(event("  {}\n"), Event::default());
    let nulls = r#"{"EventID":null,"Body":null,"Store":null,"Tags":null}"#;
    assert_eq!(event(nulls), Event::default());
    let batch: QueueMessagesBatchRequest = decode(br#"{"Messages":[null,{}]}"#).unwrap();
    assert_eq!(
        batch.messages,
        [QueueMessage::default(), QueueMessage::default()]
    );
}

#[test]
fn bodies_are_base64_or_lists_of_bytes() {
    assert_eq!(&event(r#"{"Body":[1, 2,255]}"#).body[..], [1, 2, 255]);
    assert!(event(r#"{"Body":[]}"#).body.is_empty());
    assert_eq!(&event(r#"{"Body":"AQL\/"}"#).body[..], [1, 2, 255]);
    assert_eq!(
        refusal::<Event>(r#"{"Body":"not base64!"}"#),
        "code=400, message=illegal base64 data at input byte 3, \
         internal=illegal base64 data at input byte 3"
    );
    assert_eq!(
        refusal::<Event>(r#"{"Body":[256]}"#),
        "code=400, message=Unmarshal type error: expected=uint8, got=number 256, field=Body, \
         offset=12, internal=json: cannot unmarshal number 256 into Go struct field Event.Body \
         of type uint8"
    );
}

#[test]
fn numbers_of_64_bits_stay_exact() {
    let text = r#"{"Timestamp":-9223372036854775808,"Sequence":18446744073709551615}"#;
    let read: EventReceive = decode(text.as_bytes()).unwrap();
    assert_eq!((read.timestamp, read.sequence), (i64::MIN, u64::MAX));
    assert_eq!(compact(&read), text);
}

#[test]
fn wrong_types_are_told_as_the_reference_tells_them() {
    assert_eq!(
        refusal::<Event>(r#"{"EventID": 123, "ClientID": "c1"}"#),
        "code=400, message=Unmarshal type error: expected=string, got=number, field=EventID, \
         offset=15, internal=json: cannot unmarshal number into Go struct field Event.EventID of \
         type string"
    );
    assert_eq!(
        refusal::<Event>("[]"),
        "code=400, message=Unmarshal type error: expected=kubemq.Event, got=array, field=, \
         offset=1, internal=json: cannot unmarshal array into Go value of type kubemq.Event"
    );
    assert_eq!(
        refusal::<Request>(r#"{"RequestTypeData":"Command"}"#),
        "code=400, message=Unmarshal type error: expected=kubemq.Request_RequestType, \
         got=string, field=RequestTypeData, offset=28, internal=json: cannot unmarshal string \
         into Go struct field Request.RequestTypeData of type kubemq.Request_RequestType"
    );
    assert_eq!(
        refusal::<QueueMessagesBatchRequest>(r#"{"Messages":[{"Policy":{"DelaySeconds":1.5}}]}"#),
        "code=400, message=Unmarshal type error: expected=int32, got=number 1.5, \
         field=Messages.Policy.DelaySeconds, offset=42, internal=json: cannot unmarshal \
         number 1.5 into Go struct field QueueMessagePolicy.Messages.Policy.DelaySeconds of type \
         int32"
    );
}

#[test]
fn every_type_refuses_every_other() {
    let wrong = [
        (r#"{"Store":"true"}"#, "expected=bool, got=string"),
        (r#"{"Store":1}"#, "expected=bool, got=number"),
        (r#"{"Channel":false}"#, "expected=string, got=bool"),
        (r#"{"Channel":{"a":1}}"#, "expected=string, got=object"),
        (r#"{"Channel":["a"]}"#, "expected=string, got=array"),
        (r#"{"Tags":["a"]}"#, "expected=map[string]string, got=array"),
        (r#"{"Tags":{"a":1}}"#, "expected=string, got=number"),
        (r#"{"Body":{}}"#, "expected=[]uint8, got=object"),
        (r#"{"Body":[-1]}"#, "expected=uint8, got=number -1"),
        (r#"{"Body":["a"]}"#, "expected=uint8, got=string"),
    ];
    for (text, expected) in wrong {
        assert!(refusal::<Event>(text).contains(expected), "{text}");
    }
    let numbers = [
        (
            r#"{"MaxNumberOfMessages":"1"}"#,
            "expected=int32, got=string",
        ),
        (
            r#"{"MaxNumberOfMessages":2147483648}"#,
            "got=number 2147483648",
        ),
        (r#"{"MaxNumberOfMessages":1e3}"#, "got=number 1e3"),
        (r#"{"MaxNumberOfMessages":1.0}"#, "got=number 1.0"),
        (r#"{"MaxNumberOfMessages":true}"#, "got=bool"),
    ];
    for (text, expected) in numbers {
        let refused = refusal::<ReceiveQueueMessagesRequest>(text);
        assert!(refused.contains(expected), "{text}");
    }
    let ranges = refusal::<QueuesDownstreamRequest>(r#"{"SequenceRange":1}"#);
    assert!(ranges.contains("expected=[]int64, got=number"), "{ranges}");
    let lists = refusal::<QueuesUpstreamRequest>(r#"{"Messages":{}}"#);
    assert!(
        lists.contains("expected=[]*kubemq.QueueMessage, got=object"),
        "{lists}"
    );
}

#[test]
fn a_number_of_many_digits_is_not_repeated_in_full() {
    let digits = "9".repeat(1_000_000);
    let refused = refusal::<EventReceive>(format!(r#"{{"Sequence":{digits}}}"#));
    assert!(refused.contains("got=number 9999"), "{}", refused.len());
    assert!(refused.len() < 400, "{}", refused.len());
}

/// Texts that are no JSON, with what is said of them: the offset and the error.
const NO_JSON: &[(&str, usize, &str)] = &[
    (
        "{bad",
        2,
        "invalid character 'b' looking for beginning of object key string",
    ),
    (
        "bad",
        1,
        "invalid character 'b' looking for beginning of value",
    ),
    (r#"{"a" 1}"#, 6, "invalid character '1' after object key"),
    (
        r#"{"a":1 "b"}"#,
        8,
        "invalid character '\"' after object key:value pair",
    ),
    (
        r#"{"a":[1 2]}"#,
        9,
        "invalid character '2' after array element",
    ),
    (
        r#"{"a":[1,]}"#,
        9,
        "invalid character ']' looking for beginning of value",
    ),
    (
        r#"{"a":1,}"#,
        8,
        "invalid character '}' looking for beginning of object key string",
    ),
    (
        "{\"a\":\"x\ny\"}",
        8,
        "invalid character '\\n' in string literal",
    ),
    (
        "{\"a\":\"\u{1}\"}",
        7,
        "invalid character '\\x01' in string literal",
    ),
    (
        r#"{"a":"\x"}"#,
        8,
        "invalid character 'x' in string escape code",
    ),
    (
        r#"{"a":"\u12g4"}"#,
        11,
        "invalid character 'g' in \\u hexadecimal character escape",
    ),
    (
        r#"{"a":01}"#,
        7,
        "invalid character '1' after object key:value pair",
    ),
    (r#"{"a":-}"#, 7, "invalid character '}' in numeric literal"),
    (
        r#"{"a":1.}"#,
        8,
        "invalid character '}' after decimal point in numeric literal",
    ),
    (
        r#"{"a":1e}"#,
        8,
        "invalid character '}' in exponent of numeric literal",
    ),
    (
        r#"{"a":trux}"#,
        9,
        "invalid character 'x' in literal true (expecting 'e')",
    ),
    (
        "{'a':1}",
        2,
        "invalid character '\\'' looking for beginning of object key string",
    ),
    ("{} x", 4, "invalid character 'x' after top-level value"),
    (
        "\u{feff}{}",
        1,
        "invalid character '\u{ef}' looking for beginning of value",
    ),
];

#[test]
fn texts_that_are_no_json_name_the_byte() {
    for &(text, offset, error) in NO_JSON {
        let expected = format!(
            "code=400, message=Syntax error: offset={offset}, error={error}, internal={error}"
        );
        assert_eq!(refusal::<Event>(text), expected, "{text}");
    }
}

#[test]
fn texts_that_end_too_early_are_told_so() {
    for cut in [
        "{",
        r#"{""#,
        r#"{"a"#,
        r#"{"a":"#,
        r#"{"a":"x\"#,
        r#"{"a":[1,"#,
        "tru",
        "-",
    ] {
        let expected = "code=400, message=unexpected EOF, internal=unexpected EOF";
        assert_eq!(refusal::<Event>(cut), expected, "{cut}");
    }
    assert_eq!(
        refusal::<Event>(" \n"),
        "code=400, message=EOF, internal=EOF"
    );
}

#[test]
fn a_flaw_of_the_text_comes_before_a_wrong_type() {
    let error = decode::<Event>(br#"{"EventID":1,"Channel":}"#).unwrap_err();
    assert!(
        matches!(error, JsonError::Syntax { offset: 24, .. }),
        "{error}"
    );
}

#[test]
fn what_is_not_utf8_is_refused() {
    let refused = refusal::<Event>(b"{\"Channel\":\"a\xffb\"}");
    assert!(
        refused.contains("string field contains invalid UTF-8"),
        "{refused}"
    );
}

#[test]
fn half_surrogates_become_the_replacement_character() {
    let halves = [
        (r"\ud800", "\u{fffd}"),
        (r"\udc00\ud800", "\u{fffd}\u{fffd}"),
        (r"\ud800x", "\u{fffd}x"),
        (r"\ud800\u0041", "\u{fffd}A"),
        (r"\ud83d\ude00!", "\u{1f600}!"),
    ];
    for (text, expected) in halves {
        assert_eq!(
            event(&format!(r#"{{"Channel":"{text}"}}"#)).channel,
            expected,
            "{text}"
        );
    }
}

#[test]
fn what_follows_the_message_is_ignored_only_at_the_head_of_a_body() {
    let text = br#"{"Channel":"a"}{"Channel":"b"}"#;
    let head = encoded_head::<Event>(text).unwrap();
    assert_eq!(Event::decode(head).unwrap().channel, "a");
    assert!(decode::<Event>(text).is_err());
}

#[test]
fn zeros_are_left_out_but_not_empty_messages_that_are_there() {
    assert_eq!(compact(&Event::default()), "{}");
    let info = QueuesInfoResponse {
        info: Some(QueuesInfo::default()),
        ..QueuesInfoResponse::default()
    };
    assert_eq!(compact(&info), r#"{"Info":{}}"#);
    let batch = QueueMessagesBatchResponse {
        results: vec![SendQueueMessageResult::default()],
        ..QueueMessagesBatchResponse::default()
    };
    assert_eq!(compact(&batch), r#"{"Results":[{}]}"#);
}

#[test]
fn the_indented_form_is_the_envelopes() {
    let message = QueueMessage {
        message_id: "m".into(),
        tags: [("b", "2"), ("a", "1")]
            .map(|(k, v)| (k.into(), v.into()))
            .into(),
        policy: Some(QueueMessagePolicy::default()),
        ..QueueMessage::default()
    };
    let mut out = String::new();
    encode_indented(&message, 1, &mut out);
    let expected = "{\n\t\t\"MessageID\": \"m\",\n\t\t\"Tags\": {\n\t\t\t\"a\": \"1\",\n\t\t\t\
                    \"b\": \"2\"\n\t\t},\n\t\t\"Policy\": {}\n\t}";
    assert_eq!(out, expected);
}

#[test]
fn texts_are_escaped_as_the_reference_escapes_them() {
    let mut out = String::new();
    write_text(
        "a\"\\\n\r\t\u{8}\u{c}\u{0}\u{1f}<>&\u{2028}\u{7f}/\u{e4}",
        &mut out,
    );
    let expected =
        "\"a\\\"\\\\\\n\\r\\t\\b\\f\\u0000\\u001f\\u003c\\u003e\\u0026\\u2028\u{7f}/\u{e4}\"";
    assert_eq!(out, expected);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        any::<String>(),
        "[a-z\"\\\\\n<&]{0,12}"
    ]
}

fn number<N: Copy + std::fmt::Debug + From<u8>>(
    all: impl Strategy<Value = N>,
) -> impl Strategy<Value = N> {
    prop_oneof![Just(N::from(0)), Just(N::from(1)), all]
}

fn queue_message() -> impl Strategy<Value = QueueMessage> {
    let attributes = (
        number(any::<i64>()),
        number(any::<u64>()),
        any::<i32>(),
        any::<bool>(),
    );
    let attributes = attributes.prop_map(|(timestamp, sequence, receive_count, re_routed)| {
        QueueMessageAttributes {
            timestamp,
            sequence,
            receive_count,
            re_routed,
            ..QueueMessageAttributes::default()
        }
    });
    let attributes = proptest::option::of(attributes);
    let body = vec(any::<u8>(), 0..40);
    (
        text(),
        text(),
        body,
        hash_map(text(), text(), 0..4),
        attributes,
    )
        .prop_map(
            |(message_id, metadata, body, tags, attributes)| QueueMessage {
                message_id,
                metadata,
                body: Bytes::from(body),
                tags,
                attributes,
                ..QueueMessage::default()
            },
        )
}

fn assert_round_trip<M: JsonMessage + PartialEq>(message: &M) {
    let mut indented = String::new();
    encode_indented(message, 3, &mut indented);
    for text in [compact(message), indented] {
        let foreign: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(foreign.is_object());
        assert_eq!(&decode::<M>(text.as_bytes()).unwrap(), message, "{text}");
        // Another writer's way to put the same is understood, too.
        assert_eq!(
            &decode::<M>(foreign.to_string().as_bytes()).unwrap(),
            message
        );
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        messages in vec(queue_message(), 0..4),
        request_id in text(),
        received in number(any::<i32>()),
        is_peak: bool,
        offsets in vec(any::<i64>(), 0..4),
    ) {
        assert_round_trip(&ReceiveQueueMessagesResponse {
            request_id: request_id.clone(),
            messages: messages.clone(),
            messages_received: received,
            is_peak,
            ..ReceiveQueueMessagesResponse::default()
        });
        assert_round_trip(&QueuesDownstreamResponse {
            ref_request_id: request_id,
            messages,
            active_offsets: offsets,
            ..QueuesDownstreamResponse::default()
        });
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _read_or_refused = decode::<QueueMessagesBatchRequest>(&bytes);
    }

    #[test]
    fn text_that_looks_like_json_is_judged_as_another_reader_judges_it(
        text in r#"[{}\[\]:,"a1.e\-+tn \\u0]{0,24}"#
    ) {
        let ours = decode::<Empty>(text.as_bytes());
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let is_grammar_error = matches!(
            ours,
            Err(JsonError::Syntax { .. } | JsonError::Incomplete | JsonError::Blank)
        );
        assert_eq!(is_grammar_error, !is_json && !text.is_empty(), "{text:?} {ours:?}");
    }
}
