"""Commands and queries: the way there, the way back, groups, timeouts."""

import re
import threading

import grpc
import pytest

from contract import pb
from wire import (
    DEADLINE,
    Request,
    Subscribe,
    assert_on_time,
    eventually,
    request,
    status_of,
    timed,
)

TIMEOUT = ("INTERNAL", "Error 301: timeout for request message")
KINDS = [
    pytest.param((Request.Command, Subscribe.Commands), id="command"),
    pytest.param((Request.Query, Subscribe.Queries), id="query"),
]
EVERY_RESPONSE_FIELD = dict(
    ClientID="responder-7",
    Metadata="antwört",
    Body=b"\x00answer",
    CacheHit=True,
    Timestamp=12345,
    Executed=True,
    Span=b"span-b",
    Tags={"r": "1", "empty": ""},
)


def _ask_with_all_fields(wire, name, kinds):
    channel = name()
    responder = wire.connect().responder(channel, lambda _: EVERY_RESPONSE_FIELD, kinds[1])
    response = wire.ask(
        channel,
        b"\x00ask",
        kind=kinds[0],
        timeout=12_345,
        RequestID="id-1",
        ClientID="asker-3",
        Metadata="frage ä",
        Span=b"span-a",
        Tags={"t": "1", "empty": ""},
        ReplyChannel="mine",
        CacheKey=name("key"),
        CacheTTL=60,
    )
    return channel, responder.wait(1)[0], response


@pytest.mark.parametrize("kinds", KINDS)
def test_responder_sees_every_field_of_the_request(wire, name, kinds):
    channel, seen, _ = _ask_with_all_fields(wire, name, kinds)
    assert seen.RequestID == "id-1"
    assert seen.RequestTypeData == kinds[0]
    assert seen.ClientID == "asker-3"
    assert seen.Channel == channel
    assert seen.Metadata == "frage ä"
    assert seen.Body == b"\x00ask"
    assert seen.Timeout == 12_345
    assert (seen.CacheKey, seen.CacheTTL) == (name("key"), 60)
    assert seen.Span == b"span-a"
    assert dict(seen.Tags) == {"t": "1", "empty": ""}
    assert re.fullmatch(r"_INBOX\.[0-9A-Za-z]{22}\.\d+", seen.ReplyChannel), seen.ReplyChannel


def test_query_response_passes_through_without_its_reply_channel(wire, name):
    _, _, response = _ask_with_all_fields(wire, name, (Request.Query, Subscribe.Queries))
    assert response.ReplyChannel == ""
    assert response.RequestID == "id-1"
    assert response.Error == ""
    for field, value in EVERY_RESPONSE_FIELD.items():
        assert getattr(response, field) == value, field


def test_command_response_loses_body_metadata_and_cache_hit(wire, name):
    _, _, response = _ask_with_all_fields(wire, name, (Request.Command, Subscribe.Commands))
    assert (response.Body, response.Metadata, response.ReplyChannel) == (b"", "", "")
    assert not response.CacheHit
    assert (response.RequestID, response.ClientID) == ("id-1", "responder-7")
    assert (response.Timestamp, response.Executed, response.Error) == (12345, True, "")
    assert (response.Span, dict(response.Tags)) == (b"span-b", {"r": "1", "empty": ""})


@pytest.mark.parametrize("kinds", KINDS)
def test_missing_request_id_is_generated(wire, name, kinds):
    channel = name()
    responder = wire.responder(channel, kind=kinds[1])
    responses = [wire.ask(channel, kind=kinds[0]) for _ in range(5)]
    ids = [seen.RequestID for seen in responder.wait(5)]
    assert all(ids) and len(set(ids)) == 5
    assert [response.RequestID for response in responses] == ids


@pytest.mark.parametrize("kinds", KINDS)
def test_failure_of_the_responder_is_data(wire, name, kinds):
    channel = name()
    wire.responder(channel, lambda _: {"Executed": False, "Error": "boom: nö"}, kinds[1])
    response = wire.ask(channel, kind=kinds[0], RequestID="id-1")
    assert (response.Executed, response.Error) == (False, "boom: nö")


def test_nothing_is_filled_in_for_a_minimal_response(wire, name):
    channel = name()
    wire.responder(channel, lambda _: {"Executed": False})
    response = wire.ask(channel, RequestID="id-1")
    assert response == pb.Response(ClientID="responder", RequestID="id-1")


def test_request_id_of_the_response_is_the_responders(wire, name):
    channel = name()
    wire.responder(channel, lambda _: {"RequestID": "id-other"})
    assert wire.ask(channel, RequestID="id-1").RequestID == "id-other"


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("milliseconds", [300, 1000, 2500])
def test_request_without_a_responder_fails_at_its_timeout(wire, name, kinds, milliseconds):
    wire.ping()
    message = request(name(), kind=kinds[0], timeout=milliseconds)
    status, seconds = timed(lambda: wire.refused("SendRequest", message))
    assert status == TIMEOUT
    assert_on_time(seconds, milliseconds / 1000)


def test_request_that_is_not_answered_fails_at_its_timeout(wire, name):
    channel = name()
    responder = wire.silent(channel)
    message = request(channel, timeout=1500)
    status, seconds = timed(lambda: wire.refused("SendRequest", message))
    assert status == TIMEOUT
    assert_on_time(seconds, 1.5)
    assert responder.wait(1)[0].Timeout == 1500


