"""The published SDK, its asynchronous clients."""

import asyncio
import contextlib
import time

import pytest
from kubemq import (
    AsyncCancellationToken,
    AsyncCQClient,
    AsyncPubSubClient,
    CommandMessage,
    CommandResponse,
    CommandsSubscription,
    EventMessage,
    EventsStoreSubscription,
    EventsSubscription,
    EventStoreMessage,
    KubeMQError,
    QueriesSubscription,
    QueryMessage,
    QueryResponse,
)
from kubemq.pubsub.events_store_subscription import EventStoreStartPosition

from wire import DEADLINE, assert_on_time


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 2 * DEADLINE))


def ignore(_):
    """The SDK asks for a callback also where it hands out an iterator."""


async def eventually(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def events(client, channel, group="", probe=None):
    """Collects the events of a subscription; active on entry."""
    got, warm = [], asyncio.Event()
    token = AsyncCancellationToken()

    async def collect():
        subscription = EventsSubscription(
            channel=channel, group=group, on_receive_event_callback=ignore
        )
        async for event in client.subscribe_to_events(subscription, token):
            if event.body == b"warm up":
                warm.set()
            else:
                got.append(event)

    task = asyncio.create_task(collect())
    while not warm.is_set():
        await client.send_event_unary(EventMessage(channel=probe or channel, body=b"warm up"))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(warm.wait(), 0.2)
    try:
        yield got
    finally:
        token.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, KubeMQError):
            await task


@contextlib.asynccontextmanager
async def responder(client, kind, channel, answer, group=""):
    """Answers the requests of a channel; active on entry."""
    seen = []
    token = AsyncCancellationToken()
    if kind == "command":
        requests = client.subscribe_to_commands(
            CommandsSubscription(channel=channel, group=group, on_receive_command_callback=ignore),
            token,
        )
    else:
        requests = client.subscribe_to_queries(
            QueriesSubscription(channel=channel, group=group, on_receive_query_callback=ignore),
            token,
        )

    async def answer_all():
        async for request in requests:
            seen.append(request)
            fields = {"is_executed": True, **answer(request)}
            if kind == "command":
                response = CommandResponse(command_received=request, **fields)
            else:
                response = QueryResponse(query_received=request, **fields)
            await client.send_response(response)

    task = asyncio.create_task(answer_all())
    while True:
        try:
            if kind == "command":
                await client.send_command(
                    CommandMessage(channel, timeout_in_seconds=1, body=b"warm up")
                )
            else:
                await client.send_query(
                    QueryMessage(channel, timeout_in_seconds=1, body=b"warm up")
                )
            break
        except KubeMQError as error:
            # The SDK's own deadline is the request's timeout: either side may be first.
            assert "Error 301" in str(error) or "timed out" in str(error), error
    seen.clear()
    try:
        yield seen
    finally:
        token.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, KubeMQError):
            await task


def test_client_connects_and_pings(address):
    async def body():
        async with AsyncPubSubClient(address=address, client_id="async") as client:
            info = await client.ping()
            assert info.host and info.version.startswith("v2.")

    run(body())


def test_events_by_stream_and_by_call(address, name):
    async def body():
        channel = name()
        async with AsyncPubSubClient(address=address, client_id="async") as client:
            async with events(client, channel) as got:
                await client.send_event_unary(
                    EventMessage(channel=channel, body=b"unary", metadata="m", tags={"k": "v"})
                )
                await eventually(lambda: len(got) == 1, "the unary event")
                assert (got[0].channel, got[0].body, got[0].metadata) == (channel, b"unary", "m")
                assert got[0].tags == {"k": "v"}
                for index in range(300):
                    await client.publish_event(EventMessage(channel=channel, body=b"%d" % index))
                await eventually(lambda: len(got) == 301, "300 streamed events")
                assert [event.body for event in got[1:]] == [b"%d" % index for index in range(300)]

    run(body())


