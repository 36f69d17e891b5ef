#!/usr/bin/env python3
"""Counts the instructions of the broker's parts with callgrind and compares them with a baseline.

    cargo build --release -p ringmq-bench
    python3 bench/instructions.py                     # compare with bench/instructions.json
    python3 bench/instructions.py --only append       # parts whose name contains this
    python3 bench/instructions.py --save              # make the counts the new baseline

Instructions do not depend on what else the machine does, so a change of some per cent shows where times would not.
They depend on the compiler and the allocator: the baseline says with which compiler it was made, and counts of another
one are printed and not judged. Without valgrind nothing is counted; that is said, and is no failure.

Exit codes: 0 all within the tolerance, or nothing to judge; 1 a part became dearer; 2 usage, or a part that failed.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BASELINE = ROOT / "bench" / "instructions.json"

# The function of `ringmq-parts` inside which is counted.
COUNTED = "*counted_runs*"


def parts(program):
    """Name and elements of each part."""
    listed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return [(name, int(elements)) for elements, name in (line.split("\t") for line in listed.splitlines())]


def count(program, name, runs):
    """Instructions of so many runs of a part."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--toggle-collect={COUNTED}", "--collect-atstart=no"]
        command += [f"--callgrind-out-file={folder}/out", program, name, str(runs)]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode != 0:
            sys.exit(f"{name}: {ended.stderr.strip()}")
        found = re.search(r"^(?:summary|totals): (\d+)", pathlib.Path(folder, "out").read_text(), re.MULTILINE)
        if not found or int(found[1]) == 0:
            sys.exit(f"{name}: callgrind has counted nothing inside {COUNTED}")
        return int(found[1])


def compiler():
    return subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = row
        print("  ".join([first.ljust(widths[0])] + [text.rjust(width) for text, width in zip(others, widths[1:])]))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--program", type=pathlib.Path, default=ROOT / "target" / "release" / "ringmq-parts")
    arguments.add_argument("--elements", type=int, default=2560, help="messages or timers, at least two runs")
    arguments.add_argument("--only", default="", help="parts whose name contains this")
    arguments.add_argument("--tolerance", type=float, default=3.0, help="per cent")
    arguments.add_argument("--save", action="store_true", help="write the baseline")
    given = arguments.parse_args()
    if not shutil.which("valgrind"):
        print("skipped: valgrind is not installed, so no instructions were counted (apt-get install valgrind)")
        return 0
    if not given.program.exists():
        print(f"{given.program} is not there: cargo build --release -p ringmq-bench", file=sys.stderr)
        return 2
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"compiler": "", "parts": {}}
    judged = baseline["compiler"] == compiler()
    if not judged and not given.save:
        print(f"the baseline is of another compiler ({baseline['compiler'] or 'none'}): changes are not judged\n")
    rows, counts, dearer = [["part", "instructions each", "baseline", "change"]], {}, []
    for name, elements in parts(given.program):
        if given.only not in name:
            continue
        runs = max(2, given.elements // elements)
        each = count(given.program, name, runs) / runs / elements
        counts[name] = round(each, 1)
        known = baseline["parts"].get(name)
        change = (each / known - 1) * 100 if known else None
        shown = "new" if change is None else f"{change:+.1f} %"
        if change is not None and change > given.tolerance:
            dearer.append(name)
            shown += " dearer"
        rows.append([name, f"{each:,.1f}", f"{known:,.1f}" if known else "", shown])
    table(rows)
    if given.save:
        kept = baseline["parts"] if given.only and judged else {}
        saved = {"compiler": compiler(), "parts": {**kept, **counts}}
        BASELINE.write_text(json.dumps(saved, indent=2) + "\n")
        print(f"\nsaved to {BASELINE.relative_to(ROOT)}")
        return 0
    if judged and dearer:
        print(f"\nmore than {given.tolerance} % dearer: {', '.join(dearer)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
