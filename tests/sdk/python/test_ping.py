"""Ping: the SDKs' connect check, reconnect check and heartbeat."""

import re
import time

from contract import pb
from wire import DEADLINE, timed


def test_ping_names_host_version_and_times_in_seconds(wire):
    before = time.time()
    pong = wire.ping()
    assert pong.Host
    assert 0 <= pong.ServerUpTimeSeconds < 24 * 3600
    started = pong.ServerStartTime
    assert before - 24 * 3600 < started <= time.time() + 1, "epoch seconds"
    assert abs(started + pong.ServerUpTimeSeconds - time.time()) < 5


def test_version_lies_inside_the_ranges_that_the_sdks_check(wire):
    version = wire.ping().Version
    parts = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", version)
    assert parts, version
    number = tuple(int(part) for part in parts.groups())
    assert (2, 4, 0) <= number <= (2, 6, 0), "the Python SDK's range"
    assert (2, 2, 0) <= number < (3, 0, 0), "the Go SDK's range"


def test_start_time_is_the_same_for_every_connection(wire):
    answers = {wire.connect().ping().ServerStartTime for _ in range(5)}
    assert len(answers) == 1


def test_ping_is_answered_while_a_big_message_is_on_its_way(wire, name):
    sending = wire.stub.SendEvent.future(
        pb.Event(ClientID="sender", Channel=name(), Body=b"x" * (40 << 20)), timeout=DEADLINE
    )
    _, seconds = timed(wire.connect().ping)
    assert seconds < 5, "the limit of the C# SDK's heartbeat"
    assert sending.result().Sent
