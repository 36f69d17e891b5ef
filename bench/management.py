#!/usr/bin/env python3
"""Measures what a scrape and a page of statistics cost a broker with many channels, and those who use it meanwhile.

    cargo build --release --workspace
    python3 bench/management.py --channels 100000

Queues are created; then a scrape and a page are timed by themselves, and a steady load is run with and without both
beside it, in turns. The broker is pinned to one processor, the generator and the scraper (with the lowest priority) to
another; turns of the executor above a millisecond are counted by the broker itself.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

from broker import Broker, cell, load, measure

PAGES = {
    "scrape": "/metrics",
    "page, by name": "/v1/stats/channels?page=7&per_page=50&sort=name",
    "page, by activity": "/v1/stats/channels?page=1&per_page=50&sort=activity&order=desc",
    "page of queues, searched": "/v1/stats/queues?page=1&per_page=50&search=99",
}


def fetch(broker, path):
    """Milliseconds and bytes of one answer."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://{broker.addresses['api']}{path}", timeout=60) as answer:
        size = len(answer.read())
    return (time.perf_counter() - began) * 1e3, size


def counter(broker, name):
    with urllib.request.urlopen(f"http://{broker.addresses['api']}/metrics?channels=0", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


class Disturbance:
    """Fetches everything again and again, until it is told to stop."""

    def __init__(self, broker, cpu, pause):
        self.stopped = threading.Event()
        self.fetched = 0
        self.thread = threading.Thread(target=self.run, args=(broker, cpu, pause))
        self.thread.start()

    def run(self, broker, cpu, pause):
        while not self.stopped.wait(pause):
            for path in PAGES.values():
                url = f"http://{broker.addresses['api']}{path}"
                command = ["nice", "-n", "19", "taskset", "-c", str(cpu), "curl", "-sfo", "/dev/null", url]
                subprocess.run(command, check=True)
                self.fetched += 1

    def end(self):
        self.stopped.set()
        self.thread.join()
        return self.fetched


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", default=None, help="where the store is made; the default is the temporary directory")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--channels", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two series of fetches beside a load")
    parser.add_argument("--rate", type=int, default=1000, help="messages a second of the load")
    parser.add_argument("--pattern", default="events")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        broker = Broker(folder, options.server_cpu)
        try:
            made = ["queues", "idle", "--queues", options.channels, "--lists", 1]
            measure(broker, options.generator_cpu, *made)
            stalls = counter(broker, "ringmq_executor_stalls_total")
            print("| answer | ms, median (least–most) | bytes |\n|---|---|---|")
            for name, path in PAGES.items():
                times, sizes = zip(*(fetch(broker, path) for _ in range(20)))
                print(f"| {name} | {cell(times, '%.0f')} | {statistics.median(sizes):.0f} |")
            print(f"\nturns above 1 ms while fetching: {counter(broker, 'ringmq_executor_stalls_total') - stalls:.0f}")
            arguments = ["--pattern", options.pattern, "--rate", options.rate, "--batch", 1, "--items", 1]
            rounds = {False: [], True: []}
            ratios, fetched, long_turns = [], 0, 0
            for number in range(options.rounds):
                for beside in (False, True) if number % 2 else (True, False):
                    stalls = counter(broker, "ringmq_executor_stalls_total")
                    disturbance = Disturbance(broker, options.generator_cpu, options.pause) if beside else None
                    result = load(broker, options.generator_cpu, options.seconds, *arguments)["latency"]
                    if disturbance:
                        fetched += disturbance.end()
                        long_turns += counter(broker, "ringmq_executor_stalls_total") - stalls
                    rounds[beside].append(result)
                ratios.append(rounds[True][-1]["p50_us"] / rounds[False][-1]["p50_us"])
            print(f"\n{fetched} fetches beside the load, {long_turns:.0f} turns above 1 ms\n")
            print("| load | p50 µs | p99 µs | p99.9 µs |\n|---|---|---|---|")
            for beside, name in ((False, "alone"), (True, "beside fetches")):
                cells = [cell([each[key] for each in rounds[beside]], "%.0f") for key in ("p50_us", "p99_us", "p999_us")]
                print(f"| {name} | {' | '.join(cells)} |")
            print(f"\np50 beside fetches to p50 alone, by rounds: {cell(ratios, '%.3f')}")
            print(json.dumps({"ratios": ratios}))
        finally:
            broker.end()


if __name__ == "__main__":
    main()
