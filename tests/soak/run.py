#!/usr/bin/env python3
"""A soak on a disturbed machine: no connection may stall.

The broker shares its core with a busy neighbour and is stopped and continued every second, as
virtual machines and throttled containers are. Meanwhile long-lived publishers, subscribers,
requesters and responders go on, and fresh connections come every half a second with many calls in
flight. A connection that makes no progress for three seconds, not counting the pauses, is a stall;
the socket queues of that moment tell on which side the bytes lie.

Needs the virtual environment of the SDK suites (the package `kubemq` with `grpcio`):

    target/sdk-venv/bin/python tests/soak/run.py --seconds 900 --binary target/release/ringmq
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
from kubemq.grpc import kubemq_pb2 as pb

STALL_SECONDS = 3.0
FRESH_EVERY_SECONDS = 0.5
REPORT_EVERY_SECONDS = 60.0
EVENTS_PER_SECOND = 50
PAIRS = 4
FRESH_PINGS = 48
FRESH_REQUESTS = 16
SERVICE = "/kubemq.kubemq/"

CHANNEL_OPTIONS = [
    # Every channel has connections of its own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 20000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


class Pauses:
    """When the broker was stopped: that time is nobody's fault."""

    def __init__(self):
        self._intervals = []
        self._began = None
        self.count = 0
        self.seconds = 0.0

    def begin(self):
        self._began = time.monotonic()

    def end(self):
        begin, end = self._began, time.monotonic()
        self._intervals.append((begin, end))
        self._began = None
        self.count += 1
        self.seconds += end - begin

    def within(self, begin, end):
        under_way = self._began
        total = 0.0 if under_way is None else max(0.0, end - max(begin, under_way))
        for pause_begin, pause_end in reversed(self._intervals):
            if pause_end <= begin:
                break
            total += max(0.0, min(end, pause_end) - max(begin, pause_begin))
        return total


class Line:
    """Something that has to go on: a stream, a requester, a fresh connection."""

    def __init__(self, soak, kind, name):
        self.kind = kind
        self.name = name
        self.progress_at = time.monotonic()
        self.stalled = False
        self._soak = soak
        soak.lines.add(self)

    def progress(self, amount=1):
        now = time.monotonic()
        # The watcher may not have looked in the meantime.
        self._soak.judge(self, now)
        self.progress_at = now
        self.stalled = False
        self._soak.progress[self.kind] += amount

    def close(self):
        self._soak.lines.discard(self)


