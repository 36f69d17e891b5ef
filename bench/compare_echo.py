#!/usr/bin/env python3
"""Compares the broker with the bare echo on the same transport, in interleaved rounds.

    cargo build --release --workspace
    python3 bench/compare_echo.py --rounds 10

Both servers are pinned to one processor, the generator to another. Each round runs every scenario
once on either server, so that a neighbour on the machine hits both alike: trust the ratios and the
CPU time for each message, not the rates. Prints a Markdown table of medians with their spread.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARIES = ROOT / "target" / "release"

# Name, arguments of the generator, whether the echo has it too.
SCENARIOS = [
    ("stream, 1 publisher to 1 subscriber", ["events"], True),
    ("stream, 1 to 10, for each delivery", ["events", "--subscribers", "10"], False),
    ("stream, 10,000/s over 8 connections", ["events", "--publishers", "8", "--rate", "10000"], True),
    ("request, 1 caller", ["requests", "--callers", "1"], True),
    ("request, 64 callers", ["requests", "--callers", "64"], True),
]


def start(command, cpu):
    return subprocess.Popen(["taskset", "-c", str(cpu), *map(str, command)], stderr=subprocess.PIPE, text=True)


def start_broker(folder, cpu):
    addresses = pathlib.Path(folder) / "addresses.json"
    command = [BINARIES / "ringmq", "server", "--bind", "127.0.0.1", "--grpc-port", "0", "--cores", "1"]
    command += ["--data", pathlib.Path(folder) / "data", "--addresses-file", addresses, "--log-level", "error"]
    broker = subprocess.Popen(["taskset", "-c", str(cpu), *map(str, command)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not addresses.exists():
        if broker.poll() is not None or time.monotonic() > deadline:
            sys.exit("the broker did not start")
        time.sleep(0.05)
    return broker, json.loads(addresses.read_text())["grpc"]


def measure(arguments, server, address, seconds, cpu, echo):
    command = [BINARIES / "ringmq-loadgen", "measure", "--address", address, "--pid", str(server.pid), "--cpu", str(cpu)]
    command += ["--seconds", str(seconds), "--warm-up", "1", "--json", *(["--echo"] if echo else []), *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def cell(values, form):
    return f"{form % statistics.median(values)} ({form % min(values)}–{form % max(values)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        broker, address = start_broker(folder, options.server_cpu)
        echo = start([BINARIES / "ringmq-echo", "127.0.0.1:0", options.server_cpu], options.server_cpu)
        echo_address = echo.stderr.readline().strip()
        try:
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
                for name, arguments, has_echo in SCENARIOS:
                    run = lambda *server: measure(arguments, *server)
                    ours = run(broker, address, options.seconds, options.generator_cpu, False)
                    bare = None
                    if has_echo:
                        bare = run(echo, echo_address, options.seconds, options.generator_cpu, True)
                    results.setdefault(name, []).append((ours, bare))
        finally:
            for server in (broker, echo):
                server.terminate()
                server.wait()
    report(results)
    print(f"\n{options.rounds} rounds of {options.seconds} s, {os.cpu_count()} processors, medians (least–most).")


def report(results):
    print("| scenario | | broker | bare echo | ratio |")
    print("|---|---|---|---|---|")
    figures = [("per_second", "per second", "%.0f"), ("server_cpu_us", "server CPU µs each", "%.2f"), ("p50_us", "p50 µs", "%.0f")]
    for name, pairs in results.items():
        for key, title, form in figures:
            ours = [mine[key] for mine, _ in pairs]
            bare = [echo[key] for _, echo in pairs if echo]
            ratio = cell([a / b for a, b in zip(ours, bare)], "%.2f") if bare else ""
            print(f"| {name} | {title} | {cell(ours, form)} | {cell(bare, form) if bare else ''} | {ratio} |")


if __name__ == "__main__":
    main()
