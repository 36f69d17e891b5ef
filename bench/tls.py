#!/usr/bin/env python3
"""Measures what TLS costs: throughput and CPU time for each message with and without it, and handshakes.

    cargo build --release --workspace
    python3 bench/tls.py --rounds 5

Three brokers run on one processor, the generator on another: one without TLS, one with TLS 1.3, one that asks clients
for certificates too. Each round runs every line against each of them in turn, so that a neighbour on the machine hits
all alike: trust the ratios and the CPU time, not the rates. Then come handshakes, in full and resumed, for each kind of
key; and what a client that has long been connected sees of a storm of them. Prints Markdown tables of medians (least–most).

Needs openssl.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from broker import Broker, cell, load

LINES = [
    ("events of 1 KiB, 1 stream to 1 subscriber", []),
    ("events of 64 KiB, 1 stream to 1 subscriber", ["--size", "64k", "--window", "64"]),
    ("unary SendEvent, 64 callers", ["--calls", "unary", "--window", "64"]),
    ("query, 1 caller", ["--pattern", "query", "--window", "1"]),
    ("queue, send + receive + ack, 1 consumer", ["--pattern", "queue", "--batch", "16", "--window", "1024"]),
]

KEYS = {
    "RSA 2048": ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "RSA 4096": ["RSA", "-pkeyopt", "rsa_keygen_bits:4096"],
    "ECDSA P-256": ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "Ed25519": ["ED25519"],
}

TRICKLE = ["--pattern", "query", "--rate", "1000", "--window", "64"]


class Authority:
    """An authority and what it issues, in a folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.key("ca", KEYS["ECDSA P-256"])
        extensions = ["-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=keyCertSign,cRLSign"]
        self.openssl("req", "-x509", "-new", "-key", "ca.key", "-out", "ca.pem", "-subj", "/CN=bench", *extensions)

    def openssl(self, *arguments):
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"openssl {' '.join(arguments)}: {done.stderr}")

    def key(self, name, kind):
        self.openssl("genpkey", "-algorithm", kind[0], *kind[1:], "-out", f"{name}.key")

    def issue(self, name, kind, usage):
        self.key(name, kind)
        self.openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
        (self.folder / "extensions").write_text(
            f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions", "-days", "30"]
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)

    def settings(self, name, *more):
        values = [f"security.cert.filename={self.folder / name}.pem", f"security.key.filename={self.folder / name}.key"]
        return [argument for value in [*values, *more] for argument in ("--set", value)]

    def client(self, name=None):
        shown = ["--cert", self.folder / f"{name}.pem", "--key", self.folder / f"{name}.key"] if name else []
        return ["--tls", "--ca", self.folder / "ca.pem", "--server-name", "localhost", *shown]


def messages(options, authority, folder):
    """Every line, on every kind of connection."""
    asks = f"security.ca.filename={authority.folder / 'ca.pem'}"
    kinds = {
        "plain": ([], []),
        "TLS": (authority.settings("ECDSA P-256"), authority.client()),
        "mutual TLS": (authority.settings("ECDSA P-256", asks), authority.client("client")),
    }
    brokers = {}
    for name, (settings, _) in kinds.items():
        own = pathlib.Path(folder) / name.replace(" ", "-")
        own.mkdir()
        brokers[name] = Broker(own, options.server_cpu, settings=settings)
    results = {}
    try:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
            for line, arguments in LINES:
                for name, (_, client) in kinds.items():
                    result = load(brokers[name], options.generator_cpu, options.seconds, *arguments, *client)
                    found = {
                        "per second": result["through_per_s"],
                        "server CPU µs each": result["server"]["cpu_us_each"],
                        "p50 µs": result["latency"]["p50_us"],
                    }
                    results.setdefault(line, {}).setdefault(name, []).append(found)
    finally:
        for broker in brokers.values():
            broker.end()
    print("| work | | plain | TLS | mutual TLS | TLS to plain |\n|---|---|---|---|---|---|")
    for line, found in results.items():
        for figure, form in [("per second", "%.0f"), ("server CPU µs each", "%.2f"), ("p50 µs", "%.0f")]:
            cells = [cell([one[figure] for one in found[name]], form) for name in kinds]
            ratios = [tls[figure] / plain[figure] for plain, tls in zip(found["plain"], found["TLS"]) if plain[figure]]
            print(f"| {line} | {figure} | {' | '.join(cells)} | {cell(ratios, '%.2f')} |")


def cpu_seconds(process):
    """What a process has used of processors, all of its threads together."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def storm(options, address, authority, seconds, resumed=False):
    """A program that makes handshakes without end for so long. It resumes sessions of TLS 1.2 only."""
    how = ["-reuse", "-tls1_2"] if resumed else ["-new"]
    command = ["nice", "taskset", "-c", str(options.generator_cpu), "openssl", "s_time", "-connect", address, *how]
    command += ["-time", str(seconds), "-CAfile", str(authority.folder / "ca.pem")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def handshakes(options, authority, folder):
    """Handshakes in a second and what one costs; and how a client fares beside a storm of them."""
    print("\n| key | handshake | per second | server CPU µs each |\n|---|---|---|---|")
    beside = []
    for name in KEYS:
        own = pathlib.Path(folder) / f"handshakes-{name.replace(' ', '-')}"
        own.mkdir()
        broker = Broker(own, options.server_cpu, settings=authority.settings(name))
        try:
            for resumed in [False, True]:
                rates, costs = [], []
                for _ in range(options.rounds):
                    before = cpu_seconds(broker.process)
                    made = storm(options, broker.address, authority, options.seconds, resumed)
                    # The handshakes, and the seconds that they took in real time.
                    told = re.search(r"(\d+) connections in (\d+) real seconds", made.communicate()[0])
                    count = int(told[1])
                    rates.append(count / max(int(told[2]), 1))
                    costs.append((cpu_seconds(broker.process) - before) * 1e6 / max(count, 1))
                kind = "resumed, TLS 1.2" if resumed else "in full, TLS 1.3"
                print(f"| {name} | {kind} | {cell(rates, '%.0f')} | {cell(costs, '%.0f')} |", flush=True)
            quiet = load(broker, options.generator_cpu, options.seconds, *TRICKLE, *authority.client())
            storms = [storm(options, broker.address, authority, options.seconds + 3) for _ in range(2)]
            time.sleep(0.5)
            stormy = load(broker, options.generator_cpu, options.seconds, *TRICKLE, *authority.client())
            for one in storms:
                one.communicate()
            beside.append((name, quiet["latency"], stormy["latency"]))
        finally:
            broker.end()
    print("\n| key | 1,000 queries/s | p50 µs | p99 µs | p99.9 µs |\n|---|---|---|---|---|")
    for name, *both in beside:
        for kind, times in zip(["quiet", "beside a storm of handshakes"], both):
            print(f"| {name} | {kind} | {times['p50_us']:.0f} | {times['p99_us']:.0f} | {times['p999_us']:.0f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", default=None, help="where stores are made; the default is the temporary directory")
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--generator-cpu", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        issued = pathlib.Path(folder) / "authority"
        issued.mkdir()
        authority = Authority(issued)
        for name, kind in KEYS.items():
            authority.issue(name, kind, "serverAuth")
        authority.issue("client", KEYS["ECDSA P-256"], "clientAuth")
        messages(options, authority, folder)
        handshakes(options, authority, folder)


if __name__ == "__main__":
    main()
