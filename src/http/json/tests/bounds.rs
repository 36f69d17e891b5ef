//! What comes again, what is long, and what is too much.

use ringmq_proto::kubemq::{
    Event, QueueMessage, QueueMessagePolicy, QueueMessagesBatchRequest, QueuesDownstreamRequest,
    QueuesUpstreamRequest, StreamQueueMessagesRequest,
};

use super::super::scan::DEPTH_MAX;
use super::super::{JsonError, TAGS_MAX, decode, encoded};
use super::{event, refusal};
use crate::wire_error::BATCH_MESSAGES_MAX;

#[test]
fn what_comes_again_takes_the_place_of_what_came_before() {
    let read = event(
        r#"{"Channel":"a","Store":true,"Body":"AQ==","Metadata":"m","Channel":"","Store":false,
            "Body":null,"Metadata":null}"#,
    );
    let kept = Event {
        metadata: "m".into(),
        ..Event::default()
    };
    assert_eq!(read, kept);
    let read: StreamQueueMessagesRequest =
        decode(br#"{"RefSequence":7,"WaitTimeSeconds":-1,"RefSequence":0,"WaitTimeSeconds":0}"#)
            .unwrap();
    assert_eq!(read, StreamQueueMessagesRequest::default());
    let read = event(r#"{"Tags":{"a":"1","a":"2"},"Tags":null,"Tags":{"b":"1"},"tags":{"b":""}}"#);
    assert_eq!(read.tags, [("b".into(), String::new())].into());
    let batch: QueueMessagesBatchRequest = decode(
        br#"{"Messages":[{"Channel":"a"}],"BatchID":"b","messages":[{"Channel":"c"},null]}"#,
    )
    .unwrap();
    let channels: Vec<_> = batch.messages.iter().map(|it| &*it.channel).collect();
    assert_eq!((&*batch.batch_id, &channels[..]), ("b", &["c", ""][..]));
    let ranges = |text: &str| {
        let request: QueuesDownstreamRequest = decode(text.as_bytes()).unwrap();
        request.sequence_range
    };
    assert_eq!(
        ranges(r#"{"SequenceRange":[1],"SequenceRange":[2,-3]}"#),
        [2, -3]
    );
    assert!(ranges(r#"{"SequenceRange":[1],"SequenceRange":[]}"#).is_empty());
    assert!(ranges(r#"{"SequenceRange":[1],"SequenceRange":null}"#).is_empty());
}

#[test]
fn a_message_within_a_message_is_put_together_until_it_is_null() {
    let policy = |text: &str| {
        let message: QueueMessage = decode(text.as_bytes()).unwrap();
        message.policy
    };
    let both = policy(
        r#"{"Policy":{"DelaySeconds":1,"MaxReceiveCount":3},"Channel":"q",
            "Policy":{"DelaySeconds":0,"ExpirationSeconds":2}}"#,
    );
    let expected = QueueMessagePolicy {
        expiration_seconds: 2,
        max_receive_count: 3,
        ..QueueMessagePolicy::default()
    };
    assert_eq!(both, Some(expected));
    assert_eq!(
        policy(r#"{"Policy":{"DelaySeconds":1},"Policy":null}"#),
        None
    );
    assert_eq!(
        policy(r#"{"Policy":{"DelaySeconds":1},"Policy":null,"Policy":{}}"#),
        Some(QueueMessagePolicy::default())
    );
}

#[test]
fn a_batch_has_as_many_messages_as_one_may_have() {
    let messages = |message: &str, count: usize| {
        let before = format!("{message},").repeat(count - 1);
        format!(r#"{{"Messages":[{before}{message}]}}"#)
    };
    let decode = |text: &str| decode::<QueuesUpstreamRequest>(text.as_bytes());
    let short = r#"{"ClientID":"c","Channel":"q","Metadata":"m"}"#;
    for message in [short, "{}"] {
        let most = decode(&messages(message, BATCH_MESSAGES_MAX)).unwrap();
        assert_eq!(most.messages.len(), BATCH_MESSAGES_MAX);
    }
    let more = decode(&messages("{}", BATCH_MESSAGES_MAX + 1)).unwrap_err();
    assert_eq!(more.to_string(), "a batch may have 262144 messages");
}

#[test]
fn a_message_has_no_more_tags_than_can_be_gone_through() {
    let tags = |count: usize| format!(r#"{{{}"":""}}"#, r#""":"","#.repeat(count - 1));
    let most = tags(TAGS_MAX);
    assert_eq!(event(&format!(r#"{{"Tags":{most}}}"#)).tags.len(), 1);
    let batch = format!(r#"{{"Messages":[{{"Tags":{most}}},{{"Tags":{most}}}]}}"#);
    assert!(encoded::<QueuesUpstreamRequest>(batch.as_bytes()).is_ok());
    let more = format!(r#"{{"Tags":{}}}"#, tags(TAGS_MAX + 1));
    assert_eq!(
        decode::<Event>(more.as_bytes()),
        Err(JsonError::TooManyEntries)
    );
    let again = format!(r#"{{"Tags":{most},"Tags":{{"":""}}}}"#);
    assert!(refusal::<Event>(again).starts_with("code=400, message=too many messages and tags"));
}

#[test]
fn no_message_is_much_longer_than_its_text() {
    let tiny: [(&str, &str); 4] = [
        (r#"{"Tags":{"#, r#""a":"b""#),
        (r#"{"Tags":{"#, r#""\"":"""#),
        (r#"{"Body":["#, "7"),
        (r#"{"Policy":{},"#, r#""Policy":{}"#),
    ];
    for (begin, piece) in tiny {
        let pieces = format!("{piece},").repeat(50_000);
        let end = match begin {
            begin if begin.ends_with('[') => "]}",
            begin if begin.contains("Tags") => "}}",
            _ => "}",
        };
        let text = format!("{begin}{pieces}{piece}{end}");
        let encoded = encoded::<QueueMessage>(text.as_bytes()).unwrap();
        assert!(encoded.len() <= text.len(), "{begin}: {}", encoded.len());
    }
    let long_keys = format!(r#""{}":"{}","#, "k".repeat(20_000), "v".repeat(20_000)).repeat(200);
    let text = format!(r#"{{"Tags":{{{long_keys}"":""}}}}"#);
    let encoded = encoded::<QueueMessage>(text.as_bytes()).unwrap();
    assert!(encoded.len() <= text.len() + 200 * 8);
    let negative = format!(r#"{{"SequenceRange":[{}-1]}}"#, "-1,".repeat(100_000));
    assert_eq!(
        decode::<QueuesDownstreamRequest>(negative.as_bytes()),
        Err(JsonError::TooManyEntries)
    );
}

#[test]
fn long_texts_are_read_as_short_ones() {
    // Characters of two, three and four bytes reach over the windows in which a text is read.
    for shift in 0..4 {
        let long = "\u{e4}\u{20ac}\u{1f600}".repeat(100_000);
        let text = format!(
            r#"{{"Metadata":"{}{long}",{}"Channel":"a"}}"#,
            "x".repeat(shift),
            " ".repeat(600_000)
        );
        let read = event(&text);
        assert!(
            read.metadata.ends_with(&long) && read.channel == "a",
            "{shift}"
        );
        let mut broken = text.into_bytes();
        broken[700_000] = 0xff;
        assert_eq!(decode::<Event>(&broken), Err(JsonError::NotUtf8));
    }
    let mut cut = "\u{e4}".repeat(200_000).into_bytes();
    cut.pop();
    assert_eq!(decode::<Event>(&cut), Err(JsonError::NotUtf8));
}

#[test]
fn depth_is_bounded_and_exhausts_no_stack() {
    let nested = |depth: usize| format!(r#"{{"x":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(event(&nested(DEPTH_MAX - 1)), Event::default());
    assert!(refusal::<Event>(nested(DEPTH_MAX)).contains("error=exceeded max depth"));
    let open = "[".repeat(1 << 20);
    assert!(refusal::<Event>(open).contains("offset=10001, error=exceeded max depth"));
}

#[test]
fn of_repeated_names_the_last_counts_and_maps_are_joined() {
    let read = event(r#"{"Channel":"a","channel":"b","Tags":{"x":"1"},"tags":{"y":"2"}}"#);
    assert_eq!(read.channel, "b");
    assert_eq!(read.tags.len(), 2);
    let message: QueueMessage =
        decode(br#"{"Policy":{"DelaySeconds":1},"Policy":{"MaxReceiveCount":2}}"#).unwrap();
    let policy = message.policy.unwrap();
    assert_eq!((policy.delay_seconds, policy.max_receive_count), (1, 2));
}
