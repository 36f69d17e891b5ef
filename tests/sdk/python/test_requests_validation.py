"""Every refusal of a request, a response and a responder's subscription, with its text."""

import grpc
import pytest

from contract import pb
from wire import Request, Subscribe, request, status_of

NO_CLIENT = "Error 101: invalid clientID value, cannot be empty"
NO_CHANNEL = "Error 102: invalid channel value, cannot be empty"
LONG_CHANNEL = "Error 102: invalid channel value, longer than 256 bytes"
WILDCARD = "Error 107: invalid channel value, no wildcards are allowed"
BLANK = "Error 108: invalid channel value, no white spaces are allowed"
TIMEOUT = "Error 109: invalid set timeout value, cannot be 0 or negative"
EMPTY = "Error 115: invalid request, cannot be empty"
CACHE = "Error 116: invalid cache ttl value, cannot be 0 or negative"
NO_REQUEST_ID = "Error 117: invalid request id, cannot be empty"
TRAILING_DOT = "Error 119: invalid channel value, cannot end with `.`"
EMPTY_TOKEN = "Error 119: invalid channel value, tokens cannot be empty"
REQUEST_TYPE = "Error 206: invalid request type"
SUBSCRIBE_TYPE = "Error 207: invalid subscribe type"

REQUESTS = {
    "no client": ({"ClientID": ""}, NO_CLIENT),
    "no channel": ({"Channel": ""}, NO_CHANNEL),
    "trailing dot": ({"Channel": "{c}."}, TRAILING_DOT),
    "two dots": ({"Channel": "{c}..x"}, EMPTY_TOKEN),
    "blank": ({"Channel": "{c} x"}, BLANK),
    "control character": ({"Channel": "{c}\nx"}, BLANK),
    "star": ({"Channel": "{c}.*"}, WILDCARD),
    "greater": ({"Channel": "{c}.>"}, WILDCARD),
    "long": ({"Channel": "{c}" + "n" * 256}, LONG_CHANNEL),
    "timeout 0": ({"Timeout": 0}, TIMEOUT),
    "timeout negative": ({"Timeout": -1}, TIMEOUT),
    "no body and no metadata": ({"Body": b""}, EMPTY),
    "tags are no body": ({"Body": b"", "Tags": {"a": "b"}}, EMPTY),
    "cache key without lifetime": ({"CacheKey": "k"}, CACHE),
    "cache key with negative lifetime": ({"CacheKey": "k", "CacheTTL": -1}, CACHE),
    "client before channel": ({"ClientID": "", "Channel": ""}, NO_CLIENT),
    "channel before timeout": ({"Channel": "{c}.*", "Timeout": 0}, WILDCARD),
    "timeout before body": ({"Timeout": 0, "Body": b""}, TIMEOUT),
    "body before cache": ({"Body": b"", "CacheKey": "k"}, EMPTY),
}

RESPONSES = {
    "no client": ({"ClientID": ""}, NO_CLIENT),
    "no reply channel": ({"ReplyChannel": ""}, NO_CHANNEL),
    "no request id": ({"RequestID": ""}, NO_REQUEST_ID),
    "trailing dot": ({"ReplyChannel": "x."}, TRAILING_DOT),
    "blank": ({"ReplyChannel": "x y"}, BLANK),
    "star": ({"ReplyChannel": "x.*"}, WILDCARD),
}

SUBSCRIPTIONS = {
    "no client": ({"ClientID": ""}, NO_CLIENT),
    "no channel": ({"Channel": ""}, NO_CHANNEL),
    "trailing dot": ({"Channel": "{c}."}, TRAILING_DOT),
    "two dots": ({"Channel": "{c}..x"}, EMPTY_TOKEN),
    "blank": ({"Channel": "{c} x"}, BLANK),
    "semicolon": ({"Channel": "{c};x"}, WILDCARD),
    "no type": ({"SubscribeTypeData": Subscribe.SubscribeTypeUndefined}, SUBSCRIBE_TYPE),
    "events": ({"SubscribeTypeData": Subscribe.Events}, SUBSCRIBE_TYPE),
    "unknown type": ({"SubscribeTypeData": 99}, SUBSCRIBE_TYPE),
}


def _filled(fields, channel):
    """Puts the test's own channel name into `fields`."""
    return {
        field: value.replace("{c}", channel) if isinstance(value, str) else value
        for field, value in fields.items()
    }


@pytest.mark.parametrize("kind", [Request.Command, Request.Query], ids=["command", "query"])
@pytest.mark.parametrize("case", REQUESTS)
def test_request_is_refused_with_internal_and_the_text(wire, name, kind, case):
    fields, text = REQUESTS[case]
    message = request(name(), kind=kind)
    message.MergeFrom(pb.Request(**_filled(fields, name())))
    for field, value in _filled(fields, name()).items():
        if not isinstance(value, dict):  # MergeFrom leaves out what is empty.
            setattr(message, field, value)
    assert wire.refused("SendRequest", message) == ("INTERNAL", text)


@pytest.mark.parametrize("kind", [0, 9])
def test_request_of_no_known_type_is_refused(wire, name, kind):
    assert wire.refused("SendRequest", request(name(), kind=kind)) == ("INTERNAL", REQUEST_TYPE)


@pytest.mark.parametrize("case", RESPONSES)
def test_response_is_refused_with_internal_and_the_text(wire, case):
    fields, text = RESPONSES[case]
    response = pb.Response(**{"ClientID": "r", "RequestID": "r", "ReplyChannel": "x", **fields})
    assert wire.refused("SendResponse", response) == ("INTERNAL", text)


@pytest.mark.parametrize("case", SUBSCRIPTIONS)
def test_responders_subscription_is_refused_with_internal_and_the_text(wire, name, case):
    fields, text = SUBSCRIPTIONS[case]
    good = {"SubscribeTypeData": Subscribe.Commands, "ClientID": "responder", "Channel": name()}
    message = pb.Subscribe(**{**good, **_filled(fields, name())})
    with pytest.raises(grpc.RpcError) as caught:
        next(wire.stub.SubscribeToRequests(message, timeout=20))
    assert status_of(caught.value) == ("INTERNAL", text)


def test_invalid_utf8_in_a_request_is_refused(wire, name):
    send = wire.channel.unary_unary("/kubemq.kubemq/SendRequest")
    good = request(name(), timeout=500).SerializeToString()
    for field in (1, 3, 4, 5):  # RequestID, ClientID, Channel, Metadata
        with pytest.raises(grpc.RpcError) as caught:
            send(good + bytes([field << 3 | 2, 2, 0xFF, 0xFE]), timeout=20)
        assert status_of(caught.value) == ("INTERNAL", "string field contains invalid UTF-8")


def test_invalid_utf8_in_a_response_is_refused(wire):
    send = wire.channel.unary_unary("/kubemq.kubemq/SendResponse")
    good = pb.Response(ClientID="r", RequestID="r", ReplyChannel="x").SerializeToString()
    for field in (1, 2, 3, 4, 9):  # ClientID, RequestID, ReplyChannel, Metadata, Error
        with pytest.raises(grpc.RpcError) as caught:
            send(good + bytes([field << 3 | 2, 2, 0xFF, 0xFE]), timeout=20)
        assert status_of(caught.value) == ("INTERNAL", "string field contains invalid UTF-8")
