"""What is not built yet says so. Each of these tests goes when its stage comes."""

import pytest

from contract import pb
from wire import Stream

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
