"""Durable positions, groups, and who may hold a client id."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wire import Reader, Subscribe, events_of, eventually, stored_of

NEW, SEQUENCE = Subscribe.StartNewOnly, Subscribe.StartAtSequence
IN_USE = ("INTERNAL", "stan: clientID already registered")


def store(wire, channel, count, first=1):
    for number in range(first, first + count):
        wire.store(channel, b"%d" % number)


def leave(reader):
    """Ends a subscription whose events have all been confirmed."""
    reader.stays_at(len(reader.messages), seconds=0.5)
    reader.cancel()
    assert reader.end().code == "CANCELLED"


def again(wire, channel, **fields):
    """Subscribes as soon as the broker has seen that the one before has left."""

    def subscribed():
        reader = wire.open_stored(channel, **fields)
        try:
            return reader.ready()
        except AssertionError:
            assert reader.status == IN_USE
            return None

    return eventually(subscribed, "the client id is free")


@pytest.mark.parametrize("kind", ["first", "new", "sequence 1", "sequence last + 1"])
def test_who_returns_reads_on_behind_its_position(wire, name, kind):
    channel = name()
    store(wire, channel, 3)
    reader = wire.stored(channel, ClientID="returns")
    reader.wait(3)
    leave(reader)
    store(wire, channel, 2, first=4)
    start = {
        "first": {},
        "new": {"kind": NEW},
        "sequence 1": {"kind": SEQUENCE, "value": 1},
        "sequence last + 1": {"kind": SEQUENCE, "value": 4},
    }[kind]
    reader = again(wire, channel, ClientID="returns", **start)
    reader.wait(2)
    store(wire, channel, 1, first=6)
    reader.wait(3)
    assert reader.sequences() == [4, 5, 6]


def test_position_is_of_the_channel(wire, name):
    first, second = name("1"), name("2")
    for channel in (first, second):
        store(wire, channel, 2)
    reader = wire.stored(first, ClientID="one-id")
    reader.wait(2)
    leave(reader)
    reader = wire.stored(second, ClientID="one-id")
    reader.wait(2)
    assert reader.sequences() == [1, 2]


def test_another_client_starts_where_it_asks(wire, name):
    channel = name()
    store(wire, channel, 3)
    wire.stored(channel, ClientID="a").wait(3)
    other = wire.stored(channel, SEQUENCE, 2, ClientID="b")
    other.wait(2)
    assert other.sequences() == [2, 3]


def test_position_of_a_group_belongs_to_its_members(wire, name):
    channel = name()
    store(wire, channel, 3)
    reader = wire.stored(channel, Group="g", ClientID="a")
    reader.wait(3)
    leave(reader)
    store(wire, channel, 2, first=4)
    # Another client, another start position: the group reads on.
    reader = wire.stored(channel, Group="g", ClientID="b")
    reader.wait(2)
    assert reader.sequences() == [4, 5]
    # The group's position is not the client's.
    leave(reader)
    alone = again(wire, channel, ClientID="b")
    alone.wait(5)
    assert alone.sequences() == [1, 2, 3, 4, 5]


def test_two_members_share_the_events_about_evenly(wire, name):
    channel = name()
    members = [wire.connect().stored(channel, NEW, Group="g", ClientID=c) for c in "ab"]
    others = wire.connect().stored(channel, NEW, Group="other", ClientID="c")
    store(wire, channel, 50)
    eventually(lambda: sum(len(m.messages) for m in members) >= 50, "50 events in the group")
    others.wait(50)
    assert others.sequences() == list(range(1, 51))
    together = sorted(members[0].sequences() + members[1].sequences())
    assert together == list(range(1, 51)), "each event goes to one member"
    assert 20 <= len(members[0].messages) <= 30
    for member in members:
        assert member.sequences() == sorted(member.sequences())


def test_members_share_a_backlog(wire, name):
    channel = name()
    members = [wire.connect().stored(channel, NEW, Group="g", ClientID=c) for c in "abc"]
    wire.store_all(channel, [b"%d" % number for number in range(3000)])
    eventually(lambda: sum(len(m.messages) for m in members) >= 3000, "all events in the group")
    together = sorted(sequence for member in members for sequence in member.sequences())
    assert together == list(range(1, 3001))
    assert all(len(member.messages) > 300 for member in members), "all take part"


def test_client_id_is_refused_a_second_time_on_the_same_channel(wire, name):
    channel = name()
    first = wire.stored(channel, ClientID="held")
    for fields in ({}, {"Group": "g"}):
        second = wire.connect().open_stored(channel, ClientID="held", **fields)
        assert second.end() == IN_USE
    # A member of a group holds its id as well.
    member = wire.stored(channel, ClientID="member", Group="g")
    assert wire.connect().open_stored(channel, ClientID="member").end() == IN_USE
    assert wire.connect().open_stored(channel, ClientID="member", Group="g").end() == IN_USE
    store(wire, channel, 1)
    first.wait(1)
    member.wait(1)
    first.stays_open(0.2)


def test_client_id_is_free_on_other_channels_and_for_plain_events(wire, name):
    readers = [wire.stored(name(str(index)), ClientID="many") for index in range(5)]
    plain = wire.keep(Reader(wire.stub.SubscribeToEvents(events_of(name("0"), ClientID="many"))))
    plain.ready()
    for index, reader in enumerate(readers):
        store(wire, name(str(index)), 1)
        reader.wait(1)


def test_client_id_is_free_when_its_subscription_has_ended(wire, name):
    channel = name()
    for _ in range(3):
        reader = again(wire, channel, ClientID="comes-and-goes")
        reader.cancel()
        reader.end()
    connection = wire.connect()
    again(connection, channel, ClientID="comes-and-goes")
    connection.close()
    again(wire, channel, ClientID="comes-and-goes")


def test_slow_reader_misses_nothing(wire, name):
    channel = name()
    # Its messages are not read: the flow control window closes.
    stuck = wire.keep(wire.connect().stub.SubscribeToEvents(stored_of(channel, ClientID="slow")))
    stuck.initial_metadata()
    body = b"x" * 16_384
    wire.store_all(channel, [b"%08d" % index + body for index in range(1500)])
    other = wire.connect().stored(channel, ClientID="quick")
    other.wait(1500)
    late = wire.keep(Reader(stuck))
    late.wait(1500)
    assert late.sequences() == list(range(1, 1501))
    assert [int(text[:8]) for text in late.bodies()] == list(range(1500))


VICTIM = """
import sys, time
from wire import Client
client = Client(sys.argv[1])
reader = client.stored(sys.argv[2], int(sys.argv[3]), ClientID=sys.argv[4], Group=sys.argv[5])
reader.wait(int(sys.argv[6]))
time.sleep(0.5)
print("subscribed", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def victim(wire, channel, client, group="", kind=Subscribe.StartFromFirst, count=0):
    """A subscriber in a process of its own, that has received `count` events."""
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, wire.address, channel, str(kind), client, group, str(count)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().strip() == "subscribed"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_successor_takes_the_client_id_of_a_dead_connection_over(wire, name):
    channel = name()
    store(wire, channel, 3)
    with victim(wire, channel, "dies", count=3) as process:
        assert wire.open_stored(channel, ClientID="dies").end() == IN_USE
        # Frozen, not ended: its connection stays open and nobody answers on it.
        process.send_signal(signal.SIGSTOP)
        store(wire, channel, 2, first=4)
        start = time.monotonic()
        successor = wire.open_stored(channel, ClientID="dies")
        successor.ready()
        assert time.monotonic() - start < 10, "a second of patience, and a busy machine"
        successor.wait(2)
        assert successor.sequences() == [4, 5]


def test_what_a_dead_member_had_not_confirmed_goes_to_the_others(wire, name):
    channel = name()
    staying = wire.stored(channel, NEW, ClientID="stays", Group="g")
    with victim(wire, channel, "dies", "g", NEW) as process:
        process.send_signal(signal.SIGSTOP)
        store(wire, channel, 40)
        staying.wait(10)
        process.kill()
        staying.wait(40)
    staying.stays_at(40, seconds=0.2)
    assert sorted(staying.sequences()) == list(range(1, 41))
