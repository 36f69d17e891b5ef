"""Subscribers that are slow, that leave, and that vanish."""

import os
import subprocess
import sys
from pathlib import Path

from wire import Reader, event, events_of, eventually


def test_subscriber_that_does_not_read_blocks_nobody(wire, name):
    channel = name()
    # Its headers are read, its messages are not: the flow control window closes.
    stuck = wire.keep(wire.connect().stub.SubscribeToEvents(events_of(channel)))
    stuck.initial_metadata()
    reader = wire.connect().events(channel)
    stream = wire.publish_stream()
    body, burst, bursts = b"x" * 16_384, 40, 40
    for round_ in range(bursts):
        for index in range(burst):
            stream.send(event(channel, b"%08d" % (round_ * burst + index) + body))
        # One burst at a time: the other subscriber reads, it must miss nothing.
        reader.wait((round_ + 1) * burst)
    numbers = [int(text[:8]) for text in reader.bodies()]
    assert numbers == list(range(bursts * burst))
    # When it reads again, what it gets is in order, and new events reach it.
    late = wire.keep(Reader(stuck))

    def caught_up():
        wire.publish(channel, b"new")
        return late.messages and late.messages[-1].Body == b"new"

    eventually(caught_up, "new events at the slow subscriber", pause=0.05)
    numbers = [int(text[:8]) for text in late.bodies() if text != b"new"]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0


def test_cancelled_subscription_gets_nothing_more(wire, name):
    channel = name()
    leaving, staying = wire.events(channel), wire.events(channel)
    wire.publish(channel, b"1")
    leaving.wait(1)
    leaving.cancel()
    assert leaving.end().code == "CANCELLED"
    wire.publish(channel, b"2")
    staying.wait(2)
    assert leaving.bodies() == [b"1"]


def test_group_goes_on_when_a_member_leaves(wire, name):
    channel = name()
    leaving, staying = wire.connect().events(channel, "g"), wire.connect().events(channel, "g")
    leaving.cancel()
    leaving.end()
    eventually(
        lambda: _whole_batch_reaches(wire, channel, staying), "every event at the member left"
    )


def test_group_goes_on_when_a_member_is_killed(wire, name):
    channel = name()
    staying = wire.connect().events(channel, "g")
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, wire.address, channel],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert victim.stdout.readline().strip() == "subscribed"
    finally:
        victim.kill()
        victim.wait()
        victim.stdout.close()
    eventually(
        lambda: _whole_batch_reaches(wire, channel, staying), "every event at the member left"
    )


_VICTIM = """
import sys, time
from wire import Client
client = Client(sys.argv[1])
client.events(sys.argv[2], "g")
print("subscribed", flush=True)
time.sleep(600)
"""


def _whole_batch_reaches(wire, channel, reader, size=20):
    """Publishes a batch; true if `reader` got all of it."""
    before = len(reader.messages)
    for _ in range(size):
        wire.publish(channel)
    try:
        reader.wait(before + size, deadline=1.0)
    except AssertionError:
        return False
    return True
