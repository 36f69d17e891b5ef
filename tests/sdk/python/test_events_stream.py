"""The publish stream: silent on success, a result for each refusal, never closed by a bad event."""

import grpc

from contract import pb
from wire import Stream, event


def test_plain_events_are_not_answered(wire, name):
    channel = name()
    reader = wire.events(channel)
    stream = wire.publish_stream()
    for index in range(10):
        stream.send(event(channel, b"%d" % index, EventID=f"id-{index}"))
    reader.wait(10)
    stream.stays_at(0)


def test_bad_event_gets_a_result_and_the_stream_goes_on(wire, name):
    channel = name()
    reader = wire.events(channel)
    stream = wire.publish_stream()
    stream.send(event("", EventID="id-no-channel"))
    (result,) = stream.wait(1)
    assert (result.EventID, result.Sent) == ("id-no-channel", False)
    assert result.Error == "Error 102: invalid channel value, cannot be empty"
    stream.send(event(channel, b"", EventID="id-empty"))
    result = stream.wait(2)[1]
    assert (result.EventID, result.Sent) == ("id-empty", False)
    assert result.Error == "Error 110: invalid message, cannot be empty"
    stream.send(event(channel, b"good"))
    reader.wait(1)
    assert reader.bodies() == [b"good"]
    stream.stays_at(2, seconds=0.1)


def test_half_close_ends_the_stream_after_the_last_result(wire, name):
    channel = name()
    reader = wire.events(channel)
    stream = wire.publish_stream()
    stream.send(event(channel, b"good"))
    stream.send(event(channel + ".", b"bad", EventID="id-bad"))
    stream.half_close()
    assert stream.end().code == "OK"
    (result,) = stream.messages
    assert result.EventID == "id-bad"
    assert result.Error == "Error 119: invalid channel value, cannot end with `.`"
    reader.wait(1)


def test_stream_closed_without_an_event_ends_ok(wire):
    stream = wire.publish_stream()
    stream.half_close()
    assert stream.end().code == "OK"


def test_undecodable_frame_gets_a_result_and_the_stream_goes_on(wire, name):
    channel = name()
    reader = wire.events(channel)
    stream = _raw_stream(wire)
    stream.send(b"\xff\xff\xff")
    (result,) = stream.wait(1)
    assert not result.Sent
    assert result.Error
    stream.send(event(channel, b"after").SerializeToString())
    reader.wait(1)
    assert reader.bodies() == [b"after"]


def test_event_with_invalid_utf8_gets_a_result_with_its_id(wire, name):
    channel = name()
    reader = wire.events(channel)
    stream = _raw_stream(wire)
    good = event(channel, b"bad", EventID="id-utf8").SerializeToString()
    stream.send(good + b"\x22\x02\xff\xfe")  # Metadata
    (result,) = stream.wait(1)
    assert not result.Sent
    assert "UTF-8" in result.Error
    assert result.EventID == "id-utf8"
    stream.send(event(channel, b"after").SerializeToString())
    reader.wait(1)
    assert reader.bodies() == [b"after"]


def test_streams_of_one_connection_are_independent(wire, name):
    channel = name()
    reader = wire.events(channel)
    streams = [wire.publish_stream() for _ in range(5)]
    streams[0].cancel()
    assert streams[0].end().code == grpc.StatusCode.CANCELLED.name
    for index, stream in enumerate(streams[1:]):
        stream.send(event(channel, b"%d" % index))
    reader.wait(4)
    assert sorted(reader.bodies()) == [b"0", b"1", b"2", b"3"]


def _raw_stream(wire):
    """A publish stream that sends bytes as they are."""
    method = wire.channel.stream_stream(
        "/kubemq.kubemq/SendEventsStream", response_deserializer=pb.Result.FromString
    )
    return wire.keep(Stream(method))
