//! The parts of the KubeMQ contract that the tests speak, as protobuf fields written by hand.

/// Method paths.
pub(crate) mod path {
    pub(crate) const PING: &str = "/kubemq.kubemq/Ping";
    pub(crate) const SEND_EVENT: &str = "/kubemq.kubemq/SendEvent";
    pub(crate) const SEND_EVENTS_STREAM: &str = "/kubemq.kubemq/SendEventsStream";
    pub(crate) const SUBSCRIBE_TO_EVENTS: &str = "/kubemq.kubemq/SubscribeToEvents";
    pub(crate) const SUBSCRIBE_TO_REQUESTS: &str = "/kubemq.kubemq/SubscribeToRequests";
    pub(crate) const SEND_REQUEST: &str = "/kubemq.kubemq/SendRequest";
    pub(crate) const SEND_RESPONSE: &str = "/kubemq.kubemq/SendResponse";
    pub(crate) const SEND_QUEUE_MESSAGE: &str = "/kubemq.kubemq/SendQueueMessage";
    pub(crate) const SEND_QUEUE_MESSAGES_BATCH: &str = "/kubemq.kubemq/SendQueueMessagesBatch";
    pub(crate) const RECEIVE_QUEUE_MESSAGES: &str = "/kubemq.kubemq/ReceiveQueueMessages";
    pub(crate) const ACK_ALL_QUEUE_MESSAGES: &str = "/kubemq.kubemq/AckAllQueueMessages";
    pub(crate) const STREAM_QUEUE_MESSAGE: &str = "/kubemq.kubemq/StreamQueueMessage";
    pub(crate) const QUEUES_UPSTREAM: &str = "/kubemq.kubemq/QueuesUpstream";
    pub(crate) const QUEUES_DOWNSTREAM: &str = "/kubemq.kubemq/QueuesDownstream";
    pub(crate) const QUEUES_INFO: &str = "/kubemq.kubemq/QueuesInfo";
}

/// `Subscribe.SubscribeTypeData`.
pub(crate) const EVENTS: u64 = 1;
pub(crate) const EVENTS_STORE: u64 = 2;
pub(crate) const COMMANDS: u64 = 3;
pub(crate) const QUERIES: u64 = 4;

/// `Subscribe.EventsStoreTypeData`: from the first event that is kept.
pub(crate) const START_FROM_FIRST: u64 = 2;

/// `Request.RequestTypeData`.
pub(crate) const COMMAND: u64 = 1;
pub(crate) const QUERY: u64 = 2;

/// A protobuf message under construction.
#[derive(Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    pub(super) fn varint(mut self, field: u64, value: u64) -> Self {
        put_varint(&mut self.0, field << 3);
        put_varint(&mut self.0, value);
        self
    }

    pub(super) fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        put_varint(&mut self.0, field << 3 | 2);
        put_varint(&mut self.0, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

pub(crate) fn event(channel: &str, body: &[u8]) -> Vec<u8> {
    Message::default()
        .bytes(2, "mock")
        .bytes(3, channel)
        .bytes(5, body)
        .0
}

pub(crate) fn stored_event(id: &str, channel: &str, body: &[u8]) -> Vec<u8> {
    Message::default()
        .bytes(1, id)
        .bytes(2, "mock")
        .bytes(3, channel)
        .bytes(5, body)
        .varint(6, 1)
        .0
}

pub(crate) fn subscribe_stored(channel: &str, client_id: &str, start: u64) -> Vec<u8> {
    Message::default()
        .varint(1, EVENTS_STORE)
        .bytes(2, client_id)
        .bytes(3, channel)
        .varint(5, start)
        .0
}

pub(crate) fn subscribe(kind: u64, channel: &str, group: &str) -> Vec<u8> {
    Message::default()
        .varint(1, kind)
        .bytes(2, "mock")
        .bytes(3, channel)
        .bytes(4, group)
        .0
}

pub(crate) fn request(kind: u64, channel: &str, body: &[u8], timeout_ms: u64) -> Vec<u8> {
    Message::default()
        .bytes(1, "request-1")
        .varint(2, kind)
        .bytes(3, "mock")
        .bytes(4, channel)
        .bytes(6, body)
        .varint(8, timeout_ms)
        .0
}

/// The response to a delivered request.
pub(crate) fn response(request: &[u8]) -> Vec<u8> {
    response_with(request, &[])
}

pub(crate) fn response_with(request: &[u8], body: &[u8]) -> Vec<u8> {
    Message::default()
        .bytes(1, "mock-responder")
        .bytes(2, field(request, 1))
        .bytes(3, field(request, 7))
        .bytes(5, body)
        .varint(8, 1)
        .0
}

/// The value of a length-delimited field, empty when it is not there.
pub(crate) fn field(message: &[u8], wanted: u64) -> &[u8] {
    let mut rest = message;
    while let Some(key) = take_varint(&mut rest) {
        match key & 7 {
            0 => {
                take_varint(&mut rest);
            }
            2 => {
                let length = take_varint(&mut rest).and_then(|n| usize::try_from(n).ok());
                let Some((value, after)) = length.and_then(|n| rest.split_at_checked(n)) else {
                    return &[];
                };
                if key >> 3 == wanted {
                    return value;
                }
                rest = after;
            }
            _ => return &[],
        }
    }
    &[]
}

/// The values of a repeated length-delimited field.
pub(crate) fn fields(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = message;
    while let Some(key) = take_varint(&mut rest) {
        let Some(value) = take_varint(&mut rest) else {
            break;
        };
        if key & 7 == 2 {
            let length = usize::try_from(value).unwrap_or(usize::MAX);
            let Some((value, after)) = rest.split_at_checked(length) else {
                break;
            };
            rest = after;
            if key >> 3 == wanted {
                found.push(value);
            }
        }
    }
    found
}

/// The value of a number field; 0 when it is not there.
pub(crate) fn number(message: &[u8], wanted: u64) -> u64 {
    let mut rest = message;
    while let Some(key) = take_varint(&mut rest) {
        let Some(value) = take_varint(&mut rest) else {
            return 0;
        };
        match key & 7 {
            0 if key >> 3 == wanted => return value,
            0 => {}
            2 => {
                let length = usize::try_from(value).unwrap_or(usize::MAX);
                let Some((_, after)) = rest.split_at_checked(length) else {
                    return 0;
                };
                rest = after;
            }
            _ => return 0,
        }
    }
    0
}

/// The body of an `EventReceive`.
pub(crate) fn event_body(event: &[u8]) -> &[u8] {
    field(event, 4)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
