#!/usr/bin/env python3
"""Twice the load that the broker can take: goodput, latency of what it accepts, memory, what it says, recovery.

Needs `cargo build --release` and two processors: one for the broker, one for the generators.

    bench/overload.py                                 all works, five rounds
    bench/overload.py --work stored --rounds 3
    bench/overload.py --against ../before/ringmq      two builds in turns

Works are chosen so that the broker is what is short, and not the generator:

    processor   unary events that are routed to 40 channels each
    stored      unary stored events of 1 KiB
    large       unary stored events of 16 KiB

A round first finds the capacity C (closed, 256 in flight), then offers 2 C for some seconds. A quiet client beside it,
with a connection of its own, makes 50 calls a second from before the load until after it: what it sees is what any
client sees that does not itself ask for too much. "Accepted" is a call that the broker has read; how long those took
is told by the broker's own histogram.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import broker
from broker import BINARIES, Broker, cell, pinned

BROKER_CPU, LOAD_CPU = 0, 1
ROUTES = [{"Key": "overload.*", "Routes": ";".join(f"events:overload.{number}" for number in range(40))}]
WORKS = {
    "processor": {
        "arguments": ["--pattern", "events", "--channel-prefix", "route:overload", "--size", "64"],
        "methods": ["SendEvent"],
        "window": 512,
    },
    "stored": {
        "arguments": ["--pattern", "events-store", "--channel-prefix", "overload", "--size", "1KiB"],
        "methods": ["SendEvent", "SendEvent.store"],
        "window": 512,
    },
    "large": {
        "arguments": ["--pattern", "events-store", "--channel-prefix", "overload", "--size", "16KiB"],
        "methods": ["SendEvent", "SendEvent.store"],
        "window": 512,
    },
}
PRODUCERS = 16


def command(server, work, *more):
    line = [BINARIES / "ringmq-loadgen", "run", "--address", server.address, "--pid", server.process.pid]
    line += ["--cpus", LOAD_CPU, "--calls", "unary", "--consumers", 0, "--quiet", "--json", "-", "--park"]
    return [str(part) for part in [*line, *WORKS[work]["arguments"], *more]]


def result(process):
    text, _ = process.communicate()
    if process.returncode not in (0, 1, 4):
        sys.exit(f"{' '.join(process.args)}: exit {process.returncode}")
    return json.loads(text)


def start(line):
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


class Watch:
    """Looks at the broker ten times a second: memory, /health, /ready."""

    def __init__(self, server):
        self.server, self.samples, self.stopped = server, [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopped.wait(0.1):
            at = time.monotonic()
            status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
            rss = int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024
            health, ready = page(self.server, "/health"), page(self.server, "/ready")
            self.samples.append((at, rss, health, ready, time.monotonic() - at))

    def end(self):
        self.stopped.set()
        self.thread.join()
        return self.samples


def page(server, path):
    try:
        with urllib.request.urlopen(f"http://{server.addresses['api']}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except OSError as error:
        return 0, str(error)


def buckets(server, methods):
    """The cumulated counts of the methods' histogram, by bound in seconds."""
    counts = {}
    for line in page(server, "/metrics?channels=0")[1].splitlines():
        found = re.match(r'ringmq_method_duration_seconds_bucket\{method="([^"]+)",le="([^"]+)"\} (\d+)', line)
        if found and found[1] in methods:
            bound = float(found[2].replace("+Inf", "inf"))
            counts[bound] = counts.get(bound, 0) + int(found[3])
    return counts


def quantile_ms(before, after, part):
    """The bound of the bucket in which the quantile lies."""
    grown = {bound: after[bound] - before.get(bound, 0) for bound in after}
    total = grown.get(float("inf"), 0)
    below = [bound for bound in sorted(grown) if total and grown[bound] >= part * total]
    return below[0] * 1e3 if below else None


def capacity(server, work, seconds):
    line = command(server, work, "--producers", PRODUCERS, "--window", 16, "--duration", seconds, "--warm-up", 1)
    return result(start(line))["through_per_s"]


def quiet_ms(timeline, began_s, ended_s, name="p99_us"):
    slots = [slot["acknowledged"] for slot in timeline if began_s < slot["end_s"] <= ended_s]
    values = [slot[name] for slot in slots if slot and slot["count"]]
    return statistics.median(values) / 1e3 if values else None


