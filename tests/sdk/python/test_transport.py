"""Metadata, compression, headers, sizes, many streams, health and reflection."""

import asyncio

import grpc
import pytest
from google.protobuf import descriptor_pb2

from contract import Stub, pb
from wire import DEADLINE, Reader, event, events_of, request, status_of, timed

LIMIT = 100 * 1024 * 1024


def test_gzip_requests_are_accepted(wire, name):
    channel = name()
    reader = wire.events(channel)
    body = b"y" * 200_000
    for message in (event(channel, body), event(channel, b"small")):
        assert wire.stub.SendEvent(
            message, timeout=DEADLINE, compression=grpc.Compression.Gzip
        ).Sent
    reader.wait(2)
    assert reader.bodies() == [body, b"small"]


def test_gzip_works_on_streams_and_requests(wire, name):
    channel = name()
    reader = wire.events(channel, compression=grpc.Compression.Gzip)
    stream = wire.publish_stream(compression=grpc.Compression.Gzip)
    for index in range(20):
        stream.send(event(channel, b"%d" % index * 1000))
    reader.wait(20)
    assert reader.bodies() == [b"%d" % index * 1000 for index in range(20)]
    wire.responder(name("r"), lambda seen: {"Body": seen.Body})
    asked = request(name("r"), b"z" * 50_000)
    response = wire.stub.SendRequest(asked, timeout=DEADLINE, compression=grpc.Compression.Gzip)
    assert response.Body == asked.Body


def test_size_limit_holds_while_inflating(wire, name):
    with pytest.raises(grpc.RpcError) as caught:
        wire.stub.SendEvent(
            event(name(), bytes(LIMIT + 1)), timeout=DEADLINE, compression=grpc.Compression.Gzip
        )
    assert status_of(caught.value).code == "RESOURCE_EXHAUSTED"
    wire.ping()


def test_message_over_the_limit_is_refused_with_the_exact_text(wire, name):
    message = event(name(), bytes(LIMIT + 10))
    size = message.ByteSize()
    assert wire.refused("SendEvent", message) == (
        "RESOURCE_EXHAUSTED",
        f"grpc: received message larger than max ({size} vs. {LIMIT})",
    )
    wire.ping()


def test_message_over_the_limit_ends_a_publish_stream(wire, name):
    stream = wire.publish_stream()
    message = event(name(), bytes(LIMIT + 10))
    stream.send(message)
    assert stream.end() == (
        "RESOURCE_EXHAUSTED",
        f"grpc: received message larger than max ({message.ByteSize()} vs. {LIMIT})",
    )


def test_messages_of_five_megabytes_pass(wire, name):
    channel = name()
    body = bytes(range(256)) * (5 << 12)
    reader = wire.connect().events(channel)
    assert wire.publish(channel, body).Sent
    wire.publish_stream().send(event(channel, body))
    reader.wait(2)
    assert reader.bodies() == [body, body]
    wire.connect().responder(name("r"), lambda seen: {"Body": seen.Body})
    assert wire.ask(name("r"), body).Body == body


def test_message_of_exactly_the_limit_passes(wire, name):
    message = event(name(), b"", EventID="id-1")
    message.Body = bytes(LIMIT - message.ByteSize() - 5)
    assert message.ByteSize() == LIMIT
    assert wire.stub.SendEvent(message, timeout=DEADLINE).Sent


@pytest.mark.parametrize("values", [["whatever"], ["Bearer x"], ["old", "new"]], ids=str)
def test_authorization_metadata_is_tolerated(wire, name, values):
    channel = name()
    metadata = [("authorization", value) for value in values]
    reader = wire.events(channel, metadata=metadata)
    assert wire.stub.SendEvent(event(channel), timeout=DEADLINE, metadata=metadata).Sent
    stream = wire.publish_stream(metadata=metadata)
    stream.send(event(channel))
    reader.wait(2)
    assert wire.stub.Ping(pb.Empty(), timeout=DEADLINE, metadata=metadata).Host


