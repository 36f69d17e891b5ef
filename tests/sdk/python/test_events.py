"""Plain events: delivery, names, wildcards, groups, order."""

import re
import time

import pytest

from wire import event, eventually


def test_event_arrives_with_all_its_fields(wire, name):
    channel = name()
    reader = wire.events(channel)
    before = time.time_ns()
    tags = {
        "k": "v",
        "empty": "",
        "x-kubemq-client-id": "publisher-7",
        "traceparent": "00-ab-cd-01",
    }
    result = wire.publish(channel, b"\x00hello\xff", EventID="id-1", Metadata="möta", Tags=tags)
    assert (result.EventID, result.Sent, result.Error) == ("id-1", True, "")
    (got,) = reader.wait(1)
    assert got.EventID == "id-1"
    assert got.Channel == channel
    assert got.Metadata == "möta"
    assert got.Body == b"\x00hello\xff"
    assert dict(got.Tags) == tags
    assert got.Sequence == 0
    assert before - 10**9 <= got.Timestamp <= time.time_ns() + 10**9


def test_missing_event_id_is_generated_and_the_same_on_both_sides(wire, name):
    channel = name()
    reader = wire.events(channel)
    ids = [wire.publish(channel).EventID for _ in range(20)]
    assert len(set(ids)) == 20
    for generated in ids:
        assert re.fullmatch(r"[0-9A-Za-z]{22}", generated), generated
    assert [got.EventID for got in reader.wait(20)] == ids


def test_metadata_alone_is_a_message(wire, name):
    channel = name()
    reader = wire.events(channel)
    assert wire.publish(channel, b"", Metadata="only metadata").Sent
    (got,) = reader.wait(1)
    assert (got.Metadata, got.Body) == ("only metadata", b"")


def test_event_without_a_subscriber_is_sent_and_gone(wire, name):
    channel = name()
    assert wire.publish(channel, b"early").Sent
    reader = wire.events(channel)
    wire.publish(channel, b"late")
    reader.wait(1)
    assert reader.bodies() == [b"late"]


@pytest.mark.parametrize(
    "suffix",
    ["/x", ":x", "-é-世", ",x", "$x", "UPPER", ".a.b.c", "_x", "-x", "%41", "\\x", "'\"`", "#1"],
)
def test_channel_names_may_hold_anything_that_has_no_meaning(wire, name, suffix):
    channel = name() + suffix
    reader = wire.events(channel)
    assert wire.publish(channel, b"x").Sent
    assert reader.wait(1)[0].Channel == channel


def test_channel_name_of_256_bytes_works(wire, name):
    channel = name().ljust(256, "n")
    reader = wire.events(channel)
    wire.publish(channel)
    assert reader.wait(1)[0].Channel == channel


def test_channel_names_differ_by_case(wire, name):
    channel = name()
    lower, upper = wire.events(channel + "a"), wire.events(channel + "A")
    wire.publish(channel + "A", b"upper")
    wire.publish(channel + "a", b"lower")
    lower.wait(1)
    upper.wait(1)
    lower.stays_at(1)
    assert (lower.bodies(), upper.bodies()) == ([b"lower"], [b"upper"])


def test_client_ids_may_hold_blanks_and_be_long(wire, name):
    channel = name()
    readers = [wire.open_events(channel), wire.events(channel)]
    readers[0].ready()
    for client in ("a b", "ü:/;*>.", "c" * 300):
        assert wire.publish(channel, client.encode(), ClientID=client).Sent
    for reader in readers:
        assert len(reader.wait(3)) == 3


WILDCARDS = {
    "a": ["a"],
    "*": ["a", "b", "ab"],
    ">": ["a", "b", "ab", "a.b", "a.c", "a.b.c"],
    "a.*": ["a.b", "a.c"],
    "a.>": ["a.b", "a.c", "a.b.c"],
    "*.b": ["a.b"],
    "*.*": ["a.b", "a.c"],
    "*.>": ["a.b", "a.c", "a.b.c"],
    "*.b.*": ["a.b.c"],
    # Only whole tokens are wildcards, and `>` only at the end.
    "a*": [],
    "a.>.c": [],
}


