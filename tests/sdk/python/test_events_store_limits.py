"""Limits of stored channels: what is refused, with which text, and what makes room."""

import pytest

from wire import Client, event


@pytest.fixture
def limited(start_broker):
    """Starts a broker with settings of the store and connects to it."""
    clients = []

    def start(**settings):
        args = [part for key, value in settings.items() for part in ("--set", f"store.{key}={value}")]
        clients.append(Client(start_broker(args=args).address))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


def refusal(wire, channel, **fields):
    """Stores an event that must be refused, by a call and over a stream: the text."""
    status = wire.refused("SendEvent", event(channel, Store=True, **fields))
    assert status.code == "RESOURCE_EXHAUSTED"
    stream = wire.publish_stream()
    stream.send(event(channel, EventID="id-1", Store=True, **fields))
    (result,) = stream.wait(1)
    assert (result.EventID, result.Sent, result.Error) == ("id-1", False, status.details)
    stream.half_close()
    assert stream.end().code == "OK"
    return status.details


def test_channel_with_all_its_messages_refuses_more(limited, name):
    wire = limited(max_messages=5)
    channel, other = name(), name("other")
    for _ in range(5):
        wire.store(channel)
    assert "as many messages as it may: 5" in refusal(wire, channel)
    wire.store(other)
    # What was refused has left no gap.
    wire.stored(channel).wait(5)


def test_channel_with_all_its_bytes_refuses_more(limited, name):
    wire = limited(max_queue_size=20_000)
    channel = name()
    for _ in range(4):
        wire.store(channel, b"x" * 4_000)
    assert "as many bytes as it may: 20000" in refusal(wire, channel, body=b"x" * 4_000)
    wire.store(channel, b"small")
    wire.stored(channel).wait(5)


def test_oldest_messages_make_room_if_so_configured(limited, name):
    wire = limited(max_messages=5, when_full="drop-oldest")
    channel = name()
    live = wire.stored(channel, ClientID="live")
    for index in range(12):
        wire.store(channel, b"%d" % index)
        live.wait(index + 1)
    late = wire.stored(channel, ClientID="late")
    late.wait(5)
    late.stays_at(5, seconds=0.1)
    assert late.sequences() == [8, 9, 10, 11, 12]
    wire.store(channel, b"12")
    late.wait(6)
    assert live.wait(13)[-1].Sequence == 13


def test_no_more_channels_than_configured(limited, name):
    wire = limited(max_queues=3)
    for index in range(3):
        wire.store(name(str(index)))
    assert "as many channels as there may be: 3" in refusal(wire, name("more"))
    reader = wire.open_stored(name("more"))
    assert reader.end().code == "RESOURCE_EXHAUSTED"
    wire.store(name("0"))


def test_no_more_subscribers_than_configured(limited, name):
    wire = limited(max_subscribers=2)
    channel = name()
    readers = [wire.stored(channel, ClientID=f"c{index}") for index in range(2)]
    refused = wire.open_stored(channel, ClientID="c2").end()
    assert refused.code == "RESOURCE_EXHAUSTED"
    assert "2" in refused.details
    wire.stored(name("other"), ClientID="c2")
    wire.store(channel)
    for reader in readers:
        reader.wait(1)