def test_unknown_metadata_is_tolerated(wire, name):
    metadata = [("x-trace", "1"), ("x-bin", b"\x00\xff"), ("grpc-trace-bin", b"\x01\x02")]
    assert wire.stub.SendEvent(event(name()), timeout=DEADLINE, metadata=metadata).Sent


@pytest.mark.parametrize("call", ["events", "commands", "queries", "publish"])
def test_streaming_calls_answer_with_headers_at_once(wire, name, call):
    wire.ping()
    kinds = pb.Subscribe
    if call == "events":
        stream = wire.open_events(name())
    elif call == "publish":
        stream = wire.publish_stream()
    else:
        kind = kinds.Commands if call == "commands" else kinds.Queries
        asked = events_of(name(), SubscribeTypeData=kind)
        stream = wire.keep(Reader(wire.stub.SubscribeToRequests(asked)))
    _, seconds = timed(stream.ready)
    assert seconds < 5
    stream.stays_at(0, seconds=0.05)


def test_subscription_is_active_when_its_headers_arrive(wire, name):
    publisher = wire.connect()
    for index in range(30):
        channel = name(str(index))
        reader = wire.connect().events(channel)
        publisher.publish(channel)
        reader.wait(1)


def test_six_hundred_subscriptions_on_one_connection(address, name):
    channel = name()

    async def all_get_it():
        async with grpc.aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as connection:
            stub = Stub(connection)
            calls = [stub.SubscribeToEvents(events_of(channel)) for _ in range(600)]
            await asyncio.gather(*(call.initial_metadata() for call in calls))
            await stub.SendEvent(event(channel, b"to all"), timeout=DEADLINE)
            messages = await asyncio.gather(*(call.read() for call in calls))
            for call in calls:
                call.cancel()
            return [message.Body for message in messages]

    bodies = asyncio.run(asyncio.wait_for(all_get_it(), 2 * DEADLINE))
    assert bodies == [b"to all"] * 600


def test_unknown_methods_and_services_are_unimplemented(wire):
    for path, text in (
        ("/kubemq.kubemq/Nope", "unknown method Nope for service kubemq.kubemq"),
        ("/nope.Nope/Nope", "unknown service nope.Nope"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            wire.channel.unary_unary(path)(b"", timeout=DEADLINE)
        assert status_of(caught.value) == ("UNIMPLEMENTED", text)


# Health and reflection are small enough to read by hand: no stubs for them.


def test_health_service_says_serving(wire):
    check = wire.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"", timeout=DEADLINE) == b"\x08\x01"
    assert check(b"\x0a\x0dkubemq.kubemq", timeout=DEADLINE) == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as caught:
        check(b"\x0a\x04nope", timeout=DEADLINE)
    assert status_of(caught.value).code == "NOT_FOUND"


def test_health_watch_sends_the_state_and_stays_open(wire):
    watch = wire.channel.unary_stream("/grpc.health.v1.Health/Watch")
    reader = wire.keep(Reader(watch(b"")))
    assert reader.wait(1) == [b"\x08\x01"]
    reader.stays_at(1, seconds=0.2)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_the_service(wire, version):
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    ask = wire.channel.stream_stream(method)
    answers = list(
        ask(
            iter([b"\x3a\x01*", b"\x22\x0dkubemq.kubemq", b"\x22\x04nope"]),
            timeout=DEADLINE,
        )
    )
    listed, described, missing = (_fields(answer) for answer in answers)
    services = [_fields(service)[1][0] for service in _fields(listed[6][0])[1]]
    assert b"kubemq.kubemq" in services
    assert b"grpc.health.v1.Health" in services
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(file) for file in _fields(described[4][0])[1]
    ]
    methods = [m.name for file in files for service in file.service for m in service.method]
    assert "SendEventsStream" in methods and "QueuesDownstream" in methods
    assert _fields(missing[7][0])[1][0] == 5, "NOT_FOUND"


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data):
    """The fields of a protobuf message: number → values (bytes or integers)."""
    fields, at = {}, 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            value, at = _varint(data, at)
        fields.setdefault(key >> 3, []).append(value)
    return fields
