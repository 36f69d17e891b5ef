"""The rules at the head of the SDK specification that events, stored events and requests are about.

Rules 1 to 4, 8, 13 and 14 are in test_rules_queues.py, rule 12 (pings) is in test_keepalive.py.
"""

import time

import grpc
import pytest

from contract import pb
from wire import (
    DEADLINE,
    Client,
    Request,
    Subscribe,
    assert_on_time,
    event,
    request,
    status_of,
    timed,
)


def test_rule_05_subscriptions_do_not_end_while_the_connection_lives(wire, name):
    streams = [
        wire.events(name()),
        wire.events(name() + ".>", "g"),
        wire.silent(name(), Subscribe.Commands),
        wire.silent(name(), Subscribe.Queries, "g"),
        wire.stored(name()),
        wire.stored(name("g"), Group="g"),
    ]
    # Neither refusals nor timeouts nor the end of other calls touch them.
    wire.refused("SendEvent", event(""))
    wire.refused("SendEvent", event("", Store=True))
    wire.refused("SendRequest", request(name(), timeout=300))
    other = wire.publish_stream()
    other.half_close()
    assert other.end().code == "OK"
    for stream in streams:
        stream.stays_open(1)


def test_rule_05_on_shutdown_subscriptions_end_with_unavailable(start_broker, name):
    broker = start_broker()
    client = Client(broker.address)
    streams = [
        client.events(name()),
        client.silent(name(), Subscribe.Commands),
        client.silent(name(), Subscribe.Queries),
        client.stored(name()),
    ]
    broker.terminate()
    assert {stream.end().code for stream in streams} == {"UNAVAILABLE"}
    assert broker.wait() == 0
    client.close()


@pytest.mark.parametrize("kind", [Request.Command, Request.Query], ids=["command", "query"])
def test_rule_06_timeout_is_internal_with_the_word_timeout_and_on_time(wire, name, kind):
    wire.ping()
    message = request(name(), kind=kind, timeout=1000)
    status, seconds = timed(lambda: wire.refused("SendRequest", message))
    assert status.code == "INTERNAL"
    assert "timeout" in status.details.lower()
    assert_on_time(seconds, 1)


def test_rule_07_internal_texts_never_look_like_a_lost_connection(wire, name):
    refusals = [
        wire.refused("SendEvent", event("")),
        wire.refused("SendEvent", event(name(), ClientID="")),
        wire.refused("SendEvent", event(name() + ".")),
        wire.refused("SendRequest", request(name(), timeout=0)),
        wire.refused("SendRequest", request(name(), timeout=200)),
        wire.refused("SendResponse", pb.Response()),
        wire.refused("SendEvent", event(name() + ".*", Store=True)),
        wire.open_stored(name(), 0).end(),
        wire.open_stored(name(), Subscribe.StartAtSequence).end(),
        wire.open_stored(name() + ".>").end(),
    ]
    wire.stored(name(), ClientID="held")
    refusals.append(wire.open_stored(name(), ClientID="held").end())
    good = {"ClientID": "c", "Channel": name()}
    for method, subscription in (
        ("SubscribeToEvents", pb.Subscribe(**good)),
        ("SubscribeToEvents", pb.Subscribe(SubscribeTypeData=Subscribe.Events, ClientID="c")),
        (
            "SubscribeToEvents",
            pb.Subscribe(SubscribeTypeData=Subscribe.Events, Group="a b", **good),
        ),
        ("SubscribeToRequests", pb.Subscribe(**good)),
        ("SubscribeToRequests", pb.Subscribe(SubscribeTypeData=Subscribe.Commands, Channel="c")),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            next(getattr(wire.stub, method)(subscription, timeout=DEADLINE))
        refusals.append(status_of(caught.value))
    for path in ("SendEvent", "SendRequest", "SendResponse"):
        with pytest.raises(grpc.RpcError) as caught:
            wire.channel.unary_unary("/kubemq.kubemq/" + path)(b"\xff\xff", timeout=DEADLINE)
        refusals.append(status_of(caught.value))
    for status in refusals:
        assert status.code == "INTERNAL", status
        for word in ("transport", "connection", "RST_STREAM"):
            assert word not in status.details


def test_rule_09_one_client_id_may_hold_many_subscriptions(wire, name):
    readers = {name(str(index)): wire.events(name(str(index))) for index in range(10)}
    wire.silent(name("c"), Subscribe.Commands)
    wire.connect().silent(name("q"), Subscribe.Queries)
    for channel in readers:
        wire.publish(channel)
    for reader in readers.values():
        reader.wait(1)


def test_rule_09_one_client_id_may_read_several_stored_channels(wire, name):
    readers = {name(str(index)): wire.stored(name(str(index))) for index in range(10)}
    for channel in readers:
        wire.store(channel)
    for reader in readers.values():
        reader.wait(1)


def test_rule_10_event_timestamps_are_nanoseconds(wire, name):
    reader = wire.events(name())
    before = time.time_ns()
    wire.publish(name())
    wire.publish_stream().send(event(name()))
    for received in reader.wait(2):
        assert before - 10**9 <= received.Timestamp <= time.time_ns() + 10**9
    wire.store(name())
    (received,) = wire.stored(name()).wait(1)
    assert before - 10**9 <= received.Timestamp <= time.time_ns() + 10**9


def test_rule_11_ping_needs_no_token_and_is_quick(wire):
    wire.ping()
    seconds = [timed(wire.ping)[1] for _ in range(20)]
    assert max(seconds) < 5, "the limit of the C# SDK's heartbeat"
    pong = wire.stub.Ping(pb.Empty(), timeout=5, metadata=[("authorization", "a token")])
    assert pong.Host
