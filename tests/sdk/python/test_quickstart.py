"""The README's snippet is run as it stands."""

import os
import subprocess
import sys

from contract import ROOT


def test_quickstart_shows_each_kind_of_message(address):
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / "quickstart.py")],
        env={**os.environ, "KUBEMQ_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("event", "stored", "queue", "command", "query"):
        assert word in done.stdout.lower(), done.stdout
