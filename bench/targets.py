#!/usr/bin/env python3
"""Measures every line of the table of targets, in interleaved rounds on one machine.

    cargo build --release --workspace
    python3 bench/targets.py --rounds 10

The broker, the bare echo (`ringmq-echo`: the transport with nothing behind it) and the bare write and sync
(`ringmq-sync`) run on one processor, the generator on another. Each round runs every line once, so that a neighbour on
the machine hits all alike: trust the ratios and the CPU time for each message, not the rates. Prints a Markdown table
of medians with their spread.

    python3 bench/targets.py --rounds 3 --only stored

runs the lines whose names contain a word. A line of the second kind (memory, two million stored, start) is measured
once in `--slow-rounds` rounds after the others.
"""

import argparse
import os
import signal
import shutil
import sys
import tempfile
import time

from broker import Broker, Echo, bare, cell, load, measure

EACH = [("through_per_s", "per second", "%.0f"), ("cpu_us", "server CPU µs each", "%.2f")]
TIMES = [("p50_us", "p50 µs", "%.0f"), ("p99_us", "p99 µs", "%.0f"), ("p999_us", "p99.9 µs", "%.0f")]

STREAM = ["--pattern", "echo"]
UNARY = ["--pattern", "echo", "--calls", "unary"]
STORE = ["--pattern", "events-store", "--consumers", "0"]
QUEUE = ["--pattern", "queue", "--batch", "16", "--window", "1024"]
TRICKLE = ["--pattern", "queue", "--rate", "1000", "--batch", "1", "--items", "1"]

# Name, arguments of the generator, those of the same load on the echo, messages of a bare sync, figures.
LINES = [
    ("events, 1 stream to 1 subscriber", [], STREAM, None, EACH + TIMES[:1]),
    ("events, 1 to 10, for each delivery", ["--consumers", "10"], None, None, EACH),
    ("events, 10,000/s over 8 channels", ["--channels", "8", "--rate", "10000"], [*STREAM, "--channels", "8", "--rate", "10000"], None, EACH[1:] + TIMES),
    ("unary SendEvent, 64 callers", ["--calls", "unary", "--window", "64"], [*UNARY, "--window", "64"], None, EACH),
    ("query, 1 caller", ["--pattern", "query", "--window", "1"], [*UNARY, "--window", "1"], None, EACH[1:] + TIMES),
    ("query, 64 callers", ["--pattern", "query", "--window", "64"], [*UNARY, "--window", "64"], None, EACH + TIMES[:1]),
    ("stored, 1 in flight", [*STORE, "--window", "1"], None, 1, EACH + TIMES),
    ("stored, 64 in flight", [*STORE, "--window", "64"], None, 64, EACH + TIMES),
    ("stored, 1,024 in flight", [*STORE, "--window", "1024"], None, 1024, EACH + TIMES),
    ("stored, 64 unary calls", [*STORE, "--window", "64", "--calls", "unary"], None, 64, EACH + TIMES),
    ("queue, send + receive + ack, 1 consumer", QUEUE, None, None, EACH + TIMES[:2]),
    ("queue, send + receive + ack, 8 consumers", [*QUEUE, "--consumers", "8"], None, None, EACH + TIMES[:2]),
    ("queue, 1,000/s end to end", TRICKLE, None, 1, EACH[1:] + TIMES),
]


def figures(result, stored):
    """The figures of a result by name; latencies are to the confirmation where nothing is consumed."""
    times = result["acknowledged" if stored else "latency"]
    cost = result["server"]["cpu_us_each"] if result["server"] else None
    return {**{key: times[key] for key, _, _ in TIMES}, "through_per_s": result["through_per_s"], "cpu_us": cost}


def one(line, broker, echo, folder, options):
    name, arguments, echoed, batch, _ = line
    stored = "--consumers" in arguments and arguments[arguments.index("--consumers") + 1] == "0"
    ours = figures(load(broker, options.generator_cpu, options.seconds, *arguments), stored)
    other = None
    if echoed:
        other = figures(load(echo, options.generator_cpu, options.seconds, *echoed), False)
    if batch:
        disk = bare(folder, options.server_cpu, options.seconds, batch)["thread"]
        other = {**{key: disk[key] for key, _, _ in TIMES}, "through_per_s": disk["messages_per_second"], "cpu_us": None}
    return ours, other


