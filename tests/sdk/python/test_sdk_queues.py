"""The published SDK, its clients of queues."""

import asyncio
import threading
import time

import pytest
from kubemq import QueueMessage, QueuesClient

from wire import eventually, timed


@pytest.fixture
def client(address):
    with QueuesClient(address=address, client_id="sdk-queues") as queues:
        yield queues


@pytest.fixture
def other(address):
    with QueuesClient(address=address, client_id="sdk-queues-other") as queues:
        yield queues


def message(channel, body=b"x", **fields):
    return QueueMessage(channel=channel, body=body, **fields)


def send(client, channel, count, **fields):
    results = [
        client.send_queue_message(message(channel, str(index).encode(), **fields))
        for index in range(count)
    ]
    assert not any(result.is_error for result in results), results
    return results


def get(client, channel, most=10, wait=2, **fields):
    response = client.receive_queue_messages(
        channel=channel, max_messages=most, wait_timeout_in_seconds=wait, **fields
    )
    assert not response.is_error, response.error
    return response


def bodies(messages):
    return [message.body for message in messages]


def test_message_arrives_with_all_that_was_sent(client, name):
    channel = name()
    sent = client.send_queue_message(
        message(channel, b"body", id="id-1", metadata="m", tags={"k": "v"})
    )
    assert (sent.id, sent.is_error) == ("id-1", False)
    (received,) = get(client, channel).messages
    assert (received.id, received.channel, received.metadata) == ("id-1", channel, "m")
    assert (received.body, received.tags["k"]) == (b"body", "v")
    assert (received.from_client_id, received.sequence) == ("sdk-queues", 1)
    assert (received.receive_count, received.is_re_routed) == (1, False)
    assert abs(received.timestamp.timestamp() - time.time()) < 60
    received.ack()
    assert get(client, channel, wait=1).messages == []


def test_unary_send_batch_and_pull(client, name):
    channel = name()
    assert not client.send_queue_message_simple(message(channel, b"one")).is_error
    batch = client.send_queue_messages_batch([message(channel, b"two"), message(channel, b"three")])
    assert [result.is_error for result in batch.results] == [False, False]
    pulled = client.pull(channel, 10, 2)
    assert bodies(pulled.messages) == [b"one", b"two", b"three"]
    assert client.pull(channel, 10, 1).messages == []


def test_peek_leaves_messages_where_they_are(client, name):
    channel = name()
    send(client, channel, 3)
    for _ in range(2):
        assert bodies(client.peek_queue_messages(channel, 10, 1).messages) == [b"0", b"1", b"2"]
    assert bodies(client.pull(channel, 10, 1).messages) == [b"0", b"1", b"2"]


def test_ack_all_messages_says_how_many_and_does_not_wait(client, name):
    channel = name()
    send(client, channel, 7)
    affected, seconds = timed(lambda: client.ack_all_queue_messages(channel, 20))
    assert affected == 7 and seconds < 10
    assert client.ack_all_queue_messages(channel, 1) == 0


def test_fifo_over_many_polls(client, name):
    channel = name()
    send(client, channel, 50)
    seen = []
    while len(seen) < 50:
        response = get(client, channel, most=8)
        seen += [received.sequence for received in response.messages]
        response.ack_all()
    assert seen == list(range(1, 51))


def test_long_poll_wakes_for_a_message(client, other, name):
    channel = name()
    answers = []

    def poll():
        answers.append(timed(lambda: get(client, channel, most=5, wait=30)))

    thread = threading.Thread(target=poll)
    thread.start()
    time.sleep(0.5)
    send(other, channel, 1)
    thread.join(40)
    ((response, seconds),) = answers
    assert bodies(response.messages) == [b"0"] and seconds < 20
    response.ack_all()


def test_nacked_message_comes_again_counted(client, name):
    channel = name()
    send(client, channel, 1)
    get(client, channel).messages[0].nack()
    (again,) = get(client, channel).messages
    assert (again.body, again.receive_count) == (b"0", 2)
    again.ack()


def test_message_received_as_often_as_it_may_goes_to_its_dead_letter_queue(client, name):
    channel, dead = name(), name("dead")
    send(client, channel, 1, max_receive_count=2, max_receive_queue=dead)
    for count in (1, 2):
        (received,) = get(client, channel).messages
        assert received.receive_count == count
        received.nack()
    (letter,) = get(client, dead, wait=10).messages
    assert (letter.body, letter.receive_count) == (b"0", 1)
    assert (letter.is_re_routed, letter.re_route_from_queue) == (True, channel)
    letter.ack()
    assert get(client, channel, wait=1).messages == []


def test_requeued_messages_keep_their_order(client, name):
    channel, target = name(), name("target")
    send(client, channel, 5)
    get(client, channel).re_queue_all(target)

    def arrived():
        peeked = client.peek_queue_messages(target, 10, 1).messages
        return peeked if len(peeked) == 5 else None

    assert bodies(eventually(arrived, "all have moved")) == [b"0", b"1", b"2", b"3", b"4"]
    assert get(client, channel, wait=1).messages == []


