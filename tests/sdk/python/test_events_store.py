"""Stored events: what is stored, in which order it comes back, and where a subscription begins."""

import time

import pytest

from wire import Subscribe, event

NEW, FIRST, LAST = Subscribe.StartNewOnly, Subscribe.StartFromFirst, Subscribe.StartFromLast
SEQUENCE, TIME = Subscribe.StartAtSequence, Subscribe.StartAtTime
DELTA = Subscribe.StartAtTimeDelta


def numbered(count, first=0):
    return [b"%d" % index for index in range(first, first + count)]


def test_stored_event_arrives_with_all_its_fields(wire, name):
    channel = name()
    before = time.time_ns()
    tags = {"k": "v", "empty": "", "x-kubemq-client-id": "publisher-7"}
    result = wire.store(channel, b"\x00hello\xff", EventID="id-1", Metadata="möta", Tags=tags)
    assert result.EventID == "id-1"
    (got,) = wire.stored(channel).wait(1)
    assert (got.EventID, got.Channel, got.Metadata) == ("id-1", channel, "möta")
    assert got.Body == b"\x00hello\xff"
    assert dict(got.Tags) == tags
    assert got.Sequence == 1
    assert before - 10**9 <= got.Timestamp <= time.time_ns() + 10**9


def test_stored_event_without_an_id_gets_one(wire, name):
    channel = name()
    ids = [wire.store(channel).EventID for _ in range(5)]
    assert len(set(ids)) == 5
    assert [got.EventID for got in wire.stored(channel).wait(5)] == ids


def test_sequences_count_from_1_for_each_channel(wire, name):
    channels = [name(str(index)) for index in range(8)]
    for channel in channels:
        for body in numbered(5):
            wire.store(channel, body)
    for index, channel in enumerate(channels):
        reader = wire.stored(channel, ClientID=f"reader-{index}")
        reader.wait(5)
        assert reader.sequences() == [1, 2, 3, 4, 5]
        assert reader.bodies() == numbered(5)


def test_live_subscription_gets_what_is_stored_meanwhile(wire, name):
    channel = name()
    reader = wire.stored(channel, NEW)
    for body in numbered(20):
        wire.store(channel, body)
    reader.wait(20)
    reader.stays_at(20, seconds=0.2)
    assert reader.bodies() == numbered(20)


def test_stream_answers_every_stored_event_in_order(wire, name):
    channel = name()
    stream = wire.publish_stream()
    for index in range(1000):
        stream.send(event(channel, b"%d" % index, EventID=f"id-{index}", Store=True))
    results = stream.wait(1000)
    assert [result.EventID for result in results] == [f"id-{index}" for index in range(1000)]
    assert all(result.Sent and not result.Error for result in results)
    reader = wire.stored(channel)
    reader.wait(1000)
    assert reader.bodies() == numbered(1000)
    assert reader.sequences() == list(range(1, 1001))
    stamps = [got.Timestamp for got in reader.messages]
    assert stamps == sorted(stamps)


def test_refused_stored_event_gets_its_result_in_its_place(wire, name):
    channel = name()
    stream = wire.publish_stream()
    stream.send(event(channel, b"1", EventID="good-1", Store=True))
    stream.send(event(channel + ".*", b"2", EventID="bad", Store=True))
    stream.send(event(channel, b"3", EventID="good-2", Store=True))
    results = stream.wait(3)
    assert [(r.EventID, r.Sent) for r in results] == [
        ("good-1", True),
        ("bad", False),
        ("good-2", True),
    ]
    assert results[1].Error.startswith("Error 107: ")
    assert len(wire.stored(channel).wait(2)) == 2


def test_stored_and_plain_events_of_one_name_are_apart(wire, name):
    channel = name()
    plain, stored = wire.events(channel), wire.stored(channel, NEW)
    stream = wire.publish_stream()
    stream.send(event(channel, b"plain"))
    stream.send(event(channel, b"stored", EventID="s", Store=True))
    (result,) = stream.wait(1)
    assert (result.EventID, result.Sent) == ("s", True), "only the stored event is answered"
    plain.wait(1)
    stored.wait(1)
    plain.stays_at(1, seconds=0.2)
    stored.stays_at(1, seconds=0.2)
    assert (plain.bodies(), stored.bodies()) == ([b"plain"], [b"stored"])


def test_order_is_kept_for_each_of_several_senders(wire, name):
    channel = name()
    streams = [wire.connect().publish_stream() for _ in range(4)]
    for index in range(200):
        for sender, stream in enumerate(streams):
            stream.send(event(channel, b"%d:%d" % (sender, index), Store=True))
    reader = wire.connect().stored(channel)
    reader.wait(800)
    assert reader.sequences() == list(range(1, 801))
    for sender in range(4):
        own = [body for body in reader.bodies() if body.startswith(b"%d:" % sender)]
        assert own == [b"%d:%d" % (sender, index) for index in range(200)]


@pytest.mark.parametrize("suffix", ["/x", ":x", "-é-世", "UPPER", ".a.b", "%41", "\\x", "_"])
def test_stored_channel_names_may_hold_anything_that_has_no_meaning(wire, name, suffix):
    channel = name() + suffix
    wire.store(channel, b"x")
    assert wire.stored(channel).wait(1)[0].Channel == channel


def test_stored_events_of_every_size_pass(wire, name):
    channel = name()
    sizes = [0, 1, 100, 4_000, 16_384, 65_536, 300_000, 1 << 20, 3 << 20]
    for size in sizes:
        wire.store(channel, b"z" * size, Metadata="m")
    reader = wire.stored(channel)
    reader.wait(len(sizes))
    assert [len(body) for body in reader.bodies()] == sizes