def rounds(options, lines):
    results = {line[0]: [] for line in lines}
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        broker, echo = Broker(folder, options.server_cpu, settings=options.setting), Echo(options.server_cpu)
        try:
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                for line in lines:
                    results[line[0]].append(one(line, broker, echo, folder, options))
        finally:
            broker.end()
            echo.end()
    print("| work | | broker | bare echo, or bare write and sync | ratio |")
    print("|---|---|---|---|---|")
    for name, _, _, _, shown in lines:
        for key, title, form in shown:
            ours = [mine[key] for mine, _ in results[name]]
            other = [bare[key] for _, bare in results[name] if bare]
            both = [(a, b) for a, b in zip(ours, other) if a is not None and b]
            ratio = cell([a / b for a, b in both], "%.2f")
            print(f"| {name} | {title} | {cell(ours, form)} | {cell(other, form)} | {ratio} |")
    print(f"\n{options.rounds} rounds of {options.seconds} s, {os.cpu_count()} processors, medians (least–most).")


def memory(options):
    """Bytes of an idle connection, subscription and queue."""
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        broker = Broker(folder, options.server_cpu, settings=options.setting)
        try:
            found = dict(measure(broker, options.generator_cpu, "connections")["figures"])
            found.update(dict(measure(broker, options.generator_cpu, "queues", "idle", "--queues", 100_000)["figures"]))
            return found
        finally:
            broker.end()


def stored(options):
    """Fills a channel with two million messages, kills the broker, starts it again, replays the channel."""
    folder = tempfile.mkdtemp(dir=options.directory)
    try:
        began = time.monotonic()
        broker = Broker(folder, options.server_cpu, settings=options.setting)
        measure(broker, options.generator_cpu, "stored", "fill", "--count", 1, "--channel", "first")
        found = {"empty store: first acknowledged after ms": (time.monotonic() - began) * 1e3}
        filled = measure(broker, options.generator_cpu, "stored", "fill", "--count", options.count)
        found |= {"filled per second": filled["per_second"], "fill: server CPU µs each": filled["server_cpu_us"]}
        broker.end(signal.SIGKILL)
        began = time.monotonic()
        broker = Broker(folder, options.server_cpu, settings=options.setting)
        found["killed: listens again after ms"] = broker.started_ms
        measure(broker, options.generator_cpu, "stored", "fill", "--count", 1, "--channel", "first")
        found["killed: first acknowledged after ms"] = (time.monotonic() - began) * 1e3
        replayed = measure(broker, options.generator_cpu, "stored", "replay", "--count", options.count)
        found |= {"replayed per second": replayed["per_second"], "replay: server CPU µs each": replayed["server_cpu_us"]}
        broker.end()
        return found
    finally:
        shutil.rmtree(folder)


def slow(options, name, work):
    found = []
    for number in range(options.slow_rounds):
        print(f"{name}: round {number + 1} of {options.slow_rounds}", file=sys.stderr, flush=True)
        found.append(work(options))
    print(f"\n| {name} | |\n|---|---|")
    for key in found[0]:
        print(f"| {key} | {cell([one[key] for one in found], '%.2f')} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--slow-rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="measured in each run")
    parser.add_argument("--count", type=int, default=2_000_000, help="messages that are stored and replayed")
    parser.add_argument("--only", default="", help="lines whose names contain this")
    parser.add_argument("--set", dest="setting", action="append", default=[], help="a setting of the broker, KEY=VALUE")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--directory", default=".", help="on the file system that is measured")
    options = parser.parse_args()
    options.setting = [part for value in options.setting for part in ("--set", value)]
    lines = [line for line in LINES if options.only in line[0]]
    if lines and options.rounds:
        rounds(options, lines)
    for name, work in (("memory of idle things", memory), ("two million stored", stored)):
        if options.only in name and options.slow_rounds:
            slow(options, name, work)


if __name__ == "__main__":
    main()