def test_wildcards_and_groups(address, name):
    async def body():
        base = name()
        async with (
            AsyncPubSubClient(address=address, client_id="async-1") as one,
            AsyncPubSubClient(address=address, client_id="async-2") as two,
            events(one, base + ".*", "g", base + ".x") as first,
            events(two, base + ".x", "g") as second,
            events(two, base + ".>", probe=base + ".x") as alone,
        ):
            for index in range(30):
                await one.publish_event(EventMessage(channel=base + ".x", body=b"%d" % index))
            await eventually(lambda: len(alone) >= 30, "30 events outside the group")
            await eventually(lambda: len(first) + len(second) >= 30, "30 events in the group")
            bodies = sorted(event.body for event in first + second)
            assert bodies == sorted(b"%d" % index for index in range(30))

    run(body())


def test_stored_events_round_trip(address, name):
    async def body():
        channel = name()
        async with AsyncPubSubClient(address=address, client_id="async") as client:
            for index in range(50):
                message = EventStoreMessage(channel=channel, body=b"%d" % index, id=f"id-{index}")
                result = await client.send_event_store(message)
                assert (result.id, result.sent) == (f"id-{index}", True)
            subscription = EventsStoreSubscription(
                channel=channel,
                events_store_type=EventStoreStartPosition.StartAtSequence,
                events_store_sequence_value=11,
                on_receive_event_callback=ignore,
            )
            got, token = [], AsyncCancellationToken()

            async def collect():
                async for event in client.subscribe_to_events_store(subscription, token):
                    got.append(event)

            task = asyncio.create_task(collect())
            await eventually(lambda: len(got) >= 40, "40 stored events")
            await client.send_event_store(EventStoreMessage(channel=channel, body=b"50"))
            await eventually(lambda: len(got) >= 41, "the live one")
            token.cancel()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, KubeMQError):
                await task
            assert [event.body for event in got] == [b"%d" % index for index in range(10, 51)]
            assert [event.sequence for event in got] == list(range(11, 52))

    run(body())


@pytest.mark.parametrize("kind", ["command", "query"])
def test_request_round_trip(address, name, kind):
    async def body():
        channel = name()
        async with AsyncCQClient(address=address, client_id="async-cq") as client:
            async with responder(
                client, kind, channel, lambda r: {"body": b"re: " + r.body}
            ) as seen:
                if kind == "command":
                    response = await client.send_command(
                        CommandMessage(channel, timeout_in_seconds=10, body=b"x", id="id-1")
                    )
                else:
                    response = await client.send_query(
                        QueryMessage(channel, timeout_in_seconds=10, body=b"x", id="id-1")
                    )
                assert response.is_executed and response.request_id == "id-1"
                assert response.body == (b"" if kind == "command" else b"re: x")
                assert [(r.body, r.from_client_id) for r in seen] == [(b"x", "async-cq")]

    run(body())


def test_fifty_queries_at_once(address, name):
    async def body():
        channel = name()
        async with AsyncCQClient(address=address, client_id="async-cq") as client:
            async with responder(client, "query", channel, lambda r: {"body": b"re: " + r.body}):
                messages = [
                    QueryMessage(channel, timeout_in_seconds=20, body=b"%d" % index)
                    for index in range(50)
                ]
                responses = await asyncio.gather(
                    *(client.send_query(message) for message in messages)
                )
                assert [r.body for r in responses] == [b"re: %d" % index for index in range(50)]

    run(body())


def test_query_cache(address, name):
    async def body():
        channel = name()
        async with AsyncCQClient(address=address, client_id="async-cq") as client:
            async with responder(client, "query", channel, lambda r: {"body": r.body}) as seen:
                cached = dict(timeout_in_seconds=10, cache_key="k", cache_ttl_in_seconds=600)
                first = await client.send_query(QueryMessage(channel, body=b"1", **cached))
                second = await client.send_query(QueryMessage(channel, body=b"2", **cached))
                assert (first.cache_hit, second.cache_hit) == (False, True)
                assert (first.body, second.body) == (b"1", b"1")
                assert len(seen) == 1

    run(body())


def test_command_without_a_responder_times_out(address, name):
    async def body():
        async with AsyncCQClient(address=address, client_id="async-cq") as client:
            await client.ping()
            start = time.monotonic()
            with pytest.raises(KubeMQError) as caught:
                await client.send_command(CommandMessage(name(), timeout_in_seconds=1, body=b"x"))
            assert_on_time(time.monotonic() - start, 1)
            text = str(caught.value).lower()
            assert "timeout" in text or "deadline" in text

    run(body())