class Soak:
    def __init__(self, arguments):
        self.arguments = arguments
        self.ending = threading.Event()
        self.pauses = Pauses()
        self.lines = set()
        self.progress = collections.Counter()
        self.stalls = collections.Counter()
        self.errors = collections.Counter()
        self.error_texts = collections.Counter()
        self.slowest = collections.defaultdict(float)
        self.threads = []
        self.folder = tempfile.TemporaryDirectory(prefix="ringmq-soak-")
        self.log_path = Path(self.folder.name) / "log.txt"
        self.broker = None
        self.neighbours = []
        self.address = None

    # The machine.

    def start_broker(self):
        addresses = Path(self.folder.name) / "addresses.json"
        cpu = self.arguments.server_cpu
        with self.log_path.open("wb") as log:
            self.broker = subprocess.Popen(
                [
                    self.arguments.binary, "server", "--bind", "127.0.0.1",
                    "--grpc-port", "0", "--rest-port", "0", "--api-port", "0",
                    "--cores", str(self.arguments.cores),
                    "--data", str(Path(self.folder.name) / "data"),
                    "--addresses-file", str(addresses),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1"},
                preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
            )
        end = time.monotonic() + 30
        while self.address is None:
            if self.broker.poll() is not None or time.monotonic() > end:
                sys.exit(f"the broker did not start:\n{self.log_path.read_text()}")
            time.sleep(0.02)
            if addresses.exists():
                self.address = json.loads(addresses.read_text())["grpc"]

    def start_neighbours(self):
        cpu = self.arguments.server_cpu
        for _ in range(self.arguments.neighbours):
            busy = subprocess.Popen(
                [sys.executable, "-c", "while True: pass"],
                preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
            )
            self.neighbours.append(busy)

    def pause_again_and_again(self):
        low, high = self.arguments.pause_ms
        while high and not self.ending.wait(self.arguments.pause_every):
            self.pauses.begin()
            self.broker.send_signal(signal.SIGSTOP)
            time.sleep(random.uniform(low, high) / 1000)
            self.broker.send_signal(signal.SIGCONT)
            self.pauses.end()

    # The watcher.

    def judge(self, line, now):
        waited = now - line.progress_at - self.pauses.within(line.progress_at, now)
        self.slowest[line.kind] = max(self.slowest[line.kind], waited)
        if waited > STALL_SECONDS and not line.stalled:
            line.stalled = True
            side, queues = self.side_of_stall()
            self.stalls[(line.kind, side)] += 1
            say(f"STALL {line.kind} {line.name}: {waited:.1f} s, side {side}, queues {queues}")

    def watch(self):
        while not self.ending.wait(0.2):
            now = time.monotonic()
            for line in list(self.lines):
                self.judge(line, now)

    def side_of_stall(self):
        """Where unread bytes lie: in the broker's sockets, the clients', or in none."""
        port = int(self.address.rsplit(":", 1)[1])
        server, client = [], []
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, queues = row.split()[:5]
            unread = int(queues.split(":")[1], 16)
            # 0A: the listener, whose queue holds connections that were not accepted.
            if unread and int(local.split(":")[1], 16) == port:
                server.append(("accept" if state == "0A" else "read", unread))
            elif unread and int(remote.split(":")[1], 16) == port:
                client.append(("read", unread))
        side = "broker" if server else "client" if client else "no queue"
        return side, {"broker": server[:8], "client": client[:8]}

    # The traffic.

    def error(self, kind, error):
        if self.ending.is_set():
            return
        self.errors[kind] += 1
        text = f"{error.code().name}: {error.details()}"[:160]
        self.error_texts[(kind, text)] += 1

    def channel(self):
        return grpc.insecure_channel(self.address, options=CHANNEL_OPTIONS)

    def spawn(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self.threads.append(thread)

    def publish(self, name):
        event = pb.Event(ClientID="soak", Channel=name, Body=bytes(1024))

        def events():
            while not self.ending.wait(1 / EVENTS_PER_SECOND):
                yield event

        while not self.ending.is_set():
            with self.channel() as channel:
                try:
                    for _ in stub(channel, "SendEventsStream")(events()):
                        self.errors["results of plain events"] += 1
                except grpc.RpcError as error:
                    self.error("publisher", error)
                    self.ending.wait(0.2)

    def subscribe(self, name, pattern):
        line = Line(self, "events", name)
        request = pb.Subscribe(SubscribeTypeData=1, ClientID="soak", Channel=pattern)
        while not self.ending.is_set():
            with self.channel() as channel:
                try:
                    for _ in stub(channel, "SubscribeToEvents")(request):
                        line.progress()
                        if self.ending.is_set():
                            break
                except grpc.RpcError as error:
                    self.error("events", error)
                    self.ending.wait(0.2)
        line.close()

    def respond(self, name):
        request = pb.Subscribe(SubscribeTypeData=4, ClientID="soak", Channel=name, Group="all")
        while not self.ending.is_set():
            with self.channel() as channel:
                answer = stub(channel, "SendResponse")
                # A call that nobody holds is cancelled.
                answers = set()
                try:
                    for query in stub(channel, "SubscribeToRequests")(request):
                        sent = answer.future(
                            pb.Response(
                                ClientID="soak", RequestID=query.RequestID,
                                ReplyChannel=query.ReplyChannel, Body=query.Body, Executed=True,
                            )
                        )
                        answers.add(sent)
                        sent.add_done_callback(answers.discard)
                        if self.ending.is_set():
                            break
                except grpc.RpcError as error:
                    self.error("responder", error)
                    self.ending.wait(0.2)

    def request(self, name):
        line = Line(self, "requests", name)
        query = query_for(name)
        while not self.ending.is_set():
            with self.channel() as channel:
                send = stub(channel, "SendRequest")
                try:
                    while not self.ending.is_set():
                        send(query, timeout=60)
                        line.progress()
                        time.sleep(0.005)
                except grpc.RpcError as error:
                    self.error("requests", error)
                    self.ending.wait(0.2)
        line.close()

    def connect_afresh(self):
        number = 0
        while not self.ending.wait(FRESH_EVERY_SECONDS):
            number += 1
            self.spawn(self.fresh_connection, number)
            self.threads = [thread for thread in self.threads if thread.is_alive()]

    def fresh_connection(self, number):
        line = Line(self, "fresh", f"connection {number}")
        query = query_for(f"soak.requests.{number % PAIRS}")
        with self.channel() as channel:
            ping, send = stub(channel, "Ping"), stub(channel, "SendRequest")
            calls = [ping.future(pb.Empty(), timeout=60) for _ in range(FRESH_PINGS)]
            calls += [send.future(query, timeout=60) for _ in range(FRESH_REQUESTS)]
            for call in calls:
                try:
                    call.result()
                    line.progress()
                except grpc.RpcError as error:
                    self.error("fresh", error)
        line.close()

    # From the start to the table.

    def run(self):
        self.start_broker()
        os.sched_setaffinity(0, {self.arguments.client_cpu})
        for pair in range(PAIRS):
            # Half of the subscribers by a wildcard.
            name = f"soak.events.{pair}"
            self.spawn(self.subscribe, name, name if pair % 2 == 0 else f"soak.*.{pair}")
            self.spawn(self.respond, f"soak.requests.{pair}")
        time.sleep(1)
        for pair in range(PAIRS):
            self.spawn(self.publish, f"soak.events.{pair}")
            self.spawn(self.request, f"soak.requests.{pair}")
        for line in list(self.lines):
            line.progress(0)
        self.spawn(self.watch)
        self.spawn(self.connect_afresh)
        self.start_neighbours()
        self.spawn(self.pause_again_and_again)

        began = time.monotonic()
        end = began + self.arguments.seconds
        while time.monotonic() < end and self.broker.poll() is None:
            time.sleep(min(REPORT_EVERY_SECONDS, max(0.0, end - time.monotonic())))
            say(
                f"{time.monotonic() - began:.0f} s: {dict(self.progress)}, "
                f"stalls {sum(self.stalls.values())}, errors {sum(self.errors.values())}"
            )
        seconds = time.monotonic() - began
        alive = self.broker.poll() is None
        status = self.status() if alive else None
        self.ending.set()
        code = self.stop()
        return self.report(seconds, alive, status, code)

    def status(self):
        """The counts that the broker logs on SIGUSR1."""
        self.broker.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.1)
            for row in reversed(self.log_path.read_text(errors="replace").splitlines()):
                found = status_of(row)
                if found:
                    return found
        return None

    def stop(self):
        self.broker.send_signal(signal.SIGCONT)
        self.broker.send_signal(signal.SIGTERM)
        try:
            code = self.broker.wait(60)
        except subprocess.TimeoutExpired:
            self.broker.kill()
            code = self.broker.wait()
        for neighbour in self.neighbours:
            neighbour.kill()
            neighbour.wait()
        return code

    def report(self, seconds, alive, status, code):
        arguments = self.arguments
        stalls = collections.Counter()
        for (kind, _), count in self.stalls.items():
            stalls[kind] += count
        rows = [
            ("duration", f"{seconds:.0f} s, {arguments.cores} shard(s) on one cpu, "
                         f"{arguments.neighbours} busy neighbour(s)"),
            ("pauses", f"{self.pauses.count}, {self.pauses.seconds:.1f} s in all"),
        ]
        for kind in ("events", "requests", "fresh"):
            rows.append((kind, f"{self.progress[kind]} done, slowest step "
                               f"{self.slowest[kind]:.2f} s, {stalls[kind]} stalls, "
                               f"{self.errors[kind]} errors"))
        for (kind, side), count in sorted(self.stalls.items()):
            rows.append(("stalls", f"{count} of {kind}, bytes in: {side}"))
        for (kind, text), count in self.error_texts.most_common(8):
            rows.append(("errors", f"{count} of {kind}: {text}"))
        for shard in (status or {}).get("shards", []):
            rows.append((f"shard {shard.get('shard')}", json.dumps(shard)))
        rows.append(("exit", f"{code}" if alive else f"{code}: ended during the soak"))
        width = max(len(name) for name, _ in rows)
        say("")
        for name, value in rows:
            say(f"{name:<{width}}  {value}")
        good = alive and code == 0 and status and not self.stalls and not self.errors
        say(f"{'verdict':<{width}}  {'no connection stalled' if good else 'FAILED'}")
        if not good:
            say(f"\nthe end of the broker's log:\n{self.log_path.read_text(errors='replace')[-4000:]}")
        return 0 if good else 1


def stub(channel, method):
    """A call of the contract's method."""
    kinds = {
        "Ping": (channel.unary_unary, pb.PingResult),
        "SendRequest": (channel.unary_unary, pb.Response),
        "SendResponse": (channel.unary_unary, pb.Empty),
        "SendEventsStream": (channel.stream_stream, pb.Result),
        "SubscribeToEvents": (channel.unary_stream, pb.EventReceive),
        "SubscribeToRequests": (channel.unary_stream, pb.Request),
    }
    make, answer = kinds[method]
    return make(
        SERVICE + method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )


def query_for(name):
    return pb.Request(
        RequestTypeData=2, ClientID="soak", Channel=name, Body=bytes(256), Timeout=30_000,
    )


def status_of(row):
    """The status report in a row of the log, which holds it as a JSON object."""
    _, _, text = row.partition("status=")
    if not text.startswith("{"):
        return None
    try:
        report, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    report = report.get("status")
    return report if isinstance(report, dict) and "shards" in report else None


def say(text):
    print(text, flush=True)


def milliseconds(text):
    low, _, high = text.partition("-")
    return float(low), float(high or low)


def main():
    cpus = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/ringmq")
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--cores", type=int, default=1, help="shards, all on one cpu")
    parser.add_argument("--pause-ms", type=milliseconds, default=(50.0, 150.0),
                        help="length of a pause, as low-high; 0 for none")
    parser.add_argument("--pause-every", type=float, default=1.0, help="seconds between pauses")
    parser.add_argument("--neighbours", type=int, default=1, help="busy loops on the broker's cpu")
    parser.add_argument("--server-cpu", type=int, default=cpus[0])
    parser.add_argument("--client-cpu", type=int, default=cpus[-1])
    soak = Soak(parser.parse_args())
    try:
        code = soak.run()
    finally:
        soak.ending.set()
        for child in [soak.broker, *soak.neighbours]:
            if child is not None and child.poll() is None:
                child.kill()
                child.wait()
    # Calls of stalled connections must not keep the process.
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
