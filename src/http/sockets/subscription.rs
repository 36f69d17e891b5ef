//! Subscriptions over a socket: what the query asks for, and what comes.

use std::borrow::Cow;

use ringmq_proto::kubemq::subscribe::{EventsStoreType, SubscribeType};
use ringmq_proto::kubemq::{Empty, EventReceive, Request, Subscribe};

use super::pump::{Dialogue, Rules};

/// What the client sends on a subscription means nothing; its close frame ends it.
const RULES: Rules = Rules {
    listens: false,
    answers_each: false,
    ends_in_order: false,
};

/// Events, plain or stored.
pub(super) struct Events;

impl Dialogue for Events {
    type Said = Empty;
    type Told = EventReceive;
    const RULES: Rules = RULES;

    fn flaw(_frame: &[u8], _flaw: String) -> Option<EventReceive> {
        None
    }
}

/// Commands or queries.
pub(super) struct Requests;

impl Dialogue for Requests {
    type Said = Empty;
    type Told = Request;
    const RULES: Rules = RULES;

    fn flaw(_frame: &[u8], _flaw: String) -> Option<Request> {
        None
    }
}

/// Reads the parameters of a query. What is missing is empty, what is no number is 0; whether that
/// will do is for the service to say.
pub(super) fn parse<'a>(query: impl Fn(&str) -> Option<Cow<'a, str>>) -> Subscribe {
    let text = |name| query(name).unwrap_or_default();
    let number = |name| text(name).parse::<i64>().unwrap_or(0);
    let kind = match text("subscribe_type").as_ref() {
        "events" => SubscribeType::Events,
        "events_store" => SubscribeType::EventsStore,
        "commands" => SubscribeType::Commands,
        "queries" => SubscribeType::Queries,
        _ => SubscribeType::Undefined,
    };
    let mut start = i32::try_from(number("events_store_type_data")).unwrap_or(-1);
    if kind == SubscribeType::EventsStore && EventsStoreType::try_from(start).is_err() {
        // gRPC lets kinds of later versions through; here they are refused.
        start = EventsStoreType::Undefined.into();
    }
    Subscribe {
        subscribe_type_data: kind.into(),
        client_id: text("client_id").into_owned(),
        channel: text("channel").into_owned(),
        group: text("group").into_owned(),
        events_store_type_data: start,
        events_store_type_value: number("events_store_type_value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &[(&str, &'static str)]) -> Subscribe {
        parse(|name| {
            let found = query.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| Cow::Borrowed(*value))
        })
    }

    #[test]
    fn every_parameter_has_its_field() {
        let subscribe = parsed(&[
            ("client_id", "c"),
            ("channel", "a.*"),
            ("group", "g"),
            ("subscribe_type", "events_store"),
            ("events_store_type_data", "5"),
            ("events_store_type_value", "1700000000123456789"),
        ]);
        let expected = Subscribe {
            subscribe_type_data: SubscribeType::EventsStore.into(),
            client_id: "c".into(),
            channel: "a.*".into(),
            group: "g".into(),
            events_store_type_data: EventsStoreType::StartAtTime.into(),
            events_store_type_value: 1_700_000_000_123_456_789,
        };
        assert_eq!(subscribe, expected);
        assert_eq!(parsed(&[]), Subscribe::default());
    }

    #[test]
    fn kinds_are_told_by_their_names_alone() {
        let table = [
            ("events", SubscribeType::Events),
            ("events_store", SubscribeType::EventsStore),
            ("commands", SubscribeType::Commands),
            ("queries", SubscribeType::Queries),
            ("Events", SubscribeType::Undefined),
            ("1", SubscribeType::Undefined),
            ("", SubscribeType::Undefined),
        ];
        for (name, kind) in table {
            let subscribe = parsed(&[("subscribe_type", name)]);
            assert_eq!(subscribe.subscribe_type_data, i32::from(kind), "{name}");
        }
    }

    #[test]
    fn what_is_no_number_is_zero() {
        for value in ["", "x", "1.5", "99999999999999999999"] {
            let subscribe = parsed(&[
                ("subscribe_type", "events_store"),
                ("events_store_type_data", value),
                ("events_store_type_value", value),
            ]);
            assert_eq!(subscribe.events_store_type_data, 0, "{value}");
            assert_eq!(subscribe.events_store_type_value, 0, "{value}");
        }
    }

    #[test]
    fn an_unknown_start_is_none_for_stored_events_and_one_too_many_for_plain_ones() {
        for (kind, start) in [("events_store", 0), ("events", 9)] {
            let subscribe = parsed(&[("subscribe_type", kind), ("events_store_type_data", "9")]);
            assert_eq!(subscribe.events_store_type_data, start, "{kind}");
        }
    }
}
