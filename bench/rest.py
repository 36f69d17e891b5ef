#!/usr/bin/env python3
"""Measures REST beside unary gRPC: 64 connections that each send one event, wait for its answer, and send the next.

    cargo build --release --workspace
    python3 bench/rest.py

Needs wrk. The broker is pinned to one processor, the generators to another; rounds are interleaved. A body has 1 KiB,
which is 1,368 characters of base64 in JSON.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import subprocess
import tempfile

from broker import Broker, cell, load

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[%s]]
function done(summary, latency, requests)
  io.write(string.format("rate %%f p50 %%f p99 %%f failed %%d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50), latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""

BODY = base64.b64encode(bytes(range(256)) * 4).decode()
ROUTES = {
    "REST, event": ("/send/event", {"EventID": "1", "ClientID": "bench", "Channel": "bench", "Body": BODY}),
    "REST, queue message": ("/queue/send", {"MessageID": "1", "ClientID": "bench", "Channel": "bench.q", "Body": BODY}),
    "REST, ping": ("/ping", None),
}


def cpu_seconds(server):
    fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rest(server, cpu, seconds, connections, folder, path, document):
    script = pathlib.Path(folder) / "request.lua"
    text = SCRIPT % (json.dumps(document) if document else "")
    script.write_text(text if document else text.replace('"POST"', '"GET"'))
    command = ["taskset", "-c", str(cpu), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script]
    began = cpu_seconds(server)
    done = subprocess.run([*command, f"http://{server.addresses['rest']}{path}"], capture_output=True, text=True, check=True)
    used = cpu_seconds(server) - began
    found = re.search(r"rate (\S+) p50 (\S+) p99 (\S+) failed (\d+)", done.stdout)
    rate, p50, p99 = map(float, found.groups()[:3])
    if found[4] != "0":
        raise SystemExit(f"{found[4]} requests failed\n{done.stdout}")
    return rate, p50, p99, used / (rate * seconds) * 1e6


def grpc(server, cpu, seconds, connections):
    arguments = ["--pattern", "events", "--calls", "unary", "--closed", "--connections", connections, "--producers", connections]
    result = load(server, cpu, seconds, *arguments, "--window", 1, "--size", 1024)
    latency = result["acknowledged"] or result["latency"]
    return result["through_per_s"], latency["p50_us"], latency["p99_us"], result["server"]["cpu_us_each"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", default=None)
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        server = Broker(folder, options.server_cpu)
        try:
            found = {name: [] for name in ("gRPC unary, event", *ROUTES)}
            for _ in range(options.rounds):
                found["gRPC unary, event"].append(grpc(server, options.generator_cpu, options.seconds, options.connections))
                for name, (path, document) in ROUTES.items():
                    measured = rest(
                        server, options.generator_cpu, options.seconds, options.connections, folder, path, document
                    )
                    found[name].append(measured)
            print("| work | requests/s | p50 µs | p99 µs | server CPU µs each |\n|---|---|---|---|---|")
            for name, rounds in found.items():
                columns = list(zip(*rounds))
                cells = [cell(column, form) for column, form in zip(columns, ("%.0f", "%.0f", "%.0f", "%.1f"))]
                print(f"| {name} | {' | '.join(cells)} |")
        finally:
            server.end()


if __name__ == "__main__":
    main()
