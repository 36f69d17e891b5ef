"""The rules at the head of the SDK specification that queues and channel management are about.

The others are in test_rules.py. Each is also tested without any library in `tests/h2`.
"""

import json
import threading
import time

import pytest

from contract import pb
from wire import Request, Stream, assert_on_time, timed

GET, ACK_ALL, ACK_RANGE, NACK_ALL, NACK_RANGE, REQUEUE_ALL, REQUEUE_RANGE = range(1, 8)
ACTIVE_OFFSETS, STATUS, CLOSE = 8, 9, 10


def send(wire, channel, *bodies):
    messages = [pb.QueueMessage(ClientID="t", Channel=channel, Body=body) for body in bodies]
    answer = wire.stub.SendQueueMessagesBatch(
        pb.QueueMessagesBatchRequest(BatchID="b", Messages=messages)
    )
    assert not answer.HaveErrors, answer


class Downstream(Stream):
    def ask(self, kind, **fields):
        fields.setdefault("RequestID", "r")
        self.send(pb.QueuesDownstreamRequest(ClientID="t", RequestTypeData=kind, **fields))

    def get(self, channel, most=10, wait_ms=2000, request="get", **fields):
        self.ask(
            GET, RequestID=request, Channel=channel, MaxItems=most, WaitTimeout=wait_ms, **fields
        )


@pytest.fixture
def downstream(wire):
    return lambda: wire.keep(Downstream(wire.stub.QueuesDownstream))


def bodies(answer):
    return [message.Body for message in answer.Messages]


def test_rule_01_a_get_is_answered_once_and_settlements_are_silent(wire, name, downstream):
    channel, target = name(), name("target")
    stream = downstream()
    send(wire, channel, *[b"%d" % n for n in range(7)])
    for count, (kind, fields) in enumerate(
        [
            (ACK_ALL, {}),
            (ACK_RANGE, {}),
            (NACK_ALL, {}),
            (NACK_RANGE, {}),
            (REQUEUE_ALL, {"ReQueueChannel": target}),
            (REQUEUE_RANGE, {"ReQueueChannel": target}),
            (CLOSE, {}),
        ],
        start=1,
    ):
        stream.get(channel, most=1, request=f"get-{count}")
        answer = stream.wait(count)[-1]
        assert (answer.RefRequestId, answer.RequestTypeData) == (f"get-{count}", GET)
        assert not answer.IsError and len(answer.Messages) == 1 and answer.TransactionId
        if kind in (ACK_RANGE, NACK_RANGE, REQUEUE_RANGE):
            fields["SequenceRange"] = [answer.Messages[0].Attributes.Sequence]
        stream.ask(kind, RefTransactionId=answer.TransactionId, **fields)
    stream.stays_at(7, 1)


def test_rule_02_a_failed_settlement_is_answered_and_the_stream_stays(wire, name, downstream):
    channel = name()
    stream = downstream()
    send(wire, channel, b"x")
    stream.get(channel)
    got = stream.wait(1)[0]
    stream.ask(
        ACK_RANGE, RequestID="bad", RefTransactionId=got.TransactionId, SequenceRange=[77]
    )
    failed = stream.wait(2)[1]
    assert failed.IsError and failed.Error == "invalid ack sequence id 77"
    assert (failed.RequestTypeData, failed.RefRequestId) == (ACK_RANGE, "bad")
    assert failed.TransactionId == got.TransactionId
    stream.ask(ACK_ALL, RefTransactionId=got.TransactionId)
    stream.ask(NACK_ALL, RequestID="late", RefTransactionId=got.TransactionId)
    late = stream.wait(3)[2]
    assert late.IsError and (late.RequestTypeData, late.RefRequestId) == (NACK_ALL, "late")
    stream.stays_open(0.3)


def test_rule_03_an_error_of_a_get_has_its_type(name, downstream):
    stream = downstream()
    stream.send(
        pb.QueuesDownstreamRequest(RequestID="no-client", RequestTypeData=GET, Channel=name())
    )
    stream.get("", request="no-channel")
    first, second = sorted(stream.wait(2), key=lambda answer: answer.RefRequestId)
    assert (first.RefRequestId, second.RefRequestId) == ("no-channel", "no-client")
    assert first.RequestTypeData == second.RequestTypeData == GET
    assert first.Error.startswith("Error 120:") and second.Error.startswith("Error 101:")


