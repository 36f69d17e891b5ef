"""The published SDK, its synchronous clients."""

import contextlib
import threading
import time
from datetime import datetime, timedelta

import grpc
import pytest
from kubemq import (
    CancellationToken,
    ClientConfig,
    CommandMessage,
    CommandResponse,
    CommandsSubscription,
    CQClient,
    EventMessage,
    EventsStoreSubscription,
    EventsSubscription,
    EventStoreMessage,
    KeepAliveConfig,
    PubSubClient,
    QueriesSubscription,
    QueryMessage,
    QueryResponse,
)
from kubemq.pubsub.events_store_subscription import EventStoreStartPosition

from wire import Client, assert_on_time, eventually, timed


@pytest.fixture
def pubsub(address):
    with PubSubClient(address=address, client_id="sdk-pubsub") as client:
        yield client


@pytest.fixture
def cq(address):
    with CQClient(address=address, client_id="sdk-cq") as client:
        yield client


class Events:
    """A subscription of the SDK; active when made."""

    def __init__(self, client, wire, channel, group="", probe=None):
        self.events, self.errors = [], []
        self._warm = threading.Event()
        self.token = CancellationToken()
        client.subscribe_to_events(
            EventsSubscription(
                channel=channel,
                group=group,
                on_receive_event_callback=self._take,
                on_error_callback=self.errors.append,
            ),
            self.token,
        )

        # The SDK does not say when the subscription is active: events tell.
        def arrived():
            wire.publish(probe or channel, b"warm up")
            return self._warm.wait(0.2)

        eventually(arrived, "the subscription is active", pause=0)

    def _take(self, event):
        if event.body == b"warm up":
            self._warm.set()
        else:
            self.events.append(event)

    def wait(self, count):
        eventually(lambda: len(self.events) >= count, f"{count} events, errors {self.errors}")
        return list(self.events)

    def bodies(self):
        return [event.body for event in self.events]


def answering(client, channel, answer, kind="query", group=""):
    """Subscribes a responder of the SDK; `answer(received)` gives the fields of the response."""
    received = []

    def take(request):
        received.append(request)
        fields = {"is_executed": True, **answer(request)}
        if kind == "query":
            client.send_response_message(QueryResponse(query_received=request, **fields))
        else:
            client.send_response_message(CommandResponse(command_received=request, **fields))

    if kind == "query":
        subscription = QueriesSubscription(
            channel=channel, group=group, on_receive_query_callback=take
        )
        client.subscribe_to_queries(subscription, CancellationToken())
    else:
        subscription = CommandsSubscription(
            channel=channel, group=group, on_receive_command_callback=take
        )
        client.subscribe_to_commands(subscription, CancellationToken())
    return received


def first_answer(send, message):
    """Sends until the responder is subscribed: the SDK does not say when it is."""

    def answered():
        try:
            return send(message)
        except grpc.RpcError as error:
            assert error.details() == "Error 301: timeout for request message"
            return None

    return eventually(answered, "the responder answers")


def test_client_connects_and_pings(pubsub):
    info = pubsub.ping()
    assert info.host and info.version.startswith("v2.")
    assert info.server_start_time > 0


def test_unary_event_reaches_a_subscription(pubsub, wire, name):
    channel = name()
    got = Events(pubsub, wire, channel)
    message = EventMessage(channel=channel, body=b"hello", metadata="m", tags={"k": "v"}, id="id-1")
    pubsub.send_event(message)
    (event,) = got.wait(1)
    assert (event.id, event.channel, event.metadata, event.body) == ("id-1", channel, "m", b"hello")
    assert event.tags == {"k": "v"}
    assert got.errors == []


def test_streamed_events_arrive_in_order(pubsub, wire, name):
    channel = name()
    got = Events(pubsub, wire, channel)
    for index in range(500):
        pubsub.publish_event(EventMessage(channel=channel, body=b"%d" % index))
    got.wait(500)
    assert got.bodies() == [b"%d" % index for index in range(500)]


