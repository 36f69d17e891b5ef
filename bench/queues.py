#!/usr/bin/env python3
"""Measures delayed messages and idle queues.

    cargo build --release --workspace
    python3 bench/queues.py --delayed 1000000
    python3 bench/queues.py --idle 100000

With --delayed, so many messages are delayed to moments within 60 seconds: how late each comes (none may be early), and
what one costs in memory. With --idle, so many queues are created and listed, beside a steady load of 1,000 messages a
second whose latency is compared with and without. The broker is pinned to one processor, the generator to another.
"""

import argparse
import json
import tempfile
import threading

from broker import Broker, load, measure


def delayed(options):
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        broker = Broker(folder, options.server_cpu)
        try:
            arguments = ["queues", "delayed", "--count", options.delayed, "--rate", options.rate, *options.more]
            print(json.dumps(measure(broker, options.generator_cpu, *arguments), indent=1))
        finally:
            broker.end()


def idle(options):
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        broker = Broker(folder, options.server_cpu)
        try:
            trickle = ["--pattern", "queue", "--rate", 1000, "--batch", 1, "--items", 1]
            before = load(broker, options.generator_cpu, 10, *trickle)
            created = measure(broker, options.generator_cpu, "queues", "idle", "--queues", options.idle, "--lists", 1)
            beside = []
            thread = threading.Thread(target=lambda: beside.append(load(broker, options.generator_cpu, 20, *trickle)))
            thread.start()
            listed = measure(broker, options.generator_cpu, "queues", "idle", "--queues", 1000, "--lists", 20)
            thread.join()
            found = {"created": created, "before": before["latency"], "beside lists": beside[0]["latency"], "lists": listed}
            print(json.dumps(found, indent=1))
        finally:
            broker.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    if options.idle:
        idle(options)


if __name__ == "__main__":
    main()