def test_rule_04_the_server_never_closes_a_stream_by_a_message(start_broker, name):
    from wire import Client

    broker = start_broker()
    client = Client(broker.address)
    stream = client.keep(Downstream(client.stub.QueuesDownstream))
    stream.get(name(), wait_ms=60_000)
    stream.stays_at(0, 0.5)
    broker.terminate()
    assert stream.end().code == "UNAVAILABLE"
    assert all(answer.RequestTypeData == GET for answer in stream.messages)
    assert broker.wait() == 0
    client.close()


def manage(wire, operation, **tags):
    request = pb.Request(
        RequestTypeData=Request.Query,
        ClientID="t",
        Channel="kubemq.cluster.internal.requests",
        Metadata=operation,
        Timeout=10_000,
        Tags=tags,
    )
    answer = wire.stub.SendRequest(request)
    assert answer.Executed == (answer.Error == ""), answer
    return answer


def test_rule_08_channels_are_managed_by_queries(wire, name):
    for kind in ("queues", "events", "events_store", "commands", "queries"):
        channel = name(kind)
        assert manage(wire, "create-channel", channel_type=kind, channel=channel).Executed
        answer = manage(wire, "list-channels", channel_type=kind, channel_search=channel)
        (listed,) = json.loads(answer.Body)
        counters = {"messages", "volume"}
        counters |= {"responses"} if kind in ("commands", "queries") else set()
        counters |= {"waiting", "expired", "delayed"} if kind == "queues" else set()
        wanted = {"name", "type", "lastActivity", "isActive", "incoming", "outgoing"}
        assert set(listed) == wanted and (listed["name"], listed["type"]) == (channel, kind)
        for side in ("incoming", "outgoing"):
            assert set(listed[side]) >= counters
            assert all(type(value) is int for value in listed[side].values())
        assert type(listed["lastActivity"]) is int and type(listed["isActive"]) is bool
        assert manage(wire, "delete-channel", channel_type=kind, channel=channel).Executed
        answer = manage(wire, "list-channels", channel_type=kind, channel_search=channel)
        assert answer.Body == b"[]"


def test_rule_08_what_cannot_be_done_says_so_in_both_fields(wire):
    assert not manage(wire, "list-channels", channel_type="topics").Executed
    assert not manage(wire, "forget-channel", channel_type="queues", channel="c").Executed
    assert not manage(wire, "create-channel", channel_type="queues").Executed


def test_rule_13_an_upstream_request_is_answered_in_order_within_2_seconds(wire, name):
    channel = name()
    stop = threading.Event()

    def load():
        message = pb.QueueMessage(ClientID="t", Channel=name("load"), Body=b"x" * 1000)
        while not stop.is_set():
            wire.stub.SendQueueMessage(message)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    upstream = wire.keep(Stream(wire.stub.QueuesUpstream))
    good = pb.QueueMessage(ClientID="t", Channel=channel, Body=b"x")
    bad = pb.QueueMessage(ClientID="t", Channel="", Body=b"x")
    try:
        for count in range(1, 11):
            began = time.monotonic()
            upstream.send(
                pb.QueuesUpstreamRequest(RequestID=f"r{count}", Messages=[good, bad, good])
            )
            answer = upstream.wait(count)[-1]
            assert time.monotonic() - began < 2
            assert answer.RefRequestID == f"r{count}" and not answer.IsError
            assert [result.IsError for result in answer.Results] == [False, True, False]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_rule_14_a_get_is_answered_by_the_end_of_its_wait(name, downstream):
    stream = downstream()

    def answered():
        stream.get(name(), wait_ms=1500)
        return stream.wait(1)[0]

    answer, seconds = timed(answered)
    assert not answer.IsError and not answer.Messages
    assert_on_time(seconds, 1.5)
