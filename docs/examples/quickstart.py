"""Talks to RingMQ with the official KubeMQ SDK: events, a stored event, a queue, a command, a query.

    pip install kubemq==4.1.5
    python docs/examples/quickstart.py    # KUBEMQ_ADDRESS=localhost:50000 is the default
"""

import os
import threading
import time

from kubemq import (
    CommandMessage,
    CommandResponse,
    CommandsSubscription,
    CQClient,
    EventMessage,
    EventsStoreSubscription,
    EventsSubscription,
    EventStoreMessage,
    PubSubClient,
    QueriesSubscription,
    QueryMessage,
    QueryResponse,
    QueueMessage,
    QueuesClient,
    StartPosition,
)

address = os.environ.get("KUBEMQ_ADDRESS", "localhost:50000")
arrived = threading.Event()
replayed = threading.Event()


def on_event(event):
    print(f"event    {event.channel}: {event.body.decode()}")
    arrived.set()


def on_stored(event):
    print(f"stored   {event.channel} #{event.sequence}: {event.body.decode()}")
    replayed.set()


def on_command(command):
    print(f"command  {command.channel}: {command.body.decode()}")
    cq.send_response_message(CommandResponse(command_received=command, is_executed=True))


def on_query(query):
    print(f"query    {query.channel}: {query.body.decode()}")
    cq.send_response_message(
        QueryResponse(query_received=query, is_executed=True, body=b"21 degrees")
    )


with (
    PubSubClient(address=address) as pubsub,
    QueuesClient(address=address) as queues,
    CQClient(address=address) as cq,
):
    pubsub.subscribe_to_events(EventsSubscription("greetings.*", on_event))
    cq.subscribe_to_commands(CommandsSubscription("lights", on_command))
    cq.subscribe_to_queries(QueriesSubscription("weather", on_query))
    time.sleep(1)  # The subscriptions start in the background.

    pubsub.send_event(EventMessage("greetings.world", body=b"hello, world"))
    if not arrived.wait(10):
        raise SystemExit("the event did not arrive")

    # Stored first, subscribed to later: it is replayed.
    result = pubsub.send_event_store(EventStoreMessage("journal", body=b"kept on disk"))
    print(f"         acknowledged: {result.sent}")
    pubsub.subscribe_to_events_store(
        EventsStoreSubscription(
            "journal", on_stored, events_store_type=StartPosition.START_FROM_FIRST
        )
    )
    if not replayed.wait(10):
        raise SystemExit("the stored event did not arrive")

    # A queue: each message is done once, by whoever comes first.
    queues.send_queue_message(QueueMessage(channel="work", body=b"paint the fence"))
    taken = queues.receive_queue_messages(
        channel="work", max_messages=1, wait_timeout_in_seconds=10
    )
    for message in taken.messages:
        print(f"queue    {message.channel} #{message.sequence}: {message.body.decode()}")
        message.ack()

    done = cq.send_command(CommandMessage("lights", timeout_in_seconds=10, body=b"switch on"))
    print(f"         executed: {done.is_executed}")

    answer = cq.send_query(QueryMessage("weather", timeout_in_seconds=10, body=b"how warm is it?"))
    print(f"         answer: {answer.body.decode()}")
