//! One record, as it waits and as it is written.

use std::borrow::Cow;

use serde::Serialize;

use super::names::resource_name;
use super::{Access, Deed, Resource};
use crate::model::name::{CHANNEL_BYTES_MAX, CLIENT_ID_BYTES_MAX};

/// Bytes of a message's id, and of a result, that a record keeps.
const TEXT_BYTES_MAX: usize = 512;

/// What is kept of an access until it is written.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) resource: Resource,
    deed: Deed,
    pub(super) channel: Box<str>,
    client: Box<str>,
    message_id: Box<str>,
    result: Cow<'static, str>,
    began_ns: i64,
    ended_ns: i64,
    /// Whether it goes to subscribers.
    pub(super) published: bool,
}

/// The fields of a record in JSON, named as the reference documents them. Times are seconds since
/// 1970.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Json<'a> {
    id: &'a str,
    #[serde(rename = "RefMessageID")]
    message_id: &'a str,
    #[serde(rename = "ClientID")]
    client_id: &'a str,
    resource: &'static str,
    channel: &'a str,
    action: &'static str,
    sub_action: &'static str,
    result: &'a str,
    timestamp: i64,
    result_timestamp: i64,
}

impl Record {
    pub(super) fn begin(access: &Access<'_>, published: bool, now_ns: i64) -> Self {
        Self {
            resource: access.resource,
            deed: access.deed,
            channel: cut(access.channel, CHANNEL_BYTES_MAX).into(),
            client: cut(access.client, CLIENT_ID_BYTES_MAX).into(),
            message_id: cut(access.message_id, TEXT_BYTES_MAX).into(),
            result: Cow::Borrowed(""),
            began_ns: now_ns,
            ended_ns: now_ns,
            published,
        }
    }

    pub(super) fn end(&mut self, result: Cow<'static, str>, now_ns: i64) {
        self.result = if result.len() > TEXT_BYTES_MAX {
            cut(&result, TEXT_BYTES_MAX).to_owned().into()
        } else {
            result
        };
        self.ended_ns = now_ns;
    }

    /// Bytes that it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        let texts = [&*self.channel, &*self.client, &*self.message_id];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        size_of::<Self>() + texts + self.result.len()
    }

    /// Appends the record as JSON.
    pub(super) fn write(&self, id: &str, out: &mut Vec<u8>) {
        let (action, sub_action) = action(self.deed);
        let json = Json {
            id,
            message_id: &self.message_id,
            client_id: &self.client,
            resource: resource_name(self.resource),
            channel: &self.channel,
            action,
            sub_action,
            result: &self.result,
            timestamp: self.began_ns / 1_000_000_000,
            result_timestamp: self.ended_ns / 1_000_000_000,
        };
        // Strings and numbers into memory: nothing of that can fail.
        let _never_fails = serde_json::to_writer(out, &json);
    }

    /// Writes the record into the log.
    pub(super) fn log(&self) {
        let (action, sub_action) = action(self.deed);
        let (client, channel) = (&*self.client, &*self.channel);
        let resource = resource_name(self.resource);
        let (message_id, result) = (&*self.message_id, &*self.result);
        tracing::info!(
            client, resource, channel, action, sub_action, message_id, result, "access"
        );
    }
}

/// What a deed is called. The reference documents the actions, and of the sub-actions `Connect`.
const fn action(deed: Deed) -> (&'static str, &'static str) {
    match deed {
        Deed::Send => ("Send", ""),
        Deed::Manage => ("Send", "Manage"),
        Deed::Subscribe => ("Receive", "Connect"),
        Deed::Receive => ("Receive", ""),
        Deed::Peek => ("Receive", "Peek"),
        Deed::Stream => ("Stream", ""),
        Deed::Ack => ("Ack", ""),
        Deed::AckAll => ("Ack", "All"),
        Deed::Nack => ("Ack", "Reject"),
        Deed::Requeue => ("Ack", "Requeue"),
    }
}

/// The beginning of a text.
fn cut(text: &str, bytes_max: usize) -> &str {
    let (beginning, _) = text.split_at(text.floor_char_boundary(bytes_max));
    beginning
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    const ACCESS: Access<'_> = Access {
        resource: Resource::Channels(Kind::Queues),
        channel: "orders",
        client: "alice",
        message_id: "m-1",
        deed: Deed::Send,
    };

    fn json(record: &Record) -> serde_json::Value {
        let mut out = Vec::new();
        record.write("r-1", &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_record_has_the_documented_fields() {
        let mut record = Record::begin(&ACCESS, true, 1_700_000_000_900_000_000);
        record.end("OK".into(), 1_700_000_002_100_000_000);
        let expected = serde_json::json!({
            "Id": "r-1",
            "RefMessageID": "m-1",
            "ClientID": "alice",
            "Resource": "queues",
            "Channel": "orders",
            "Action": "Send",
            "SubAction": "",
            "Result": "OK",
            "Timestamp": 1_700_000_000,
            "ResultTimestamp": 1_700_000_002,
        });
        assert_eq!(json(&record), expected);
    }

    #[test]
    fn whatever_a_client_sends_the_record_is_json_and_bounded() {
        let (channel, client) = ("é\"\u{1}".repeat(9_999), "\\".repeat(9_999));
        let access = Access {
            channel: &channel,
            client: &client,
            message_id: &channel,
            ..ACCESS
        };
        let mut record = Record::begin(&access, true, 0);
        record.end(client.clone().into(), 0);
        assert!(record.bytes() < 2_000, "{}", record.bytes());
        let json = json(&record);
        let text = |field: &str| json[field].as_str().unwrap().to_owned();
        assert!(channel.starts_with(&text("Channel")));
        assert_eq!(text("ClientID"), client[..300]);
        assert_eq!(text("Result"), client[..512]);
    }
}
