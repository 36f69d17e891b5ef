//! What a message must hold before anything is done with it, in the order in which clients have
//! always seen it refused: type, client id, channel, the rest.

use ringmq_proto::kubemq::Subscribe;
use ringmq_proto::kubemq::subscribe::{EventsStoreType, SubscribeType};

use super::event::EventView;
use super::management::MANAGEMENT_CHANNEL;
use super::request::{RequestType, RequestView};
use super::response::ResponseView;
use crate::model::Kind;
use crate::model::name::{self, NameError, Target};
use crate::wire_error::Refusal;

/// Checks an event, stored or not; tells whether it goes to a route, whose parts have yet to be
/// checked.
///
/// # Errors
/// The first refusal of: client id, channel, emptiness.
pub fn validate_event(event: &EventView<'_>) -> Result<Target, Refusal> {
    check_client_id(event.client_id)?;
    let target = name::check_target(event.channel).map_err(Refusal::channel)?;
    if event.is_empty() {
        return Err(Refusal::EventEmpty);
    }
    Ok(target)
}

/// Checks an event that a route has sent to one channel: the name is taken as it is.
///
/// # Errors
/// The first refusal of: client id, channel, emptiness.
pub fn validate_event_to_channel(event: &EventView<'_>) -> Result<(), Refusal> {
    check_client_id(event.client_id)?;
    name::check_channel(event.channel).map_err(Refusal::channel)?;
    if event.is_empty() {
        return Err(Refusal::EventEmpty);
    }
    Ok(())
}

/// Checks a command or query. Their channels are never routes.
///
/// # Errors
/// The first refusal of: type, client id, channel, timeout, emptiness, cache.
pub fn validate_request(request: &RequestView<'_>) -> Result<RequestType, Refusal> {
    let request_type =
        RequestType::from_number(request.request_type).ok_or(Refusal::RequestType)?;
    check_client_id(request.client_id)?;
    name::check_channel(request.channel).map_err(Refusal::channel)?;
    if request.timeout <= 0 {
        return Err(Refusal::TimeoutNotPositive);
    }
    if request.is_empty() {
        return Err(Refusal::RequestEmpty);
    }
    // For commands too, although their answers are never remembered.
    if !request.cache_key.is_empty() && request.cache_ttl <= 0 {
        return Err(Refusal::CacheTtlNotPositive);
    }
    Ok(request_type)
}

/// Checks a response. Of the reply channel only the faults that clients know are refused: any
/// other name that the broker did not make is one that nobody waits for, which is no error.
///
/// # Errors
/// The first refusal of: client id, reply channel, request id.
pub fn validate_response(response: &ResponseView<'_>) -> Result<(), Refusal> {
    check_client_id(response.client_id)?;
    check_reply_channel(response.reply_channel).map_err(Refusal::channel)?;
    if response.request_id.is_empty() {
        return Err(Refusal::RequestIdEmpty);
    }
    Ok(())
}

/// Checks a subscription to events or stored events; gives back which.
///
/// # Errors
/// The first refusal of: type, client id, channel, start position, group.
pub fn validate_subscribe_events(subscribe: &Subscribe) -> Result<Kind, Refusal> {
    let kind = match SubscribeType::try_from(subscribe.subscribe_type_data) {
        Ok(SubscribeType::Events) => Kind::Events,
        Ok(SubscribeType::EventsStore) => Kind::EventsStore,
        Ok(SubscribeType::Undefined | SubscribeType::Commands | SubscribeType::Queries)
        | Err(_) => return Err(Refusal::SubscribeType),
    };
    check_client_id(&subscribe.client_id)?;
    if kind == Kind::Events {
        name::check_pattern(&subscribe.channel).map_err(Refusal::channel)?;
        if subscribe.events_store_type_data != i32::from(EventsStoreType::Undefined) {
            return Err(Refusal::StartOnPlainEvents);
        }
    } else {
        name::check_channel(&subscribe.channel).map_err(Refusal::channel)?;
        check_start(subscribe)?;
    }
    check_group(&subscribe.group)?;
    Ok(kind)
}

/// Checks a subscription to commands or queries; gives back which.
///
/// # Errors
/// The first refusal of: type, client id, channel, group.
pub fn validate_subscribe_requests(subscribe: &Subscribe) -> Result<Kind, Refusal> {
    let kind = match SubscribeType::try_from(subscribe.subscribe_type_data) {
        Ok(SubscribeType::Commands) => Kind::Commands,
        Ok(SubscribeType::Queries) => Kind::Queries,
        Ok(SubscribeType::Undefined | SubscribeType::Events | SubscribeType::EventsStore)
        | Err(_) => return Err(Refusal::SubscribeType),
    };
    check_client_id(&subscribe.client_id)?;
    name::check_pattern(&subscribe.channel).map_err(Refusal::channel)?;
    // Requests to it are the broker's to answer; nobody may pretend to be it.
    if subscribe.channel == MANAGEMENT_CHANNEL {
        return Err(Refusal::ChannelReserved);
    }
    check_group(&subscribe.group)?;
    Ok(kind)
}