def test_publishers_client_id_tag_is_shown(pubsub, wire, name):
    channel = name()
    got = Events(pubsub, wire, channel)
    tags = {"x-kubemq-client-id": "someone"}
    pubsub.send_event(EventMessage(channel=channel, body=b"x", tags=tags))
    assert got.wait(1)[0].from_client_id == "someone"


def test_wildcard_subscription(pubsub, wire, name):
    base = name()
    got = Events(pubsub, wire, base + ".>", probe=base + ".probe")
    pubsub.send_event(EventMessage(channel=base + ".a.b", body=b"x"))
    assert got.wait(1)[0].channel == base + ".a.b"


def test_group_shares_the_events(address, pubsub, wire, name):
    channel = name()
    with PubSubClient(address=address, client_id="member-2") as second:
        members = [Events(pubsub, wire, channel, "g"), Events(second, wire, channel, "g")]
        for index in range(40):
            pubsub.publish_event(EventMessage(channel=channel, body=b"%d" % index))
        bodies = eventually(
            lambda: (
                (all_ := members[0].bodies() + members[1].bodies()) and len(all_) >= 40 and all_
            ),
            "40 events in the group",
        )
        assert sorted(bodies) == sorted(b"%d" % index for index in range(40))
        assert members[0].events and members[1].events


def test_cancelled_subscription_stops(pubsub, wire, name):
    channel = name()
    got = Events(pubsub, wire, channel)
    got.token.cancel()
    eventually(lambda: got.errors, "the SDK ends its stream")  # It reports its own cancel.
    pubsub.send_event(EventMessage(channel=channel, body=b"late"))
    wire.events(channel)
    assert got.bodies() == []


class Stored:
    """A subscription of the SDK to stored events."""

    def __init__(self, client, channel, start=EventStoreStartPosition.StartFromFirst, **fields):
        self.events, self.errors = [], []
        self.token = CancellationToken()
        client.subscribe_to_events_store(
            EventsStoreSubscription(
                channel=channel,
                events_store_type=start,
                on_receive_event_callback=self.events.append,
                on_error_callback=self.errors.append,
                **fields,
            ),
            self.token,
        )

    def wait(self, count):
        eventually(lambda: len(self.events) >= count, f"{count} events, errors {self.errors}")
        return list(self.events)

    def sequences(self):
        return [event.sequence for event in self.events]


def send_stored(client, channel, bodies):
    for body in bodies:
        result = client.send_event_store(EventStoreMessage(channel=channel, body=body))
        assert result.sent and not result.error


def test_stored_event_round_trip(pubsub, name):
    channel = name()
    message = EventStoreMessage(
        channel=channel, body=b"hello", metadata="m", tags={"k": "v"}, id="id-1"
    )
    result = pubsub.send_event_store(message)
    assert (result.id, result.sent) == ("id-1", True)
    got = Stored(pubsub, channel)
    (event,) = got.wait(1)
    assert (event.id, event.channel, event.metadata, event.body) == ("id-1", channel, "m", b"hello")
    assert (event.sequence, event.tags) == (1, {"k": "v"})
    assert abs((datetime.now() - event.timestamp).total_seconds()) < 60
    assert got.errors == []


def test_stored_events_of_a_stream_come_back_in_order(pubsub, name):
    channel = name()
    send_stored(pubsub, channel, [b"%d" % index for index in range(200)])
    got = Stored(pubsub, channel)
    got.wait(200)
    assert [event.body for event in got.events] == [b"%d" % index for index in range(200)]
    assert got.sequences() == list(range(1, 201))


