#!/usr/bin/env python3
"""Measures queues: send, receive and acknowledge messages of 1 KiB, in interleaved rounds.

    cargo build --release --workspace
    python3 bench/compare_queues.py --rounds 10
    python3 bench/compare_queues.py --delayed 1000000
    python3 bench/compare_queues.py --idle 100000

Each round runs every case once: 1 and 8 consumers, acknowledged when synced (strict) and when written (interval), as fast
as it goes; and a steady 1,000 messages a second beside the bare cost of a synchronised write (`ringmq-sync`), for the
latency from the moment of sending to the consumer. The broker is pinned to one processor, the generator to another: a
neighbour on the machine hits all of a round alike, so trust the ratios. Prints Markdown tables of medians with their
spread. Every message must come once; with one consumer in order; otherwise the run fails.

With --delayed, so many messages are delayed to moments within 60 seconds: how late each comes (none may be early), and
what one costs in memory. With --idle, so many queues are created and listed, beside a steady load whose latency is
compared with and without.
"""

import argparse
import json
import os
import sys
import tempfile
import threading

from compare_log import BINARIES, Broker, cell, run

CASES = [("strict", 1), ("strict", 8), ("interval", 1), ("interval", 8)]


def arguments(broker, options, seconds):
    command = [BINARIES / "ringmq-loadgen", "measure", "--address", broker.address, "--pid", broker.process.pid]
    return [*command, "--cpu", options.generator_cpu, "--seconds", seconds, "--warm-up", 1, "--json", "queues"]


def flow(broker, options, *more):
    return run([*arguments(broker, options, options.seconds), "flow", *more])[0]


def bare(options, folder):
    command = [BINARIES / "ringmq-sync", "--directory", folder, "--cpu", options.server_cpu, "--json"]
    command += ["--seconds", options.seconds, "--batch", 1, "--mode", "thread", "--mode", "ring-dsync"]
    return {line["mode"]: line for line in run(command)}


def rates(options):
    fast = {case: [] for case in CASES}
    steady = {"strict": [], "interval": []}
    disk = []
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        brokers = {}
        try:
            for mode in steady:
                os.mkdir(f"{folder}/{mode}")
                sync = ["--set", f"store.sync={mode}"]
                brokers[mode] = Broker(f"{folder}/{mode}", options.server_cpu, settings=sync)
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                for mode, consumers in CASES:
                    fast[mode, consumers].append(flow(brokers[mode], options, "--consumers", consumers))
                disk.append(bare(options, folder))
                for mode, runs in steady.items():
                    runs.append(flow(brokers[mode], options, "--rate", 1000, "--batch", 1, "--items", 1))
        finally:
            for broker in brokers.values():
                broker.end()
    print("| acknowledged when | consumers | per second | server CPU µs each | p50 ms | p99 ms | p99.9 ms |")
    print("|---|---|---|---|---|---|---|")
    for (mode, consumers), runs in fast.items():
        row = [cell([run["per_second"] for run in runs], "%.0f"), cell([run["server_cpu_us"] for run in runs], "%.2f")]
        row += [cell([run[key] / 1e3 for run in runs], "%.1f") for key in ("p50_us", "p99_us", "p999_us")]
        print(f"| {mode} | {consumers} | {' | '.join(row)} |")
    print("\n| 1,000 a second | p50 µs | p99 µs | p99.9 µs | server CPU µs each |\n|---|---|---|---|---|")
    for name in ("thread", "ring-dsync"):
        row = [cell([run[name][key] for run in disk], "%.0f") for key in ("p50_us", "p99_us", "p999_us")]
        print(f"| bare write and sync, {name} | {' | '.join(row)} | |")
    for mode, runs in steady.items():
        row = [cell([run[key] for run in runs], "%.0f") for key in ("p50_us", "p99_us", "p999_us")]
        print(f"| {mode} | {' | '.join(row)} | {cell([run['server_cpu_us'] for run in runs], '%.1f')} |")
    ratio = {key: [ours[key] / bare["thread"][key] for ours, bare in zip(steady["strict"], disk)] for key in ("p50_us", "p99_us")}
    print(f"\nstrict / bare thread: p50 {cell(ratio['p50_us'], '%.2f')}, p99 {cell(ratio['p99_us'], '%.2f')}")
    print(f"{options.rounds} rounds of {options.seconds} s, {os.cpu_count()} processors, medians (least–most).")


def delayed(options):
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        broker = Broker(folder, options.server_cpu)
        try:
            command = [*arguments(broker, options, 1), "delayed", "--count", options.delayed, "--rate", options.rate]
            print(json.dumps(run([*command, *options.more]), indent=1))
        finally:
            broker.end()


def idle(options):
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        broker = Broker(folder, options.server_cpu)
        try:
            load = ["flow", "--rate", 1000, "--batch", 1, "--items", 1]
            before = run([*arguments(broker, options, 10), *load])[0]
            beside = []
            thread = threading.Thread(target=lambda: beside.extend(run([*arguments(broker, options, 20), *load])))
            create = [*arguments(broker, options, 1), "idle", "--queues", options.idle, "--lists", 1]
            created = run(create)[0]
            thread.start()
            listed = run([*arguments(broker, options, 1), "idle", "--queues", 1000, "--lists", 20])[0]
            thread.join()
            print(json.dumps({"created": created, "before": before, "beside lists": beside[0], "lists": listed}, indent=1))
        finally:
            broker.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="measured in each run")
    parser.add_argument("--directory", default=None, help="where stores are made; the default is the temporary directory")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--delayed", type=int, metavar="COUNT")
    parser.add_argument("--rate", type=int, default=50_000, help="delayed messages sent in a second")
    parser.add_argument("--idle", type=int, metavar="QUEUES")
    parser.add_argument("more", nargs="*", help="further arguments of the delayed scenario, behind --")
    options = parser.parse_args()
    if options.delayed:
        delayed(options)
    elif options.idle:
        idle(options)
    else:
        rates(options)


if __name__ == "__main__":
    main()