# Subscriptions to a channel with the events 1 to 5, before the sixth is stored.
POSITIONS = {
    "new only": (NEW, 0, [6]),
    "from first": (FIRST, 0, [1, 2, 3, 4, 5, 6]),
    "from last": (LAST, 0, [5, 6]),
    "at sequence 1": (SEQUENCE, 1, [1, 2, 3, 4, 5, 6]),
    "at sequence 3": (SEQUENCE, 3, [3, 4, 5, 6]),
    "at the last sequence": (SEQUENCE, 5, [5, 6]),
    "at the sequence behind the last": (SEQUENCE, 6, [6]),
    "at a sequence far behind the last": (SEQUENCE, 100, [6]),
    "at a time long ago": (TIME, 1_000_000_000, [1, 2, 3, 4, 5, 6]),
    "at a time to come": (TIME, 4_000_000_000 * 10**9, [6]),
    "a huge delta": (DELTA, 10**12, [1, 2, 3, 4, 5, 6]),
    "an unknown kind is new only": (99, 0, [6]),
}


def test_start_positions(wire, name):
    channel = name()
    for body in numbered(5, first=1):
        wire.store(channel, body)
    readers = {
        case: wire.stored(channel, kind, value, ClientID=case.replace(" ", "-"))
        for case, (kind, value, _) in POSITIONS.items()
    }
    wire.store(channel, b"6")
    for case, (_, _, expected) in POSITIONS.items():
        readers[case].wait(len(expected))
        assert readers[case].sequences() == expected, case
    for case, (_, _, expected) in POSITIONS.items():
        readers[case].stays_at(len(expected), seconds=0.05)


@pytest.mark.parametrize("kind,value", [(NEW, 0), (FIRST, 0), (LAST, 0), (SEQUENCE, 7), (DELTA, 5)])
def test_on_an_empty_channel_every_position_waits_for_what_comes(wire, name, kind, value):
    channel = name()
    reader = wire.stored(channel, kind, value)
    for body in numbered(3):
        wire.store(channel, body)
    reader.wait(3)
    assert reader.sequences() == [1, 2, 3]


@pytest.mark.slow
def test_start_time_is_taken_in_every_unit_that_sdks_send(wire, name):
    """Python, Java and C# send seconds, Go and Rust nanoseconds, JavaScript what its user gives."""
    channel = name()
    for body in numbered(3):
        wire.store(channel, body)
    time.sleep(2.1)  # Seconds are the coarsest unit: the clock must pass one.
    start = int(time.time())
    # The broker's clock is this machine's; the events so far are older by a second and more.
    young = wire.stored(channel, DELTA, 1, ClientID="delta")
    for body in numbered(2, first=3):
        wire.store(channel, body)
    units = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    for unit, factor in units.items():
        reader = wire.stored(channel, TIME, start * factor, ClientID=unit)
        reader.wait(2)
        reader.stays_at(2, seconds=0.05)
        assert reader.sequences() == [4, 5], unit
    young.wait(2)
    assert young.sequences() == [4, 5]


def test_start_time_is_exact_to_the_nanosecond(wire, name):
    channel = name()
    for body in numbered(5):
        wire.store(channel, body)
    stamps = [got.Timestamp for got in wire.stored(channel, ClientID="all").wait(5)]
    for index, stamp in enumerate(stamps):
        reader = wire.stored(channel, TIME, stamp, ClientID=f"at-{index}")
        expected = [n + 1 for n, other in enumerate(stamps) if other >= stamp]
        reader.wait(len(expected))
        assert reader.sequences() == expected


REFUSALS = {
    "no start position": (
        {"EventsStoreTypeData": 0},
        "Error 111: invalid subscription type, cannot be undefined or 0",
    ),
    "sequence 0": (
        {"EventsStoreTypeData": SEQUENCE},
        "Error 112: invalid subscription type start at sequence value, cannot by 0 or negative",
    ),
    "negative sequence": (
        {"EventsStoreTypeData": SEQUENCE, "EventsStoreTypeValue": -1},
        "Error 112: invalid subscription type start at sequence value, cannot by 0 or negative",
    ),
    "time 0": (
        {"EventsStoreTypeData": TIME},
        "Error 113: invalid subscription type start at time value, cannot by 0 or negative",
    ),
    "delta 0": (
        {"EventsStoreTypeData": DELTA},
        "Error 114: invalid subscription type start at time delta value, cannot by 0 or negative",
    ),
    "no client": (
        {"ClientID": ""},
        "Error 101: invalid clientID value, cannot be empty",
    ),
    "no channel": (
        {"Channel": ""},
        "Error 102: invalid channel value, cannot be empty",
    ),
    "star": (
        {"Channel": "a.*"},
        "Error 107: invalid channel value, no wildcards are allowed",
    ),
    "greater": (
        {"Channel": "a.>"},
        "Error 107: invalid channel value, no wildcards are allowed",
    ),
    "blank": (
        {"Channel": "a b"},
        "Error 108: invalid channel value, no white spaces are allowed",
    ),
    "trailing dot": (
        {"Channel": "a."},
        "Error 119: invalid channel value, cannot end with `.`",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_subscription_is_refused_with_internal_and_the_text(wire, name, case):
    fields, text = REFUSALS[case]
    fields = {"Channel": name(), **fields}
    reader = wire.open_stored(fields.pop("Channel"), **fields)
    assert reader.end() == ("INTERNAL", text)


def test_stored_event_to_a_wildcard_is_refused(wire, name):
    for channel in (name() + ".*", name() + ".>"):
        status = wire.refused("SendEvent", event(channel, Store=True))
        assert status.code == "INTERNAL"
        assert status.details.startswith("Error 107: ")