def test_many_timeouts_run_side_by_side(wire, name):
    wire.ping()
    outcomes = {}

    def ask(index):
        milliseconds = 500 + 20 * index
        message = request(name(str(index)), timeout=milliseconds)
        outcomes[milliseconds] = timed(lambda: wire.refused("SendRequest", message))

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 40
    for milliseconds, (status, seconds) in outcomes.items():
        assert status == TIMEOUT
        assert_on_time(seconds, milliseconds / 1000)


def test_late_response_is_taken_and_dropped(wire, name):
    channel = name()
    responder = wire.silent(channel)
    assert wire.refused("SendRequest", request(channel, timeout=300)) == TIMEOUT
    assert wire.respond(responder.wait(1)[0]) == pb.Empty()


def test_first_response_wins_and_the_second_is_dropped(wire, name):
    channel = name()
    responder = wire.silent(channel)
    asking = wire.ask_later(channel)
    (seen,) = responder.wait(1)
    assert wire.respond(seen, ClientID="first") == pb.Empty()
    assert wire.respond(seen, ClientID="second") == pb.Empty()
    assert asking.result().ClientID == "first"
    assert wire.respond(seen, ClientID="third") == pb.Empty()


def test_response_to_an_unknown_reply_channel_is_dropped(wire, name):
    channel = name()
    reader, responder = wire.events(channel), wire.silent(name("r"))
    asking = wire.ask_later(name("r"))
    (seen,) = responder.wait(1)
    guess = seen.ReplyChannel.rsplit(".", 1)[0]
    for reply in (
        "nobody.listens",
        "_EVENTS_." + channel,
        channel,
        guess,
        guess + ".999999",
        "_INBOX.x.1",
    ):
        answer = pb.Response(ClientID="inject", RequestID="id", ReplyChannel=reply, Metadata="m")
        assert wire.stub.SendResponse(answer, timeout=DEADLINE) == pb.Empty()
    reader.stays_at(0)
    wire.respond(seen, Body=b"true answer")
    assert asking.result().Body == b"true answer"


def test_reply_channels_are_never_the_same(wire, name):
    channel = name()
    responder = wire.connect().responder(channel)
    for _ in range(50):
        wire.ask(channel)
    assert len({seen.ReplyChannel for seen in responder.wait(50)}) == 50


def test_each_group_and_each_single_responder_gets_the_request(wire, name):
    channel = name()
    members = {
        label: wire.connect().responder(channel, group=group)
        for label, group in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("solo", ""))
    }
    total = 30
    for _ in range(total):
        assert wire.ask(channel).Executed
    eventually(
        lambda: (
            [len(members[label].messages) for label in ("b1", "solo")] == [total, total]
            and len(members["a1"].messages) + len(members["a2"].messages) == total
        ),
        "every group sees every request once",
    )
    assert members["a1"].messages and members["a2"].messages, "both members take part"
    assert not any(member.failures for member in members.values())


def test_responders_may_subscribe_with_wildcards(wire, name):
    base = name()
    commands = wire.responder(base + ".*", kind=Subscribe.Commands)
    queries = wire.responder(base + ".>")
    assert wire.ask(base + ".a", kind=Request.Command).Executed
    assert wire.ask(base + ".a.b").Executed
    assert [seen.Channel for seen in commands.messages] == [base + ".a"]
    assert [seen.Channel for seen in queries.messages] == [base + ".a.b"]


def test_commands_and_queries_are_separate_name_spaces(wire, name):
    channel = name()
    queries = wire.responder(channel)
    assert (
        wire.refused("SendRequest", request(channel, kind=Request.Command, timeout=500)) == TIMEOUT
    )
    assert wire.ask(channel, b"query").Executed
    assert queries.bodies() == [b"query"]


def test_request_after_the_responder_left_times_out(wire, name):
    channel = name()
    leaving = wire.connect().responder(channel)
    assert wire.ask(channel).Executed
    leaving.cancel()
    assert leaving.end().code == "CANCELLED"
    seen = len(leaving.messages)

    def gone():
        return wire.refused("SendRequest", request(channel, timeout=500))

    assert gone() == TIMEOUT
    assert len(leaving.messages) == seen


def test_responder_that_returns_is_asked_again(wire, name):
    channel = name()
    for round_ in range(3):
        responder = wire.connect().responder(channel, lambda _, n=round_: {"Body": b"%d" % n})
        assert wire.ask(channel).Body == b"%d" % round_
        responder.cancel()
        responder.end()


@pytest.mark.parametrize("connections", [1, 8])
def test_fifty_requests_at_once_get_their_own_answers(wire, name, connections):
    channel = name()
    wire.connect().responder(channel, lambda seen: {"Body": b"re: " + seen.Body})
    clients = [wire.connect() for _ in range(connections)]
    asking = {
        b"%d" % index: clients[index % connections].ask_later(channel, b"%d" % index)
        for index in range(50)
    }
    for body, future in asking.items():
        assert future.result().Body == b"re: " + body


def test_requests_to_many_channels_at_once(wire, name):
    channels = [name(str(index)) for index in range(20)]
    for channel in channels:
        wire.connect().responder(channel, lambda seen: {"Body": seen.Channel.encode()})
    asking = {channel: wire.ask_later(channel) for channel in channels}
    for channel, future in asking.items():
        assert future.result().Body == channel.encode()


def test_callers_own_deadline_ends_the_call(wire, name):
    wire.ping()
    with pytest.raises(grpc.RpcError) as caught:
        wire.stub.SendRequest(request(name(), timeout=60_000), timeout=0.5)
    assert status_of(caught.value).code == "DEADLINE_EXCEEDED"