def test_part_of_a_transaction_settled_message_by_message(client, name):
    channel, target = name(), name("target")
    send(client, channel, 3)
    first, second, third = get(client, channel).messages
    first.ack()
    second.nack()
    third.re_queue(target)
    (again,) = get(client, channel).messages
    assert (again.body, again.receive_count) == (b"1", 2)
    again.ack()
    assert bodies(get(client, target, wait=10, auto_ack=True).messages) == [b"2"]


def test_auto_acknowledged_messages_do_not_come_again(client, other, name):
    channel = name()
    send(client, channel, 4)
    assert len(get(client, channel, auto_ack=True).messages) == 4
    assert get(other, channel, wait=1).messages == []


def test_messages_of_a_client_that_left_come_back_in_their_place(address, client, name):
    channel = name()
    send(client, channel, 3)
    with QueuesClient(address=address, client_id="leaves") as leaver:
        assert len(get(leaver, channel, most=2).messages) == 2

    def back():
        messages = client.peek_queue_messages(channel, 10, 1).messages
        return bodies(messages) == [b"0", b"1", b"2"]

    eventually(back, "all are back in order")


def test_delayed_message_comes_when_it_is_due(client, name):
    channel = name()
    (sent,) = send(client, channel, 1, delay_in_seconds=2)
    assert sent.delayed_to is not None
    assert get(client, channel, wait=1).messages == []
    (received,) = get(client, channel, wait=10, auto_ack=True).messages
    assert received.delayed_to.timestamp() <= time.time() + 0.001


def test_expired_message_is_gone(client, name):
    channel = name()
    send(client, channel, 1, expiration_in_seconds=1)
    time.sleep(1.5)
    send(client, channel, 1)
    (received,) = get(client, channel, auto_ack=True).messages
    assert received.sequence == 2


def test_messages_of_16_senders_and_8_receivers_come_once(address, name):
    channel = name()
    seen, lock, stop = [], threading.Lock(), threading.Event()

    def produce(number):
        with QueuesClient(address=address, client_id=f"producer-{number}") as producer:
            for index in range(40):
                body = f"{number}.{index}".encode()
                assert not producer.send_queue_message(message(channel, body)).is_error

    def consume(number):
        with QueuesClient(address=address, client_id=f"consumer-{number}") as consumer:
            while not stop.is_set():
                response = get(consumer, channel, most=16, wait=1)
                with lock:
                    seen.extend(bodies(response.messages))
                if response.messages:
                    response.ack_all()

    consumers = [threading.Thread(target=consume, args=(number,)) for number in range(8)]
    producers = [threading.Thread(target=produce, args=(number,)) for number in range(16)]
    for thread in consumers + producers:
        thread.start()
    for thread in producers:
        thread.join()
    eventually(lambda: len(seen) >= 640, "everything has come")
    time.sleep(0.3)
    stop.set()
    for thread in consumers:
        thread.join()
    assert len(seen) == 640 and len(set(seen)) == 640


def test_large_messages_come_in_answers_that_the_client_takes(client, name):
    channel = name()
    body = bytes(range(256)) * 4096  # 1 MiB; the client takes 4 MiB at most
    for _ in range(9):
        assert not client.send_queue_message(message(channel, body)).is_error
    seen = 0
    while seen < 9:
        response = get(client, channel, most=9, auto_ack=True)
        assert response.messages and all(m.body == body for m in response.messages)
        seen += len(response.messages)
    assert seen == 9


def test_channels_are_created_listed_and_deleted(client, name):
    channel = name()
    assert client.create_queues_channel(channel)
    assert client.create_queues_channel(channel), "creating it again is no error"
    send(client, channel, 2)
    (listed,) = client.list_queues_channels(channel)
    assert (listed.name, listed.type) == (channel, "queues")
    assert (listed.incoming.messages, listed.incoming.waiting) == (2, 2)
    assert client.delete_queues_channel(channel)
    assert client.list_queues_channels(channel) == []
    assert client.delete_queues_channel(channel), "deleting it again is no error"


def test_async_client_sends_receives_and_acknowledges(address, name):
    from kubemq import AsyncQueuesClient

    async def work():
        async with AsyncQueuesClient(address=address, client_id="sdk-async-queues") as queues:
            channel = name()
            for index in range(5):
                result = await queues.send_queue_message(message(channel, str(index).encode()))
                assert not result.is_error
            response = await queues.receive_queue_messages(
                channel=channel, max_messages=5, wait_timeout_seconds=2
            )
            assert bodies(response.messages) == [b"0", b"1", b"2", b"3", b"4"]
            for received in response.messages:
                await received.async_ack()
            response = await queues.receive_queue_messages(
                channel=channel, max_messages=5, wait_timeout_seconds=1
            )
            assert response.messages == []

    asyncio.run(work())
