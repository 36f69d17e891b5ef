"""Keepalive pings as the SDKs send them, and more often. A proxy counts them on the wire."""

import threading
import time

import grpc
import pytest

from proxy import GOAWAY, PING, FrameCounter
from wire import Client, eventually


class Pinging:
    """A connection through a frame counter that pings every `seconds`, with or without calls."""

    def __init__(self, address, seconds):
        self.proxy = FrameCounter(address)
        self.client = Client(
            self.proxy.address,
            **{
                "grpc.keepalive_time_ms": int(seconds * 1000),
                "grpc.keepalive_timeout_ms": 20_000,
                "grpc.keepalive_permit_without_calls": 1,
                "grpc.http2.max_pings_without_data": 0,
            },
        )
        self.client.ping()

    def pings(self):
        return self.proxy.to_server[PING, False]

    def assert_survived(self, pings):
        """Checks that `pings` were sent and answered on one connection, and that it still works."""
        eventually(
            lambda: self.proxy.to_client[PING, True] >= self.pings() >= pings,
            f"{pings} answered pings",
        )
        assert self.proxy.to_client[GOAWAY, False] == 0
        self.client.ping()
        assert self.proxy.connections == 1, "the client had to connect again"

    def close(self):
        self.client.close()
        self.proxy.close()


@pytest.fixture
def pinging(address):
    opened = []

    def open_(seconds):
        opened.append(Pinging(address, seconds))
        return opened[-1]

    yield open_
    for connection in opened:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(260)
def test_rule_12_idle_connections_with_pings_every_five_seconds_live_for_two_minutes(
    pinging, wire, name
):
    without_calls, with_subscription = pinging(5), pinging(5)
    reader = with_subscription.client.events(name())
    start = time.monotonic()
    reader.stays_open(121)
    assert time.monotonic() - start >= 120
    for connection in (without_calls, with_subscription):
        connection.assert_survived(20)
    wire.publish(name(), b"still there")
    reader.wait(1)


def test_pings_each_second_are_tolerated(pinging, wire, name):
    connection = pinging(1)
    reader = connection.client.events(name())
    eventually(lambda: connection.pings() >= 10, "ten pings", deadline=60)
    connection.assert_survived(10)
    wire.publish(name())
    reader.wait(1)


def test_pings_beside_traffic_are_tolerated(pinging, name):
    connection = pinging(1)
    channel = name()
    reader = connection.client.events(channel)
    sent = 0
    while connection.pings() < 3:
        connection.client.publish(channel, b"%d" % sent)
        sent += 1
    reader.wait(sent)
    connection.assert_survived(3)


def test_idle_connection_is_not_closed_for_being_idle(address):
    """Some SDKs never reconnect after a server closed an idle connection."""
    client = Client(address)
    client.ping()
    states = []
    left = threading.Event()

    def note(state):
        states.append(state)
        if grpc.ChannelConnectivity.READY in states and state != grpc.ChannelConnectivity.READY:
            left.set()

    client.channel.subscribe(note)
    eventually(lambda: grpc.ChannelConnectivity.READY in states, "the connection is ready")
    assert not left.wait(20), f"the connection was left: {states}"
    client.close()