def test_start_positions_of_stored_events(address, pubsub, name):
    position = EventStoreStartPosition
    channel = name()
    send_stored(pubsub, channel, [b"1", b"2", b"3"])
    cases = {
        "first": (position.StartFromFirst, {}, [1, 2, 3, 4]),
        "last": (position.StartFromLast, {}, [3, 4]),
        "sequence": (position.StartAtSequence, {"events_store_sequence_value": 2}, [2, 3, 4]),
        "time": (
            position.StartAtTime,
            {"events_store_start_time": datetime.now() - timedelta(minutes=5)},
            [1, 2, 3, 4],
        ),
        "later": (
            position.StartAtTime,
            {"events_store_start_time": datetime.now() + timedelta(minutes=5)},
            [4],
        ),
        "delta": (
            position.StartAtTimeDelta,
            {"events_store_time_delta_seconds": 600},
            [1, 2, 3, 4],
        ),
    }
    with contextlib.ExitStack() as clients:
        readers = {}
        for case, (start, fields, _) in cases.items():
            client = clients.enter_context(PubSubClient(address=address, client_id=case))
            readers[case] = Stored(client, channel, start, **fields)
        for case in set(cases) - {"later"}:
            readers[case].wait(len(cases[case][2]) - 1)
        # Nothing tells when the one that has nothing to read yet is active.
        wire_ = Client(address)
        eventually(
            lambda: wire_.open_stored(channel, ClientID="later").end().code == "INTERNAL",
            "the subscription that waits is active",
        )
        wire_.close()
        send_stored(pubsub, channel, [b"4"])
        for case, (_, _, expected) in cases.items():
            readers[case].wait(len(expected))
            assert readers[case].sequences() == expected, case


def test_group_shares_the_stored_events(address, name):
    channel = name()
    with (
        PubSubClient(address=address, client_id="stored-1") as one,
        PubSubClient(address=address, client_id="stored-2") as two,
    ):
        members = [Stored(client, channel, group="g") for client in (one, two)]

        def all_take_part():
            send_stored(one, channel, [b"warm up"])
            return all(member.events for member in members)

        eventually(all_take_part, "both members are subscribed")
        send_stored(two, channel, [b"%d" % index for index in range(40)])

        def bodies():
            return [
                event.body
                for member in members
                for event in member.events
                if event.body != b"warm up"
            ]

        eventually(lambda: len(bodies()) >= 40, "40 events in the group")
        assert sorted(bodies()) == sorted(b"%d" % index for index in range(40))


def test_returning_client_reads_on_behind_its_position(address, name):
    channel = name()
    with PubSubClient(address=address, client_id="returns") as client:
        send_stored(client, channel, [b"1", b"2"])
        got = Stored(client, channel)
        got.wait(2)
        time.sleep(0.5)  # The position moves when the client's connection has confirmed.
    with PubSubClient(address=address, client_id="returns") as client:
        send_stored(client, channel, [b"3"])
        got = Stored(client, channel)
        got.wait(1)
        assert got.sequences() == [3]


def test_events_of_four_megabytes(address, wire, name):
    channel = name()
    config = ClientConfig(
        address=address, client_id="big", max_send_size=8 << 20, max_receive_size=8 << 20
    )
    with PubSubClient(config=config) as client:
        got = Events(client, wire, channel)
        client.send_event(EventMessage(channel=channel, body=b"x" * (5 << 20)))
        client.publish_event(EventMessage(channel=channel, body=b"y" * (5 << 20)))
        assert [len(event.body) for event in got.wait(2)] == [5 << 20] * 2


def test_command_round_trip(cq, name):
    channel = name()
    received = answering(cq, channel, lambda _: {"tags": {"r": "1"}}, "command")
    message = CommandMessage(
        channel=channel, body=b"do", metadata="m", tags={"t": "1"}, timeout_in_seconds=1, id="id-1"
    )
    response = first_answer(cq.send_command, message)
    assert (response.is_executed, response.error, response.request_id) == (True, "", "id-1")
    assert (response.client_id, response.tags) == ("sdk-cq", {"r": "1"})
    seen = received[-1]
    assert (seen.id, seen.channel, seen.body, seen.metadata) == ("id-1", channel, b"do", "m")
    assert (seen.from_client_id, seen.tags) == ("sdk-cq", {"t": "1"})


