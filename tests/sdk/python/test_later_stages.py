"""What is not built yet says so. Each of these tests goes when its stage comes."""

import pytest

from contract import pb
from wire import Reader, Stream, Subscribe, event, events_of

UNARY = {
    "SendQueueMessage": lambda c: pb.QueueMessage(ClientID="a", Channel=c, Body=b"x"),
    "SendQueueMessagesBatch": lambda c: pb.QueueMessagesBatchRequest(
        BatchID="b", Messages=[pb.QueueMessage(ClientID="a", Channel=c, Body=b"x")]
    ),
    "ReceiveQueueMessages": lambda c: pb.ReceiveQueueMessagesRequest(
        RequestID="r", ClientID="a", Channel=c, MaxNumberOfMessages=1, WaitTimeSeconds=1
    ),
    "AckAllQueueMessages": lambda c: pb.AckAllQueueMessagesRequest(
        RequestID="r", ClientID="a", Channel=c, WaitTimeSeconds=1
    ),
    "QueuesInfo": lambda c: pb.QueuesInfoRequest(RequestID="r"),
    "SendEvent": lambda c: event(c, Store=True),
}
STREAMS = {
    "QueuesUpstream": lambda c: pb.QueuesUpstreamRequest(
        RequestID="r", Messages=[pb.QueueMessage(ClientID="a", Channel=c, Body=b"x")]
    ),
    "QueuesDownstream": lambda c: pb.QueuesDownstreamRequest(
        RequestID="r", ClientID="a", RequestTypeData=1, Channel=c, MaxItems=1, WaitTimeout=1000
    ),
    "StreamQueueMessage": lambda c: pb.StreamQueueMessagesRequest(
        RequestID="r", ClientID="a", StreamRequestTypeData=1, Channel=c, WaitTimeSeconds=1
    ),
}


def assert_unimplemented(status):
    assert status.code == "UNIMPLEMENTED"
    assert len(status.details) > 10, "a text that says what is missing"


@pytest.mark.parametrize("method", UNARY)
def test_unary_methods_of_later_stages_are_unimplemented(wire, name, method):
    assert_unimplemented(wire.refused(method, UNARY[method](name())))


@pytest.mark.parametrize("method", STREAMS)
def test_streams_of_later_stages_are_unimplemented(wire, name, method):
    stream = wire.keep(Stream(getattr(wire.stub, method)))
    stream.send(STREAMS[method](name()))
    assert_unimplemented(stream.end())
    assert stream.messages == []


def test_subscription_to_stored_events_is_unimplemented(wire, name):
    asked = events_of(
        name(),
        SubscribeTypeData=Subscribe.EventsStore,
        EventsStoreTypeData=Subscribe.StartFromFirst,
    )
    reader = wire.keep(Reader(wire.stub.SubscribeToEvents(asked)))
    assert_unimplemented(reader.end())


def test_stored_event_on_a_publish_stream_gets_a_result(wire, name):
    """One SDK waits for this result without a limit."""
    channel = name()
    reader = wire.events(channel)
    stream = wire.publish_stream()
    stream.send(event(channel, b"stored", EventID="id-stored", Store=True))
    (result,) = stream.wait(1)
    assert (result.EventID, result.Sent) == ("id-stored", False)
    assert len(result.Error) > 10, "a text that says what is missing"
    stream.send(event(channel, b"plain"))
    reader.wait(1)
    assert reader.bodies() == [b"plain"], "a stored event is not delivered as a plain one"
    stream.half_close()
    assert stream.end().code == "OK"
