"""Brokers that a test owns: started on free ports, stopped by the test."""

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

START_DEADLINE = 60.0
STOP_DEADLINE = 60.0


class Broker:
    """A broker of the test's own, because the test stops it."""

    def __init__(self, binary, cores, port=0, data=None, args=()):
        self._folder = tempfile.TemporaryDirectory(prefix="ringmq-sdk-")
        folder = Path(self._folder.name)
        self._log = folder / "log.txt"
        self._log_file = self._log.open("wb")
        addresses = folder / "addresses.json"
        self.data = Path(data or folder / "data")
        self.process = subprocess.Popen(
            [
                binary,
                "server",
                "--bind",
                "127.0.0.1",
                "--grpc-port",
                str(port),
                "--rest-port",
                "0",
                "--api-port",
                "0",
                "--cores",
                str(cores),
                "--data",
                str(self.data),
                "--addresses-file",
                str(addresses),
                "--log-level",
                "info",
                *args,
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "NO_COLOR": "1"},
        )
        self.address = self._read_address(addresses)

    def _read_address(self, addresses):
        end = time.monotonic() + START_DEADLINE
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the broker exited {self.process.returncode}:\n{self.log()}")
            try:
                return json.loads(addresses.read_text())["grpc"]
            except (OSError, ValueError, KeyError):
                time.sleep(0.02)  # Not written yet, or half written.
        raise AssertionError(f"no address within {START_DEADLINE} s:\n{self.log()}")

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def log(self):
        return self._log.read_text(errors="replace")

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait()

    def wait(self):
        """Waits for the end of the process and returns its exit code."""
        try:
            return self.process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the broker did not stop:\n{self.log()}") from None

    def close(self):
        if self.process.poll() is None:
            self.terminate()
            try:
                self.process.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log_file.close()
        self._folder.cleanup()