def test_wildcards_match_whole_tokens(wire, name):
    base = name()
    readers = {pattern: wire.events(f"{base}.{pattern}") for pattern in WILDCARDS}
    for tail in ("a", "b", "ab", "a.b", "a.c", "a.b.c"):
        wire.publish(f"{base}.{tail}", tail.encode())
    wire.publish(base, b"root")
    for pattern, expected in WILDCARDS.items():
        readers[pattern].wait(len(expected))
    for pattern, expected in WILDCARDS.items():
        readers[pattern].stays_at(len(expected), seconds=0.1)
        # The channels may live on different shards: no order between them.
        assert sorted(readers[pattern].bodies()) == sorted(tail.encode() for tail in expected)


def test_wildcard_subscriber_sees_the_concrete_channel(wire, name):
    base = name()
    reader = wire.events(base + ".*.z")
    wire.publish(base + ".x.z")
    assert reader.wait(1)[0].Channel == base + ".x.z"


def test_one_client_id_may_subscribe_twice(wire, name):
    channel = name()
    first, second = wire.events(channel), wire.connect().events(channel)
    wire.publish(channel)
    first.wait(1)
    second.wait(1)


def test_every_group_gets_each_event_once(wire, name):
    channel = name()
    members = {
        label: wire.connect().events(channel, group)
        for label, group in (
            ("a1", "a"),
            ("a2", "a"),
            ("a3", "a"),
            ("b1", "b"),
            ("b2", "b"),
            ("solo", ""),
        )
    }
    total = 60
    for index in range(total):
        wire.publish(channel, b"%d" % index)
    expected = sorted(b"%d" % index for index in range(total))

    def group(letter):
        return sorted(
            body
            for label, reader in members.items()
            if label[0] == letter
            for body in reader.bodies()
        )

    eventually(
        lambda: all(len(group(letter)) >= total for letter in "abs"), "all events in every group"
    )
    members["solo"].stays_at(total)
    for letter in "abs":
        assert group(letter) == expected, f"each event once in group {letter}"
    assert all(members[label].messages for label in ("a1", "a2", "a3", "b1", "b2")), "all take part"


def test_group_spans_overlapping_subscriptions(wire, name):
    base = name()
    exact = wire.connect().events(base + ".x", "g")
    wild = wire.connect().events(base + ".*", "g")
    for index in range(30):
        wire.publish(base + ".x", b"%d" % index)
    eventually(lambda: len(exact.messages) + len(wild.messages) >= 30, "30 events in the group")
    exact.stays_at(len(exact.messages))
    bodies = sorted(exact.bodies() + wild.bodies())
    assert bodies == sorted(b"%d" % index for index in range(30))


@pytest.mark.parametrize("group", ["g.1", "g*", "g:1", "g>", "ü", "g/1;x"])
def test_group_names_may_hold_anything_but_blanks(wire, name, group):
    channel = name()
    reader = wire.events(channel, group)
    wire.publish(channel)
    reader.wait(1)


def test_order_is_kept_over_a_stream(wire, name):
    channel = name()
    reader = wire.connect().events(channel)
    stream = wire.publish_stream()
    bodies = [b"%d" % index for index in range(2000)]
    for body in bodies:
        stream.send(event(channel, body))
    reader.wait(2000)
    assert reader.bodies() == bodies


def test_order_is_kept_for_each_sender(wire, name):
    channel = name()
    reader = wire.connect().events(channel)
    streams = [wire.connect().publish_stream() for _ in range(4)]
    for index in range(250):
        for sender, stream in enumerate(streams):
            stream.send(event(channel, b"%d:%d" % (sender, index)))
    reader.wait(1000)
    for sender in range(4):
        own = [body for body in reader.bodies() if body.startswith(b"%d:" % sender)]
        assert own == [b"%d:%d" % (sender, index) for index in range(250)]
