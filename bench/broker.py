"""Servers and the load generator, as the scripts of this folder start them: each pinned to its processor."""

import json
import pathlib
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARIES = ROOT / "target" / "release"

# Another build of the broker than the one there.
BROKER = None


# Whatever is free.
FREE_PORTS = ["--grpc-port", "0", "--rest-port", "0", "--api-port", "0"]


class Broker:
    """A broker on a store of its own; its log lines are kept."""

    def __init__(self, folder, cpu, cores=1, settings=()):
        self.log = open(pathlib.Path(folder) / "broker.log", "a")
        addresses = pathlib.Path(folder) / "addresses.json"
        addresses.unlink(missing_ok=True)
        command = [BROKER or BINARIES / "ringmq", "server", "--bind", "127.0.0.1", *FREE_PORTS, "--cores", str(cores)]
        command += ["--data", pathlib.Path(folder) / "data", "--addresses-file", addresses, *settings]
        began = time.monotonic()
        self.process = subprocess.Popen(pinned(cpu, command), stderr=self.log, stdout=subprocess.DEVNULL)
        while not addresses.exists():
            if self.process.poll() is not None or time.monotonic() > began + 120:
                sys.exit("the broker did not start; see its log")
            time.sleep(0.001)
        self.started_ms = (time.monotonic() - began) * 1e3
        self.addresses = json.loads(addresses.read_text())
        self.address = self.addresses["grpc"]

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()
        self.log.close()


class Echo:
    """The transport with nothing behind it."""

    def __init__(self, cpu):
        command = pinned(cpu, [BINARIES / "ringmq-echo", "127.0.0.1:0", cpu])
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.address = self.process.stderr.readline().strip()

    def end(self):
        self.process.terminate()
        self.process.wait()


def pinned(cpu, command):
    return ["taskset", "-c", str(cpu), *map(str, command)]


def run(command, codes=(0,)):
    """The lines of JSON that a command prints."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode not in codes:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def load(server, cpu, seconds, *arguments):
    """The result of `ringmq-loadgen run`; one that is not valid says so on stderr and is given back all the same."""
    command = [BINARIES / "ringmq-loadgen", "run", "--address", server.address, "--pid", server.process.pid]
    command += ["--cpus", cpu, "--duration", seconds, "--warm-up", 1, "--quiet", "--json", "-", *arguments]
    result = json.loads(run(command, codes=(0, 4)))
    for reason in result["invalid"]:
        print(f"not valid: {' '.join(map(str, arguments))}: {reason}", file=sys.stderr)
    return result


def measure(server, cpu, *arguments):
    """The result of `ringmq-loadgen measure`."""
    command = [BINARIES / "ringmq-loadgen", "measure", "--address", server.address, "--pid", server.process.pid]
    return json.loads(run([*command, "--cpu", cpu, "--json", *arguments]).splitlines()[0])


def bare(folder, cpu, seconds, batch):
    """Batches written and synced with nothing around them: by a plain thread, and through the ring."""
    command = [BINARIES / "ringmq-sync", "--directory", folder, "--cpu", cpu, "--json", "--seconds", seconds]
    lines = run([*command, "--batch", batch, "--mode", "thread", "--mode", "ring-dsync"]).splitlines()
    return {line["mode"]: line for line in map(json.loads, lines)}


def cell(values, form):
    """Median (least–most)."""
    values = [value for value in values if value is not None]
    if not values:
        return ""
    return f"{form % statistics.median(values)} ({form % min(values)}–{form % max(values)})"
