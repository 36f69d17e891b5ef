#!/usr/bin/env python3
"""Compares durable appends through the broker with the bare cost of the disk, in interleaved rounds.

    cargo build --release --workspace
    python3 bench/compare_log.py --rounds 10
    python3 bench/compare_log.py --restart 20000 1000000

The bare cost is `ringmq-sync`: batches of N messages written and synced in a loop, one in flight, by a plain thread and
through the ring of an executor. The broker gets N messages in flight from the load generator, over one stream or as N
unary calls. Both write to the same file system; broker and bare loop are pinned to one processor, the generator to
another. A neighbour on the machine hits all of a round alike: trust the ratios. Prints Markdown tables of medians with
their spread.

With --restart, it kills a broker that has just stored so many messages of 1 KiB, and measures how long the next one
takes until it listens and until a message is durable again.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARIES = ROOT / "target" / "release"
BATCHES = [1, 16, 64, 1024]


class Broker:
    """A broker on a store of its own; its log lines are kept."""

    def __init__(self, folder, cpu, cores=1, settings=()):
        self.log = open(pathlib.Path(folder) / "broker.log", "a")
        addresses = pathlib.Path(folder) / "addresses.json"
        addresses.unlink(missing_ok=True)
        command = [BINARIES / "ringmq", "server", "--bind", "127.0.0.1", "--grpc-port", "0", "--cores", str(cores)]
        command += ["--data", pathlib.Path(folder) / "data", "--addresses-file", addresses, *settings]
        pinned = ["taskset", "-c", str(cpu), *map(str, command)]
        began = time.monotonic()
        self.process = subprocess.Popen(pinned, stderr=self.log, stdout=subprocess.DEVNULL)
        while not addresses.exists():
            if self.process.poll() is not None or time.monotonic() > began + 120:
                sys.exit("the broker did not start; see its log")
            time.sleep(0.001)
        self.started_ms = (time.monotonic() - began) * 1e3
        self.address = json.loads(addresses.read_text())["grpc"]

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()
        self.log.close()


def run(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def generator(broker, options, seconds, *arguments):
    command = [BINARIES / "ringmq-loadgen", "measure", "--address", broker.address, "--pid", broker.process.pid]
    command += ["--cpu", options.generator_cpu, "--seconds", seconds, "--warm-up", 1, "--json", "stored", *arguments]
    return run(command)[0]


def bare(options, folder, batch):
    command = [BINARIES / "ringmq-sync", "--directory", folder, "--cpu", options.server_cpu, "--json"]
    command += ["--seconds", options.seconds, "--batch", batch, "--mode", "thread", "--mode", "ring-dsync"]
    return {line["mode"]: line for line in run(command)}


def cell(values, form):
    return f"{form % statistics.median(values)} ({form % min(values)}–{form % max(values)})"


def rates(options):
    results = {batch: [] for batch in BATCHES}
    memory = []
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        broker = Broker(folder, options.server_cpu)
        try:
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                for batch in BATCHES:
                    disk = bare(options, folder, batch)
                    window = ["store", "--window", batch]
                    stream = generator(broker, options, options.seconds, *window)
                    calls = generator(broker, options, options.seconds, *window, "--unary")
                    results[batch].append((disk, stream, calls))
                    memory.append(dict(stream["figures"])["MiB anonymous, most"])
        finally:
            broker.end()
    report(results)
    print(f"\n{options.rounds} rounds of {options.seconds} s, {os.cpu_count()} processors, medians (least–most).")
    print(f"The broker's own memory was {max(memory):.0f} MiB at most.")


def report(results):
    print("| in flight | | bare thread | bare ring | stream | unary | stream / thread | unary / thread |")
    print("|---|---|---|---|---|---|---|---|")
    figures = [("messages_per_second", "per_second", "per second"), ("p50_us", "p50_us", "p50 µs")]
    figures += [("p99_us", "p99_us", "p99 µs"), ("p999_us", "p999_us", "p99.9 µs")]
    for batch, rounds in results.items():
        for bare_key, key, title in figures:
            thread = [disk["thread"][bare_key] for disk, _, _ in rounds]
            ring = [disk["ring-dsync"][bare_key] for disk, _, _ in rounds]
            stream = [stream[key] for _, stream, _ in rounds]
            calls = [calls[key] for _, _, calls in rounds]
            cells = [cell(values, "%.0f") for values in (thread, ring, stream, calls)]
            cells += [cell([a / b for a, b in zip(ours, thread)], "%.2f") for ours in (stream, calls)]
            print(f"| {batch} | {title} | {' | '.join(cells)} |")
        cost = [cell([run["server_cpu_us"] for run in runs], "%.2f") for runs in list(zip(*rounds))[1:]]
        print(f"| {batch} | server CPU µs each | | | {' | '.join(cost)} | | |")


def restarts(options):
    print("| messages | shards | killed: listens after ms | first durable after ms | stopped: listens after ms |")
    print("|---|---|---|---|---|")
    for count in options.restart:
        for cores in (1, os.cpu_count()):
            times = [restart(options, count, cores) for _ in range(options.rounds)]
            print(f"| {count} | {cores} | {' | '.join(cell(column, '%.0f') for column in zip(*times))} |")


def restart(options, count, cores):
    """Milliseconds until a broker listens and stores after a kill, and until one listens after an orderly stop."""
    processors = ",".join(map(str, range(cores)))
    folder = tempfile.mkdtemp(dir=options.directory)
    try:
        each = ["fill", "--channels", 4, "--count", count // 4]
        broker = Broker(folder, processors, cores)
        generator(broker, options, 1, *each)
        broker.end(signal.SIGKILL)
        killed = Broker(folder, processors, cores)
        began = time.monotonic()
        generator(killed, options, 1, "fill", "--channel", "first", "--count", 1)
        durable_ms = killed.started_ms + (time.monotonic() - began) * 1e3
        killed.end()
        stopped = Broker(folder, processors, cores)
        stopped.end()
        return killed.started_ms, durable_ms, stopped.started_ms
    finally:
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--directory", default=".", help="on the file system that is measured")
    parser.add_argument("--restart", type=int, nargs="+", metavar="MESSAGES", help="measure restarts instead")
    options = parser.parse_args()
    if options.restart:
        restarts(options)
    else:
        rates(options)


if __name__ == "__main__":
    main()
