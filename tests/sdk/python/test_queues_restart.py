"""What a queue keeps over a restart of its broker, stopped or killed, and what it does not."""

import time

import pytest

from contract import pb
from test_rules_queues import ACK_RANGE, NACK_RANGE, Downstream
from wire import Client

STOPS = ["stopped", "killed"]


@pytest.fixture(params=STOPS)
def life(request, start_broker, data):
    """Starts a broker on one store, and ends it the way that the test is about."""

    class Life:
        def begin(self):
            self.broker = start_broker(data=data)
            self.client = Client(self.broker.address)
            return self.client

        def end(self):
            self.client.close()
            if request.param == "killed":
                self.broker.kill()
            else:
                self.broker.terminate()
                assert self.broker.wait() == 0, self.broker.log()

    return Life()


def send(client, channel, *bodies, **policy):
    for body in bodies:
        message = pb.QueueMessage(ClientID="t", Channel=channel, Body=body)
        for field, value in policy.items():
            setattr(message.Policy, field, value)
        result = client.stub.SendQueueMessage(message)
        assert not result.IsError, result.Error


def downstream(client):
    return client.keep(Downstream(client.stub.QueuesDownstream))


def take(client, channel, most=10, wait=2, peek=False):
    answer = client.stub.ReceiveQueueMessages(
        pb.ReceiveQueueMessagesRequest(
            RequestID="r",
            ClientID="t",
            Channel=channel,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            IsPeak=peek,
        )
    )
    assert not answer.IsError, answer.Error
    return list(answer.Messages)


def settled():
    """Waits for the commit of what was settled: it follows within milliseconds, untold."""
    time.sleep(1)


def bodies(messages):
    return [message.Body for message in messages]


def test_messages_their_order_and_the_next_sequence_are_kept(life, name):
    channel = name()
    client = life.begin()
    send(client, channel, b"0", b"1", b"2")
    assert bodies(take(client, channel, most=1)) == [b"0"]
    settled()
    life.end()
    client = life.begin()
    send(client, channel, b"3")
    messages = take(client, channel)
    assert bodies(messages) == [b"1", b"2", b"3"]
    assert [message.Attributes.Sequence for message in messages] == [2, 3, 4]


def test_what_was_leased_is_visible_at_once_in_its_place(life, name):
    channel = name()
    client = life.begin()
    send(client, channel, b"0", b"1", b"2", b"3")
    stream = downstream(client)
    stream.get(channel, most=3)
    got = stream.wait(1)[0]
    stream.ask(
        ACK_RANGE,
        RefTransactionId=got.TransactionId,
        SequenceRange=[got.Messages[1].Attributes.Sequence],
    )
    # Behind the acknowledgement on the same stream: it was taken.
    stream.get(channel, most=1, request="behind")
    stream.wait(2)
    settled()
    life.end()
    client = life.begin()
    assert bodies(take(client, channel, wait=1)) == [b"0", b"2", b"3"]


def test_receive_counts_are_kept(life, name):
    channel = name()
    client = life.begin()
    send(client, channel, b"rejected", b"waits")
    stream = downstream(client)
    stream.get(channel, most=1)
    got = stream.wait(1)[0]
    stream.ask(
        NACK_RANGE,
        RefTransactionId=got.TransactionId,
        SequenceRange=[got.Messages[0].Attributes.Sequence],
    )
    stream.get(channel, most=2, request="again")
    again = stream.wait(2)[1]
    counts = {message.Body: message.Attributes.ReceiveCount for message in again.Messages}
    assert counts[b"waits"] == 1 and counts.get(b"rejected", 2) == 2
    settled()
    life.end()
    client = life.begin()
    counts = {message.Body: message.Attributes.ReceiveCount for message in take(client, channel)}
    assert counts[b"rejected"] >= 2 and counts[b"waits"] >= 1


def test_delays_and_expirations_go_on_while_the_broker_is_down(life, name):
    channel, expiring = name(), name("expiring")
    client = life.begin()
    send(client, channel, b"later", DelaySeconds=6)
    send(client, channel, b"soon", DelaySeconds=1)
    send(client, expiring, b"gone", ExpirationSeconds=1)
    send(client, expiring, b"stays", ExpirationSeconds=600)
    began = time.monotonic()
    life.end()
    time.sleep(1.5)
    client = life.begin()
    assert bodies(take(client, channel, most=1, wait=2)) == [b"soon"]
    assert bodies(take(client, expiring, wait=1)) == [b"stays"]
    assert bodies(take(client, channel, wait=20)) == [b"later"]
    assert time.monotonic() - began >= 5.5


def test_settled_messages_do_not_come_again(life, name):
    channel = name()
    client = life.begin()
    send(client, channel, *[b"%d" % n for n in range(100)])
    stream = client.stub.AckAllQueueMessages(
        pb.AckAllQueueMessagesRequest(
            RequestID="r", ClientID="t", Channel=channel, WaitTimeSeconds=1
        )
    )
    assert stream.AffectedMessages == 100
    send(client, channel, b"new")
    life.end()
    client = life.begin()
    assert bodies(take(client, channel, wait=1)) == [b"new"]