def one_round(server, work, seconds):
    most = capacity(server, work, 3)
    watch = Watch(server)
    lead_s, tail_s = 2, 4
    quiet = start(command(server, work, "--producers", 1, "--rate", 50, "--warm-up", 0, "--duration", lead_s + seconds + 1 + tail_s))
    time.sleep(lead_s)
    before, loaded_at = buckets(server, WORKS[work]["methods"]), time.monotonic()
    window = WORKS[work]["window"]
    offered = ["--rate", int(2 * most), "--producers", PRODUCERS, "--window", window]
    load = result(start(command(server, work, *offered, "--warm-up", 1, "--duration", seconds, "--drain", 5)))
    after, ended_at = buckets(server, WORKS[work]["methods"]), time.monotonic()
    quiet_result, samples = result(quiet), watch.end()
    # The load ends when the last of what was sent is answered.
    load_s = ended_at - loaded_at
    timeline, quiet_before = quiet_result["timeline"], None
    quiet_before = quiet_ms(timeline, 0.5, lead_s - 0.25, "p99_us")
    calm = [slot["end_s"] for slot in timeline if slot["end_s"] > lead_s + load_s and slot["acknowledged"]["count"]
            and slot["acknowledged"]["p99_us"] / 1e3 < max(3 * quiet_before, 5)]
    during = [sample for sample in samples if loaded_at + 2 < sample[0] < loaded_at + 1 + seconds]
    told = [sample for sample in during if "overloaded" in sample[3][1]]
    said_after = [sample[0] - ended_at for sample in samples if sample[0] > ended_at and "overloaded" in sample[3][1]]
    return {
        "capacity": most,
        "goodput": load["through_per_s"],
        "failed": load["counts"]["failed"],
        "intended": load["counts"]["intended"],
        "accepted_p50": quantile_ms(before, after, 0.50),
        "accepted_p99": quantile_ms(before, after, 0.99),
        "quiet_before": quiet_before,
        "quiet_p50": quiet_ms(timeline, lead_s + 1, lead_s + 1 + seconds, "p50_us"),
        "quiet_p99": quiet_ms(timeline, lead_s + 1, lead_s + 1 + seconds, "p99_us"),
        "recovered": calm[0] - lead_s - load_s if calm else None,
        "said_after": max(said_after, default=0),
        "rss": [sample[1] for sample in during],
        "rss_after": samples[-1][1],
        "told": len(told) / len(during) if during else None,
        "health": during[-1][2] if during else None,
        "ready": during[-1][3] if during else None,
        "statuses": sorted({sample[at][0] for sample in samples for at in (2, 3)}),
        "slowest_page": max(sample[4] for sample in samples) * 1e3,
        "errors": load["errors"][:1],
    }


ROWS = [
    ("capacity, calls/s", "capacity", "%.0f"),
    ("goodput at twice that, calls/s", "goodput", "%.0f"),
    ("of the capacity, %", "share", "%.0f"),
    ("refused, % of what was offered", "refused", "%.1f"),
    ("accepted calls in the broker, p50 ≤ ms", "accepted_p50", "%g"),
    ("accepted calls in the broker, p99 ≤ ms", "accepted_p99", "%g"),
    ("quiet client before, p99 ms", "quiet_before", "%.2f"),
    ("quiet client during, p50 ms", "quiet_p50", "%.2f"),
    ("quiet client during, p99 ms", "quiet_p99", "%.2f"),
    ("quiet client calm again after, s", "recovered", "%.2f"),
    ("memory during, first second, MiB", "rss_first", "%.0f"),
    ("memory during, last second, MiB", "rss_last", "%.0f"),
    ("memory during, most, MiB", "rss_most", "%.0f"),
    ("/ready says overloaded, % of the time", "told_percent", "%.0f"),
    ("… and after the load for, s", "said_after", "%.2f"),
    ("slowest look at /health and /ready, ms", "slowest_page", "%.0f"),
]


def figures(one):
    rss = one["rss"] or [0]
    return one | {
        "share": 100 * one["goodput"] / one["capacity"],
        "refused": 100 * one["failed"] / max(one["intended"], 1),
        "rss_first": statistics.median(rss[:10]),
        "rss_last": statistics.median(rss[-10:]),
        "rss_most": max(rss),
        "told_percent": None if one["told"] is None else 100 * one["told"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=WORKS, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--against", type=pathlib.Path, help="another build of the broker")
    parser.add_argument("--binaries", type=pathlib.Path, help="the folder of ringmq and ringmq-loadgen")
    arguments = parser.parse_args()
    if arguments.binaries:
        global BINARIES
        BINARIES = broker.BINARIES = arguments.binaries.resolve()
    builds = {"this build": BINARIES / "ringmq"}
    if arguments.against:
        builds["the other"] = arguments.against.resolve()
    for work in arguments.work or WORKS:
        rounds = {name: [] for name in builds}
        for number in range(arguments.rounds):
            for name, binary in builds.items():
                with tempfile.TemporaryDirectory(dir=".") as folder:
                    broker.BROKER = binary
                    server = Broker(folder, BROKER_CPU, 1, ["--log-level", "error", "--set", f"routing.data={json.dumps(ROUTES)}", "--set", "routing.enable=true"])
                    one = one_round(server, work, arguments.seconds)
                    server.end()
                rounds[name].append(figures(one))
                told = {key: value for key, value in one.items() if key != "rss"}
                print(f"{work}, round {number + 1}, {name}: {json.dumps(told)}", file=sys.stderr)
        print(f"\n### {work}\n\n| | {' | '.join(builds)} |\n|---|{'---:|' * len(builds)}")
        for title, key, form in ROWS:
            cells = [cell([one[key] for one in rounds[name]], form) for name in builds]
            print(f"| {title} | {' | '.join(cells)} |")
        last = rounds["this build"][-1]
        print(f"\n`/health`: {last['health']}\n`/ready`: {last['ready']}")


if __name__ == "__main__":
    main()
