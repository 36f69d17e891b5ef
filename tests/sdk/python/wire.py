"""Raw gRPC clients for the tests: everything that the SDKs hide is visible here."""

import collections
import queue
import threading
import time

import grpc

from contract import Stub, insecure_channel, pb

DEADLINE = 40.0
"""Seconds within which whatever must happen has happened, on a slow and busy machine too."""

LATE = 1.5
"""Seconds by which an answer with a fixed time may be late. It may never be early."""

Subscribe, Request = pb.Subscribe, pb.Request

Status = collections.namedtuple("Status", "code details")
"""How a call ended: the code's name and the text."""


def status_of(error):
    return Status(error.code().name, error.details())


def eventually(condition, what, deadline=DEADLINE, pause=0.02):
    """Polls until `condition()` is true and returns its value."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline} s: {what}")
        time.sleep(pause)


class Reader:
    """Reads the messages of a call on a thread of its own and remembers how the call ended."""

    def __init__(self, call):
        self.call = call
        self.headers = None
        self.messages = []
        self.status = None
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        status = Status("OK", "")
        try:
            headers = self.call.initial_metadata()
            with self._changed:
                self.headers = headers
                self._changed.notify_all()
            for message in self.call:
                with self._changed:
                    self.messages.append(message)
                    self._changed.notify_all()
        except grpc.RpcError as error:
            status = status_of(error)
        with self._changed:
            self.status = status
            self._changed.notify_all()

    def _wait(self, condition, deadline):
        with self._changed:
            self._changed.wait_for(lambda: condition() or self.status is not None, deadline)
            return condition()

    def ready(self, deadline=DEADLINE):
        """Waits for the response headers: the broker sends them when the subscription is active."""
        if not self._wait(lambda: self.headers is not None, deadline) or self.status is not None:
            raise AssertionError(f"no response headers, status {self.status}")
        return self

    def wait(self, count, deadline=DEADLINE):
        """Waits for `count` messages in all and returns them."""
        if not self._wait(lambda: len(self.messages) >= count, deadline):
            got = f"{len(self.messages)} of {count} messages"
            raise AssertionError(f"{got} within {deadline} s, status {self.status}")
        return list(self.messages)

    def end(self, deadline=DEADLINE):
        """Waits for the end of the call."""
        if not self._wait(lambda: self.status is not None, deadline):
            raise AssertionError(f"the call is still open after {deadline} s")
        return self.status

    def stays_at(self, count, seconds=0.4):
        """Checks that no message beyond `count` comes, and that the call stays open."""
        more = self._wait(lambda: len(self.messages) > count, seconds)
        assert not more, f"{len(self.messages)} messages, expected {count}: {self.messages[count:]}"
        assert len(self.messages) == count
        assert self.status is None, f"the call ended: {self.status}"

    def stays_open(self, seconds):
        """Checks that the call does not end for so long."""
        self._wait(lambda: False, seconds)
        assert self.status is None, f"the call ended: {self.status}"

    def bodies(self):
        return [message.Body for message in self.messages]

    def sequences(self):
        return [message.Sequence for message in self.messages]

    def cancel(self):
        self.call.cancel()


class Stream(Reader):
    """A call that streams both ways."""

    def __init__(self, method, **options):
        self._outgoing = queue.SimpleQueue()
        super().__init__(method(iter(self._outgoing.get, None), **options))

    def send(self, message):
        self._outgoing.put(message)

    def half_close(self):
        self._outgoing.put(None)


class Responder(Reader):
    """Answers requests: `answer(request)` gives the fields of the response, or None for silence."""

    def __init__(self, client, request, answer=None):
        self.answer = answer or (lambda request: {})
        self.client = client
        self.failures = []
        super().__init__(_Tap(client.stub.SubscribeToRequests(request), self._respond))

    def _respond(self, request):
        fields = self.answer(request)
        if fields is None:
            return
        try:
            self.client.respond(request, **fields)
        except grpc.RpcError as error:
            self.failures.append(status_of(error))


class _Tap:
    """Passes a call through and shows each message to `see` after handing it on."""

    def __init__(self, call, see):
        self._call, self._see = call, see

    def __getattr__(self, name):
        return getattr(self._call, name)

    def __iter__(self):
        for message in self._call:
            yield message
            self._see(message)


class Client:
    """One connection to the broker."""

    def __init__(self, address, **options):
        self.address = address
        self.channel = insecure_channel(address, list(options.items()))
        self.stub = Stub(self.channel)
        self._children = []
        self._calls = []

    def connect(self, **options):
        """A second connection, closed with this one."""
        child = Client(self.address, **options)
        self._children.append(child)
        return child

    def close(self):
        for call in self._calls:
            call.cancel()
        for child in self._children:
            child.close()
        self.channel.close()

    def keep(self, call):
        self._calls.append(call)
        return call

    def ping(self):
        return self.stub.Ping(pb.Empty(), timeout=DEADLINE)

    def refused(self, method, message, timeout=DEADLINE, **options):
        """Makes a unary call that must fail and returns its status."""
        try:
            answer = getattr(self.stub, method)(message, timeout=timeout, **options)
        except grpc.RpcError as error:
            return status_of(error)
        raise AssertionError(f"{method} was answered: {answer}")

    # Events

    def publish(self, channel, body=b"body", **fields):
        return self.stub.SendEvent(event(channel, body, **fields), timeout=DEADLINE)

    def publish_stream(self, **options):
        return self.keep(Stream(self.stub.SendEventsStream, **options))

    def open_events(self, channel, group="", **options):
        """Subscribes to events without waiting for the subscription to be active."""
        return self.keep(Reader(self.stub.SubscribeToEvents(events_of(channel, group), **options)))

    def events(self, channel, group="", **options):
        """Subscribes to events; active on return."""
        return self.open_events(channel, group, **options).ready()

    # Stored events

    def store(self, channel, body=b"body", **fields):
        """Stores an event; it must be stored."""
        result = self.publish(channel, body, Store=True, **fields)
        assert (result.Sent, result.Error) == (True, ""), result
        return result

    def store_all(self, channel, bodies, **fields):
        """Stores events over a stream and waits until all are stored."""
        stream = self.publish_stream()
        for body in bodies:
            stream.send(event(channel, body, Store=True, **fields))
        results = stream.wait(len(bodies))
        assert all(result.Sent for result in results), results
        stream.half_close()
        assert stream.end().code == "OK"

    def open_stored(self, channel, kind=Subscribe.StartFromFirst, value=0, **fields):
        """Subscribes to stored events without waiting for the subscription to be active."""
        call = self.stub.SubscribeToEvents(stored_of(channel, kind, value, **fields))
        return self.keep(Reader(call))

    def stored(self, channel, kind=Subscribe.StartFromFirst, value=0, **fields):
        """Subscribes to stored events; active on return."""
        return self.open_stored(channel, kind, value, **fields).ready()

    # Requests

    def responder(self, channel, answer=None, kind=Subscribe.Queries, group=""):
        """Answers the requests of a channel; active on return."""
        request = pb.Subscribe(
            SubscribeTypeData=kind, ClientID="responder", Channel=channel, Group=group
        )
        return self.keep(Responder(self, request, answer)).ready()

    def silent(self, channel, kind=Subscribe.Queries, group=""):
        """Takes the requests of a channel and leaves the answer to the test."""
        return self.responder(channel, lambda request: None, kind, group)

    def respond(self, request, **fields):
        fields = {
            "ClientID": "responder",
            "RequestID": request.RequestID,
            "ReplyChannel": request.ReplyChannel,
            "Executed": True,
            **fields,
        }
        return self.stub.SendResponse(pb.Response(**fields), timeout=DEADLINE)

    def ask(self, channel, body=b"ask", **fields):
        """Sends a request and returns the response."""
        return self.stub.SendRequest(request(channel, body, **fields), timeout=DEADLINE)

    def ask_later(self, channel, body=b"ask", **fields):
        """Sends a request and returns a future of the response."""
        message = request(channel, body, **fields)
        return self.keep(self.stub.SendRequest.future(message, timeout=DEADLINE))


def event(channel, body=b"body", **fields):
    return pb.Event(**{"ClientID": "sender", "Channel": channel, "Body": body, **fields})


def events_of(channel, group="", **fields):
    fields = {
        "SubscribeTypeData": Subscribe.Events,
        "ClientID": "subscriber",
        "Group": group,
        **fields,
    }
    return pb.Subscribe(Channel=channel, **fields)


def stored_of(channel, kind=Subscribe.StartFromFirst, value=0, **fields):
    return events_of(
        channel,
        **{
            "SubscribeTypeData": Subscribe.EventsStore,
            "EventsStoreTypeData": kind,
            "EventsStoreTypeValue": value,
            **fields,
        },
    )


def request(channel, body=b"ask", kind=Request.Query, timeout=20_000, **fields):
    fields = {"ClientID": "asker", **fields}
    return pb.Request(RequestTypeData=kind, Channel=channel, Body=body, Timeout=timeout, **fields)


def timed(call):
    """Runs `call` and returns its value and the seconds that it took."""
    start = time.monotonic()
    value = call()
    return value, time.monotonic() - start


def assert_on_time(seconds, expected):
    assert seconds >= expected - 0.005, f"early: {seconds:.3f} s instead of {expected} s"
    assert seconds <= expected + LATE, f"late: {seconds:.3f} s instead of {expected} s"
