"""What outlives the broker: stored events, sequences, positions, and the SDKs' subscriptions."""

import threading

import grpc
import pytest
from kubemq import (
    CancellationToken,
    EventsStoreSubscription,
    EventStoreMessage,
    PubSubClient,
)
from kubemq.pubsub.events_store_subscription import EventStoreStartPosition

from wire import Client, Subscribe, eventually

NEW = Subscribe.StartNewOnly


@pytest.fixture
def connect():
    """Connects to brokers of the test's own."""
    clients = []

    def new(broker):
        clients.append(Client(broker.address))
        return clients[-1]

    yield new
    for client in clients:
        client.close()


def stop(broker, gently):
    if gently:
        broker.terminate()
        assert broker.wait() == 0, broker.log()
    else:
        broker.kill()


@pytest.mark.parametrize("gently", [True, False], ids=["stopped", "killed"])
def test_events_sequences_and_positions_outlive_the_broker(
    start_broker, connect, data, name, gently
):
    channels = [name(str(index)) for index in range(6)]
    broker = start_broker(data=data)
    wire = connect(broker)
    for channel in channels:
        for index in range(4):
            wire.store(channel, b"%d" % index, EventID=f"id-{index}", Tags={"t": str(index)})
        reader = wire.stored(channel, ClientID="durable")
        reader.wait(4)
    wire.stored(channels[0], ClientID="group-member", Group="g").wait(4)
    reader.stays_at(4, seconds=1.5)  # Positions are written in batches, not at each event.
    stop(broker, gently)

    broker = start_broker(data=data)
    wire = connect(broker)
    for channel in channels:
        wire.store(channel, b"4")
        fresh = wire.stored(channel, ClientID="fresh")
        fresh.wait(5)
        assert fresh.sequences() == [1, 2, 3, 4, 5]
        assert fresh.bodies() == [b"%d" % index for index in range(5)]
        assert [got.EventID for got in fresh.messages[:4]] == [f"id-{n}" for n in range(4)]
        durable = wire.stored(channel, NEW, ClientID="durable")
        durable.wait(1)
        assert durable.sequences() == [5], "what was confirmed does not come again"
    member = wire.stored(channels[0], ClientID="another-member", Group="g")
    member.wait(1)
    assert member.sequences() == [5]


def test_no_answered_event_is_lost_when_the_broker_is_killed(start_broker, connect, data, name):
    channel = name()
    answered = []
    for round_ in range(3):
        broker = start_broker(data=data)
        wire = connect(broker)
        running = threading.Event()

        def publish(wire=wire, round_=round_, running=running):
            for index in range(100_000):
                body = b"%d:%d" % (round_, index)
                try:
                    wire.store(channel, body)
                except grpc.RpcError:
                    return
                answered.append(body)
                if index == 100:
                    running.set()

        thread = threading.Thread(target=publish)
        thread.start()
        assert running.wait(40)
        broker.kill()
        thread.join()
    broker = start_broker(data=data)
    reader = connect(broker).stored(channel)
    # Some may be stored that were not answered: the last answered one tells that all are here.
    eventually(lambda: answered[-1] in reader.bodies()[-50:], "the last answered event")
    bodies, sequences = reader.bodies(), reader.sequences()
    assert sequences == list(range(1, len(sequences) + 1)), "no gap, no repetition"
    # An event on its way at a kill may be stored without an answer.
    assert len(bodies) <= len(answered) + 3
    kept = set(answered)
    assert [body for body in bodies if body in kept] == answered, "every answered event, in order"


@pytest.mark.parametrize("gently", [True, False], ids=["stopped", "killed"])
def test_sdk_subscription_reads_on_after_a_restart(start_broker, data, name, gently):
    """All SDKs come back asking for the last sequence + 1, which may not exist yet."""
    channel = name()
    broker = start_broker(data=data)
    port = broker.port
    got, errors = [], []
    with PubSubClient(address=broker.address, client_id="stays") as client:
        client.subscribe_to_events_store(
            EventsStoreSubscription(
                channel=channel,
                events_store_type=EventStoreStartPosition.StartFromFirst,
                on_receive_event_callback=got.append,
                on_error_callback=errors.append,
            ),
            CancellationToken(),
        )

        def send(number):
            message = EventStoreMessage(channel=channel, body=b"%d" % number)
            assert client.send_event_store(message).sent

        for number in range(1, 11):
            send(number)
        eventually(lambda: len(got) >= 10, "ten events before the restart")
        stop(broker, gently)
        eventually(lambda: errors, "the SDK sees the end of its stream")
        broker = start_broker(port, data)
        wire = Client(broker.address)
        for number in range(11, 16):
            wire.store(channel, b"%d" % number)
        wire.close()
        eventually(
            lambda: {event.sequence for event in got} >= set(range(1, 16)),
            "the events after the restart",
            deadline=90,
        )
        sequences = [event.sequence for event in got]
        assert all(event.body == b"%d" % event.sequence for event in got)
        fresh = sorted(set(sequences), key=sequences.index)
        assert fresh == list(range(1, 16)), "each for the first time in order"


def test_stored_events_survive_a_change_of_the_shard_count(start_broker, connect, data, name):
    channels = [name(str(index)) for index in range(12)]
    for round_, shards in enumerate(["1", "4", "2"], start=1):
        # The later argument wins.
        broker = start_broker(data=data, args=["--cores", shards])
        wire = connect(broker)
        for channel in channels:
            wire.store(channel, b"%d" % round_)
            reader = wire.stored(channel, ClientID=f"reader-{round_}")
            reader.wait(round_)
            assert reader.bodies() == [b"%d" % number for number in range(1, round_ + 1)]
        stop(broker, gently=True)