def test_query_round_trip(cq, name):
    channel = name()
    answering(cq, channel, lambda q: {"body": b"re: " + q.body, "metadata": "m2"})
    message = QueryMessage(channel=channel, body=b"ask", timeout_in_seconds=1, id="id-1")
    response = first_answer(cq.send_query, message)
    assert (response.is_executed, response.body, response.metadata) == (True, b"re: ask", "m2")
    assert (response.request_id, response.cache_hit) == ("id-1", False)


def test_failure_of_the_responder_is_data(cq, name):
    channel = name()
    answering(cq, channel, lambda _: {"is_executed": False, "error": "no such thing"}, "command")
    response = first_answer(
        cq.send_command, CommandMessage(channel=channel, body=b"x", timeout_in_seconds=1)
    )
    assert (response.is_executed, response.error) == (False, "no such thing")


def test_query_is_cached_for_seconds(cq, name):
    channel = name()
    received = answering(cq, channel, lambda q: {"body": b"answer to " + q.body})

    def message(body, **fields):
        return QueryMessage(channel=channel, body=body, timeout_in_seconds=1, **fields)

    first_answer(cq.send_query, message(b"warm up"))
    before = len(received)
    cached = {"cache_key": "k", "cache_ttl_in_seconds": 600}
    first = cq.send_query(message(b"1", **cached))
    second = cq.send_query(message(b"2", **cached))
    assert (first.cache_hit, first.body) == (False, b"answer to 1")
    assert (second.cache_hit, second.body) == (True, b"answer to 1")
    assert second.request_id != first.request_id
    assert len(received) == before + 1


def test_command_without_a_responder_times_out(cq, name):
    message = CommandMessage(channel=name(), body=b"x", timeout_in_seconds=1)

    def send():
        with pytest.raises(grpc.RpcError) as caught:
            cq.send_command(message)
        return caught.value

    error, seconds = timed(send)
    assert error.code() == grpc.StatusCode.INTERNAL
    assert error.details() == "Error 301: timeout for request message"
    assert_on_time(seconds, 1)


def test_group_of_responders_answers_each_query_once(address, cq, name):
    channel = name()
    with CQClient(address=address, client_id="member-2") as second:
        seen = [answering(client, channel, lambda _: {}, group="g") for client in (cq, second)]
        send = cq.send_query
        message = QueryMessage(channel=channel, body=b"warm up", timeout_in_seconds=1)
        eventually(lambda: first_answer(send, message) and all(seen), "both members are asked")
        for received in seen:
            received.clear()
        for index in range(20):
            body = b"%d" % index
            assert send(QueryMessage(channel=channel, body=body, timeout_in_seconds=10)).is_executed
        bodies = sorted(q.body for received in seen for q in received if q.body != b"warm up")
        assert bodies == sorted(b"%d" % index for index in range(20))


def test_token_and_keepalive_settings_are_accepted(address, wire, name):
    config = ClientConfig(
        address=address,
        client_id="with-token",
        auth_token="some-token",
        keep_alive=KeepAliveConfig(ping_interval_in_seconds=5, ping_timeout_in_seconds=5),
    )
    with PubSubClient(config=config) as client:
        channel = name()
        got = Events(client, wire, channel)
        client.send_event(EventMessage(channel=channel, body=b"x"))
        client.publish_event(EventMessage(channel=channel, body=b"y"))
        got.wait(2)


def test_subscriptions_come_back_after_a_restart(start_broker, name):
    broker = start_broker()
    port, channel = broker.port, name()
    with PubSubClient(address=broker.address, client_id="stays") as client:
        wire = Client(broker.address)
        got = Events(client, wire, channel)
        wire.close()
        broker.terminate()
        assert broker.wait() == 0, broker.log()
        eventually(lambda: got.errors, "the SDK sees the end of its stream")
        wire = Client(start_broker(port).address)

        def delivered():
            wire.publish(channel, b"after the restart")
            return got.bodies()

        eventually(delivered, "events after the restart", deadline=90, pause=0.2)
        wire.close()
