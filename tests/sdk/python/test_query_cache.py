"""The query cache: seconds, keyed by channel and key, filled by executed answers only."""

import time

from wire import LATE, Request, Subscribe, eventually


def _counter(**fields):
    """Makes an answer that says how often it was asked for."""
    count = 0

    def answer(_):
        nonlocal count
        count += 1
        return {"Body": b"%d" % count, **fields}

    return answer


def test_second_query_is_answered_from_the_cache(wire, name):
    channel = name()
    responder = wire.connect().responder(
        channel, _counter(ClientID="resp-1", Metadata="m", Tags={"t": "1"}, Timestamp=77, Span=b"s")
    )
    first = wire.ask(channel, RequestID="id-1", CacheKey="k", CacheTTL=600)
    second = wire.ask(channel, b"another body", RequestID="id-2", CacheKey="k", CacheTTL=600)
    assert (first.CacheHit, first.RequestID, first.Body) == (False, "id-1", b"1")
    assert (second.CacheHit, second.RequestID, second.Body) == (True, "id-2", b"1")
    assert (second.ClientID, second.Metadata, dict(second.Tags)) == ("resp-1", "m", {"t": "1"})
    assert (second.Executed, second.Error, second.ReplyChannel) == (True, "", "")
    responder.stays_at(1, seconds=0.1)


def test_hit_without_a_request_id_gets_a_generated_one(wire, name):
    channel = name()
    wire.responder(channel)
    first = wire.ask(channel, CacheKey="k", CacheTTL=600)
    second = wire.ask(channel, CacheKey="k", CacheTTL=600)
    assert second.CacheHit
    assert second.RequestID and second.RequestID != first.RequestID


def test_cache_is_shared_by_all_connections(wire, name):
    channel = name()
    responder = wire.connect().responder(channel, _counter())
    assert not wire.ask(channel, CacheKey="k", CacheTTL=600).CacheHit
    for _ in range(6):
        response = wire.connect().ask(channel, CacheKey="k", CacheTTL=600)
        assert (response.CacheHit, response.Body) == (True, b"1")
    responder.stays_at(1, seconds=0.1)


def test_cache_answers_when_the_responder_is_gone(wire, name):
    channel = name()
    responder = wire.connect().responder(channel)
    wire.ask(channel, CacheKey="k", CacheTTL=600)
    responder.cancel()
    responder.end()
    assert wire.ask(channel, timeout=2000, CacheKey="k", CacheTTL=600).CacheHit


def test_other_keys_channels_and_queries_without_a_key_are_not_hits(wire, name):
    channel, other = name("a"), name("b")
    responder = wire.responder(channel, _counter())
    wire.responder(other)
    assert not wire.ask(channel, CacheKey="k1", CacheTTL=600).CacheHit
    assert not wire.ask(channel, CacheKey="k2", CacheTTL=600).CacheHit
    assert not wire.ask(channel).CacheHit
    assert not wire.ask(other, CacheKey="k1", CacheTTL=600).CacheHit
    assert wire.ask(channel, CacheKey="k1", CacheTTL=600).CacheHit
    responder.stays_at(3, seconds=0.1)


def test_lifetime_is_in_seconds(wire, name):
    channel = name()
    wire.responder(channel, _counter())
    before = time.monotonic()
    first = wire.ask(channel, CacheKey="k", CacheTTL=2)
    filled = time.monotonic()
    assert first.Body == b"1"
    # Asking again while it lives does not lengthen the life.
    response = eventually(
        lambda: _miss(wire.ask(channel, CacheKey="k", CacheTTL=2)), "the entry expires", pause=0.05
    )
    expired = time.monotonic()
    assert response.Body == b"2"
    assert expired - before >= 2 - 0.005, "expired early"
    assert expired - filled <= 2 + LATE, "expired late"
    assert wire.ask(channel, CacheKey="k", CacheTTL=2).CacheHit


def _miss(response):
    return None if response.CacheHit else response


def test_lifetimes_beyond_a_day_are_taken(wire, name):
    # One SDK sends milliseconds: a day of them, and the largest number there is.
    for lifetime in (86_400, 86_400_000, 2**31 - 1):
        channel = name(str(lifetime))
        wire.responder(channel)
        wire.ask(channel, CacheKey="k", CacheTTL=lifetime)
        assert wire.ask(channel, CacheKey="k", CacheTTL=lifetime).CacheHit


def test_failed_answers_are_not_cached(wire, name):
    channel = name()
    count = _counter()

    def answer(seen):
        fields = count(seen)
        return {**fields, "Executed": fields["Body"] != b"1", "Error": "not yet"}

    wire.responder(channel, answer)
    first = wire.ask(channel, CacheKey="k", CacheTTL=600)
    assert (first.Executed, first.CacheHit) == (False, False)
    second = wire.ask(channel, CacheKey="k", CacheTTL=600)
    assert (second.Executed, second.CacheHit, second.Body) == (True, False, b"2")
    assert wire.ask(channel, CacheKey="k", CacheTTL=600).CacheHit


def test_commands_are_never_cached(wire, name):
    channel = name()
    responder = wire.responder(channel, kind=Subscribe.Commands)
    for _ in range(3):
        response = wire.ask(channel, kind=Request.Command, CacheKey="k", CacheTTL=600)
        assert not response.CacheHit
    responder.stays_at(3, seconds=0.1)


def test_cache_of_a_query_does_not_answer_a_command(wire, name):
    channel = name()
    wire.responder(channel)
    commands = wire.responder(channel, kind=Subscribe.Commands)
    wire.ask(channel, CacheKey="k", CacheTTL=600)
    assert not wire.ask(channel, kind=Request.Command, CacheKey="k", CacheTTL=600).CacheHit
    commands.stays_at(1, seconds=0.1)


def test_response_bigger_than_the_rest_of_the_cache_is_still_delivered(wire, name):
    channel = name()
    body = b"x" * (5 << 20)
    wire.responder(channel, lambda _: {"Body": body})
    for _ in range(2):
        assert wire.ask(channel, CacheKey="k", CacheTTL=600).Body == body