/// Checks a client id.
pub(in crate::grpc) fn check_client_id(id: &str) -> Result<(), Refusal> {
    name::check_client_id(id).map_err(Refusal::client_id)
}

fn check_group(group: &str) -> Result<(), Refusal> {
    name::check_group(group).map_err(|_| Refusal::GroupName)
}

fn check_reply_channel(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.ends_with('.') {
        return Err(NameError::EndsWithDot);
    }
    if name.contains(' ') {
        return Err(NameError::WhiteSpace);
    }
    if name.contains(['*', '>']) {
        return Err(NameError::Wildcard);
    }
    Ok(())
}

/// Where a subscription to stored events starts. A kind of start that this version does not know
/// is let through and means "new only", as it always has.
fn check_start(subscribe: &Subscribe) -> Result<(), Refusal> {
    let positive = subscribe.events_store_type_value > 0;
    match EventsStoreType::try_from(subscribe.events_store_type_data) {
        Ok(EventsStoreType::Undefined) => Err(Refusal::StartUndefined),
        Ok(EventsStoreType::StartAtSequence) if !positive => Err(Refusal::StartSequenceNotPositive),
        Ok(EventsStoreType::StartAtTime) if !positive => Err(Refusal::StartTimeNotPositive),
        Ok(EventsStoreType::StartAtTimeDelta) if !positive => {
            Err(Refusal::StartTimeDeltaNotPositive)
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use ringmq_proto::kubemq::{Event, Request, Response};

    use super::*;

    fn event() -> Event {
        let body = Bytes::from_static(b"b");
        Event {
            client_id: "c".into(),
            channel: "ch".into(),
            body,
            ..Event::default()
        }
    }

    fn check_event(event: &Event) -> Result<Target, Refusal> {
        validate_event(&EventView::parse(&event.encode_to_vec()).unwrap())
    }

    fn request() -> Request {
        Request {
            client_id: "c".into(),
            channel: "ch".into(),
            request_type_data: 1,
            body: Bytes::from_static(b"b"),
            timeout: 1,
            ..Request::default()
        }
    }

    fn check_request(request: &Request) -> Result<RequestType, Refusal> {
        validate_request(&RequestView::parse(&request.encode_to_vec()).unwrap())
    }

    fn check_response(response: &Response) -> Result<(), Refusal> {
        validate_response(&ResponseView::parse(&response.encode_to_vec()).unwrap())
    }

    /// Channels that every send refuses, with the refusal.
    fn bad_channels() -> [(&'static str, Refusal); 10] {
        [
            ("", Refusal::ChannelEmpty),
            ("ch.", Refusal::ChannelEndsWithDot),
            ("ch x", Refusal::ChannelWhiteSpace),
            ("ch\tx", Refusal::ChannelWhiteSpace),
            ("ch\r\nx", Refusal::ChannelWhiteSpace),
            ("ch\0", Refusal::ChannelWhiteSpace),
            ("ch.*", Refusal::ChannelWildcard),
            ("ch.>", Refusal::ChannelWildcard),
            (".ch", Refusal::ChannelTokenEmpty),
            ("ch..x", Refusal::ChannelTokenEmpty),
        ]
    }

    #[test]
    fn events_are_refused_for_the_first_fault() {
        assert_eq!(check_event(&event()), Ok(Target::Channel));
        for (channel, refusal) in bad_channels() {
            let bad = Event {
                channel: channel.into(),
                body: Bytes::new(),
                ..event()
            };
            assert_eq!(check_event(&bad), Err(refusal), "{channel:?}");
            let worse = Event {
                client_id: String::new(),
                ..bad
            };
            assert_eq!(check_event(&worse), Err(Refusal::ClientIdEmpty));
        }
        let long = Event {
            channel: "y".repeat(257),
            ..event()
        };
        assert_eq!(check_event(&long), Err(Refusal::ChannelTooLong));
        let empty = Event {
            body: Bytes::new(),
            ..event()
        };
        assert_eq!(check_event(&empty), Err(Refusal::EventEmpty));
        let tags = [("a".to_owned(), "b".to_owned())].into();
        assert_eq!(
            check_event(&Event {
                tags,
                ..empty.clone()
            }),
            Err(Refusal::EventEmpty)
        );
        assert_eq!(
            check_event(&Event {
                metadata: "m".into(),
                ..empty
            }),
            Ok(Target::Channel)
        );
        assert_eq!(
            check_event(&Event {
                client_id: "a b".into(),
                ..event()
            }),
            Ok(Target::Channel)
        );
        let control = Event {
            client_id: "a\nb".into(),
            ..event()
        };
        assert_eq!(check_event(&control), Err(Refusal::ClientIdControl));
        let long = Event {
            client_id: "c".repeat(301),
            ..event()
        };
        assert_eq!(check_event(&long), Err(Refusal::ClientIdTooLong));
    }

    #[test]
    fn a_route_is_told_from_a_channel_behind_the_other_checks() {
        for channel in ["a;b", "events: a", "queues:q", "routes:r", "a b;c"] {
            let routed = Event {
                channel: channel.into(),
                ..event()
            };
            assert_eq!(check_event(&routed), Ok(Target::Route), "{channel:?}");
            let empty = Event {
                metadata: String::new(),
                body: Bytes::new(),
                ..routed
            };
            assert_eq!(check_event(&empty), Err(Refusal::EventEmpty), "{channel:?}");
        }
        assert_eq!(
            check_event(&Event {
                channel: "a:b/c".into(),
                ..event()
            }),
            Ok(Target::Channel)
        );
    }

    #[test]
    fn requests_are_refused_for_the_first_fault() {
        assert_eq!(check_request(&request()), Ok(RequestType::Command));
        let query = Request {
            request_type_data: 2,
            ..request()
        };
        assert_eq!(check_request(&query), Ok(RequestType::Query));
        for request_type_data in [0, 3, 9, -1] {
            let bad = Request {
                request_type_data,
                ..Request::default()
            };
            assert_eq!(check_request(&bad), Err(Refusal::RequestType));
        }
        let untyped = Request {
            request_type_data: 1,
            ..Request::default()
        };
        assert_eq!(check_request(&untyped), Err(Refusal::ClientIdEmpty));
        for (channel, refusal) in bad_channels() {
            let bad = Request {
                channel: channel.into(),
                timeout: 0,
                ..request()
            };
            assert_eq!(check_request(&bad), Err(refusal), "{channel:?}");
        }
        for timeout in [0, -1] {
            let bad = Request {
                timeout,
                body: Bytes::new(),
                ..request()
            };
            assert_eq!(check_request(&bad), Err(Refusal::TimeoutNotPositive));
        }
        let bad = Request {
            body: Bytes::new(),
            cache_key: "k".into(),
            ..request()
        };
        assert_eq!(check_request(&bad), Err(Refusal::RequestEmpty));
        for cache_ttl in [0, -1] {
            let bad = Request {
                cache_key: "k".into(),
                cache_ttl,
                ..request()
            };
            assert_eq!(check_request(&bad), Err(Refusal::CacheTtlNotPositive));
        }
        let cached = Request {
            cache_key: "k".into(),
            cache_ttl: 1,
            ..request()
        };
        assert_eq!(check_request(&cached), Ok(RequestType::Command));
    }

    #[test]
    fn requests_are_never_routed() {
        let request = |channel: &str| Request {
            channel: channel.into(),
            ..request()
        };
        assert_eq!(
            check_request(&request("a;b")),
            Err(Refusal::ChannelWildcard)
        );
        assert_eq!(
            check_request(&request("queues:q")),
            Ok(RequestType::Command)
        );
    }

    #[test]
    fn responses_are_refused_for_the_faults_that_clients_know() {
        let reply = |reply_channel: &str| {
            let reply_channel = reply_channel.into();
            check_response(&Response {
                client_id: "c".into(),
                reply_channel,
                ..Response::default()
            })
        };
        assert_eq!(
            check_response(&Response::default()),
            Err(Refusal::ClientIdEmpty)
        );
        assert_eq!(reply(""), Err(Refusal::ChannelEmpty));
        assert_eq!(reply("x."), Err(Refusal::ChannelEndsWithDot));
        assert_eq!(reply("x y"), Err(Refusal::ChannelWhiteSpace));
        assert_eq!(reply("x.*"), Err(Refusal::ChannelWildcard));
        assert_eq!(reply("x"), Err(Refusal::RequestIdEmpty));
        let unknown = Response {
            client_id: "c".into(),
            request_id: "r".into(),
            reply_channel: "..nobody;\t".into(),
            ..Response::default()
        };
        assert_eq!(check_response(&unknown), Ok(()));
    }

    fn subscribe(subscribe_type: SubscribeType) -> Subscribe {
        Subscribe {
            subscribe_type_data: subscribe_type.into(),
            client_id: "c".into(),
            channel: "ch".into(),
            ..Subscribe::default()
        }
    }

    #[test]
    fn each_call_serves_its_own_types_of_subscription() {
        for (number, events, requests) in [
            (0, Err(Refusal::SubscribeType), Err(Refusal::SubscribeType)),
            (1, Ok(Kind::Events), Err(Refusal::SubscribeType)),
            (2, Err(Refusal::StartUndefined), Err(Refusal::SubscribeType)),
            (3, Err(Refusal::SubscribeType), Ok(Kind::Commands)),
            (4, Err(Refusal::SubscribeType), Ok(Kind::Queries)),
            (5, Err(Refusal::SubscribeType), Err(Refusal::SubscribeType)),
        ] {
            let subscribe = Subscribe {
                subscribe_type_data: number,
                ..subscribe(SubscribeType::Events)
            };
            assert_eq!(validate_subscribe_events(&subscribe), events);
            assert_eq!(validate_subscribe_requests(&subscribe), requests);
        }
    }

    #[test]
    fn subscriptions_are_refused_for_the_first_fault() {
        let base = subscribe(SubscribeType::Events);
        let check = |subscribe: &Subscribe| {
            let requests = Subscribe {
                subscribe_type_data: 3,
                ..subscribe.clone()
            };
            let refusal = validate_subscribe_events(subscribe).err();
            assert_eq!(refusal, validate_subscribe_requests(&requests).err());
            refusal
        };
        assert_eq!(check(&base), None);
        let nobody = Subscribe {
            client_id: String::new(),
            channel: String::new(),
            ..base.clone()
        };
        assert_eq!(check(&nobody), Some(Refusal::ClientIdEmpty));
        for (channel, refusal) in bad_channels() {
            let bad = Subscribe {
                channel: channel.into(),
                group: "g 1".into(),
                ..base.clone()
            };
            let wildcard = refusal == Refusal::ChannelWildcard;
            let refusal = if wildcard {
                Refusal::GroupName
            } else {
                refusal
            };
            assert_eq!(check(&bad), Some(refusal), "{channel:?}");
        }
        for channel in ["a*", "a.>.c", ">", "*", "*.b", "events:a"] {
            assert_eq!(
                check(&Subscribe {
                    channel: channel.into(),
                    ..base.clone()
                }),
                None
            );
        }
        let route = Subscribe {
            channel: "a;b".into(),
            ..base.clone()
        };
        assert_eq!(check(&route), Some(Refusal::ChannelWildcard));
        for group in ["g.1", "g*", "g:1"] {
            assert_eq!(
                check(&Subscribe {
                    group: group.into(),
                    ..base.clone()
                }),
                None
            );
        }
    }

    #[test]
    fn plain_events_have_no_start() {
        let mut subscribe = subscribe(SubscribeType::Events);
        subscribe.events_store_type_data = EventsStoreType::StartNewOnly.into();
        subscribe.group = "g 1".into();
        assert_eq!(
            validate_subscribe_events(&subscribe),
            Err(Refusal::StartOnPlainEvents)
        );
        subscribe.channel = "a b".into();
        assert_eq!(
            validate_subscribe_events(&subscribe),
            Err(Refusal::ChannelWhiteSpace)
        );
    }

    #[test]
    fn stored_events_start_somewhere() {
        let check = |start: i32, value: i64| {
            validate_subscribe_events(&Subscribe {
                events_store_type_data: start,
                events_store_type_value: value,
                ..subscribe(SubscribeType::EventsStore)
            })
            .err()
        };
        assert_eq!(check(0, 1), Some(Refusal::StartUndefined));
        for start in [1, 2, 3, 99] {
            assert_eq!(check(start, 0), None);
        }
        for (start, refusal) in [
            (4, Refusal::StartSequenceNotPositive),
            (5, Refusal::StartTimeNotPositive),
            (6, Refusal::StartTimeDeltaNotPositive),
        ] {
            assert_eq!(check(start, 0), Some(refusal.clone()));
            assert_eq!(check(start, -1), Some(refusal));
            assert_eq!(check(start, 1), None);
        }
        for channel in ["a.*", "a.>"] {
            let channel = channel.into();
            let subscribe = Subscribe {
                channel,
                ..subscribe(SubscribeType::EventsStore)
            };
            assert_eq!(
                validate_subscribe_events(&subscribe),
                Err(Refusal::ChannelWildcard)
            );
        }
    }
}
