"""SIGTERM: streams end with UNAVAILABLE, what runs is finished, the exit code is 0."""

import signal
import socket

import grpc
import pytest

from wire import (
    DEADLINE,
    Client,
    Reader,
    Subscribe,
    event,
    events_of,
    eventually,
    status_of,
)


@pytest.fixture
def broker(start_broker):
    return start_broker()


@pytest.fixture
def client(broker):
    client = Client(broker.address)
    yield client
    client.close()


def test_streams_end_with_unavailable_and_the_broker_exits_0(broker, client, name):
    publisher = client.publish_stream().ready()
    streams = [
        client.events(name()),
        client.connect().events(name() + ".>", "group"),
        client.silent(name(), Subscribe.Commands),
        client.connect().silent(name(), Subscribe.Queries, "group"),
        publisher,
    ]
    streams[0].stays_at(0, seconds=0.05)
    broker.terminate()
    for stream in streams:
        assert stream.end().code == "UNAVAILABLE"
    assert broker.wait() == 0, broker.log()


def test_interrupt_ends_the_broker_like_a_termination(broker, client, name):
    reader = client.events(name())
    broker.process.send_signal(signal.SIGINT)
    assert reader.end().code == "UNAVAILABLE"
    assert broker.wait() == 0, broker.log()


def test_idle_broker_exits_0(broker):
    broker.terminate()
    assert broker.wait() == 0, broker.log()


def test_events_taken_before_the_signal_are_delivered(broker, client, name):
    channel = name()
    reader = client.connect().events(channel)
    for index in range(200):
        assert client.publish(channel, b"%d" % index).Sent
    broker.terminate()
    assert reader.end().code == "UNAVAILABLE"
    assert reader.bodies() == [b"%d" % index for index in range(200)]


def test_running_request_comes_to_an_end(broker, client, name):
    """A request that waits is answered or refused, never left hanging."""
    channel = name()
    responder = client.connect().silent(channel)
    asking = client.ask_later(channel, timeout=2000)
    responder.wait(1)
    broker.terminate()
    try:
        asking.result(timeout=DEADLINE)
        raise AssertionError("nobody answered, yet there is a response")
    except grpc.RpcError as error:
        assert status_of(error).code in ("INTERNAL", "UNAVAILABLE")
    assert broker.wait() == 0, broker.log()


def test_new_connections_are_refused_after_the_end(broker, client):
    client.ping()
    broker.terminate()
    assert broker.wait() == 0, broker.log()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", broker.port), timeout=5).close()


def test_subscriber_finds_the_broker_again_on_the_same_port(start_broker, name):
    broker = start_broker()
    client = Client(broker.address)
    reader = client.events(name())
    port = broker.port
    broker.terminate()
    assert reader.end().code == "UNAVAILABLE"
    assert broker.wait() == 0
    start_broker(port)

    def subscribed_again():
        again = Reader(client.stub.SubscribeToEvents(events_of(name()), wait_for_ready=True))
        try:
            return client.keep(again.ready())
        except AssertionError:
            return None

    again = eventually(subscribed_again, "the subscription is back")
    assert client.stub.SendEvent(event(name()), timeout=DEADLINE, wait_for_ready=True).Sent
    again.wait(1)
    client.close()
