"""Every refusal of a plain event and of a subscription, with its text."""

import pytest

from contract import pb
from wire import Subscribe, event, events_of

NO_CLIENT = "Error 101: invalid clientID value, cannot be empty"
NO_CHANNEL = "Error 102: invalid channel value, cannot be empty"
LONG_CHANNEL = "Error 102: invalid channel value, longer than 256 bytes"
WILDCARD = "Error 107: invalid channel value, no wildcards are allowed"
BLANK = "Error 108: invalid channel value, no white spaces are allowed"
EMPTY = "Error 110: invalid message, cannot be empty"
STORE_FIELDS = "Error 118: event store parameters were set but subscribe type is not event store"
TRAILING_DOT = "Error 119: invalid channel value, cannot end with `.`"
EMPTY_TOKEN = "Error 119: invalid channel value, tokens cannot be empty"
SUBSCRIBE_TYPE = "Error 207: invalid subscribe type"
GROUP_NAME = "nats: invalid queue name"

# Fields that differ from a good event, `{c}` stands for a name of the test's own.
EVENTS = {
    "no client": ({"ClientID": ""}, NO_CLIENT),
    "no channel": ({"Channel": ""}, NO_CHANNEL),
    "no client comes first": ({"ClientID": "", "Channel": "", "Body": b""}, NO_CLIENT),
    "trailing dot": ({"Channel": "{c}."}, TRAILING_DOT),
    "leading dot": ({"Channel": ".{c}"}, EMPTY_TOKEN),
    "two dots": ({"Channel": "{c}..x"}, EMPTY_TOKEN),
    "blank": ({"Channel": "{c} x"}, BLANK),
    "tab": ({"Channel": "{c}\tx"}, BLANK),
    "line feed": ({"Channel": "{c}\r\nx"}, BLANK),
    "control character": ({"Channel": "{c}\x01x"}, BLANK),
    "wide blank": ({"Channel": "{c}\u3000x"}, BLANK),
    "star": ({"Channel": "{c}.*"}, WILDCARD),
    "star inside a token": ({"Channel": "{c}*x"}, WILDCARD),
    "greater": ({"Channel": "{c}.>"}, WILDCARD),
    "long": ({"Channel": "{c}" + "n" * 256}, LONG_CHANNEL),
    "no body and no metadata": ({"Body": b""}, EMPTY),
    "tags are no body": ({"Body": b"", "Tags": {"a": "b"}}, EMPTY),
    "channel before body": ({"Channel": "", "Body": b""}, NO_CHANNEL),
}

SUBSCRIPTIONS = {
    "no client": ({"ClientID": ""}, NO_CLIENT),
    "no channel": ({"Channel": ""}, NO_CHANNEL),
    "trailing dot": ({"Channel": "{c}."}, TRAILING_DOT),
    "leading dot": ({"Channel": ".{c}"}, EMPTY_TOKEN),
    "two dots": ({"Channel": "{c}..x"}, EMPTY_TOKEN),
    "blank": ({"Channel": "{c} x"}, BLANK),
    "tab": ({"Channel": "{c}\tx"}, BLANK),
    "semicolon": ({"Channel": "{c};x"}, WILDCARD),
    "long": ({"Channel": "{c}" + "n" * 256}, LONG_CHANNEL),
    "start position": ({"EventsStoreTypeData": Subscribe.StartNewOnly}, STORE_FIELDS),
    "no type": ({"SubscribeTypeData": Subscribe.SubscribeTypeUndefined}, SUBSCRIBE_TYPE),
    "commands": ({"SubscribeTypeData": Subscribe.Commands}, SUBSCRIBE_TYPE),
    "queries": ({"SubscribeTypeData": Subscribe.Queries}, SUBSCRIBE_TYPE),
    "unknown type": ({"SubscribeTypeData": 99}, SUBSCRIBE_TYPE),
    "blank in group": ({"Group": "g 1"}, GROUP_NAME),
}


def _apply(message, fields, channel):
    """Sets `fields` on a good message."""
    for field, value in fields.items():
        if isinstance(value, str):
            value = value.replace("{c}", channel)
        if isinstance(value, dict):
            getattr(message, field).update(value)
        else:
            setattr(message, field, value)
    return message


@pytest.mark.parametrize("case", EVENTS)
def test_unary_event_is_refused_with_internal_and_the_text(wire, name, case):
    fields, text = EVENTS[case]
    status = wire.refused("SendEvent", _apply(event(name()), fields, name()))
    assert status == ("INTERNAL", text)


def test_streamed_events_are_refused_with_the_same_texts(wire, name):
    stream = wire.publish_stream()
    for index, (fields, _) in enumerate(EVENTS.values()):
        stream.send(_apply(event(name(), EventID=f"id-{index}"), fields, name()))
    results = {result.EventID: result for result in stream.wait(len(EVENTS))}
    for index, (case, (_, text)) in enumerate(EVENTS.items()):
        result = results[f"id-{index}"]
        assert (result.Sent, result.Error) == (False, text), case


@pytest.mark.parametrize("case", SUBSCRIPTIONS)
def test_subscription_is_refused_with_internal_and_the_text(wire, name, case):
    fields, text = SUBSCRIPTIONS[case]
    request = _apply(events_of(name()), fields, name())
    try:
        for _ in wire.stub.SubscribeToEvents(request, timeout=20):
            raise AssertionError("a message on a refused subscription")
        raise AssertionError("a refused subscription ended with OK")
    except Exception as error:
        if not hasattr(error, "code"):
            raise
        assert (error.code().name, error.details()) == ("INTERNAL", text)


def test_unary_event_that_is_not_protobuf_is_refused_with_internal(wire):
    send = wire.channel.unary_unary("/kubemq.kubemq/SendEvent")
    with pytest.raises(Exception) as caught:
        send(b"\xff\xff\xff", timeout=20)
    assert caught.value.code().name == "INTERNAL"


def test_invalid_utf8_is_refused(wire, name):
    send = wire.channel.unary_unary(
        "/kubemq.kubemq/SendEvent", response_deserializer=pb.Result.FromString
    )
    good = event(name()).SerializeToString()
    for field in (1, 2, 3, 4):  # EventID, ClientID, Channel, Metadata
        with pytest.raises(Exception) as caught:
            send(good + bytes([field << 3 | 2, 2, 0xFF, 0xFE]), timeout=20)
        assert caught.value.code().name == "INTERNAL"
        assert caught.value.details() == "string field contains invalid UTF-8"
    tag = b"\x3a\x07\x0a\x01k\x12\x02\xff\xfe"  # Tags, key "k"
    with pytest.raises(Exception) as caught:
        send(good + tag, timeout=20)
    assert caught.value.details() == "string field contains invalid UTF-8"
    assert send(good, timeout=20).Sent
