#!/usr/bin/env python3
"""Runs the old majors of the SDKs against a broker: the ones that use streams of single messages.

    python3 tests/sdk/old/run.py --address 127.0.0.1:50000

JavaScript 1.2.3 needs node and npm, Java 1.0.2 a JDK and Maven; one without its tools is skipped. They are fetched
from their registries into `target/old-sdks`. Not part of the tests, which need neither of these tools.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parents[2] / "target" / "old-sdks"
POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>ringmq</groupId><artifactId>old-sdk</artifactId><version>1</version>
<dependencies><dependency><groupId>io.kubemq.sdk</groupId><artifactId>kubemq-sdk-Java</artifactId>
<version>1.0.2</version></dependency></dependencies></project>
"""


def run(command, folder, **environment):
    print("$", *command, flush=True)
    return subprocess.run(command, cwd=folder, env={**os.environ, **environment}).returncode


def javascript(address):
    if not shutil.which("npm"):
        return print("JavaScript 1.2.3: skipped, npm is not there")
    folder = TARGET / "js"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / "kubemq-js").exists():
        (folder / "package.json").write_text('{"private": true}\n')
        run(["npm", "install", "--silent", "kubemq-js@1.2.3"], folder)
    shutil.copy(HERE / "queues.js", folder)
    return run(["node", "queues.js"], folder, RINGMQ_ADDRESS=address)


def java(address):
    if not shutil.which("mvn"):
        return print("Java 1.0.2: skipped, mvn is not there")
    folder = TARGET / "java"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "target" / "dependency").exists():
        (folder / "pom.xml").write_text(POM)
        run(["mvn", "-q", "dependency:copy-dependencies"], folder)
    classes = "target/dependency/*"
    return run(["java", "-cp", classes, str(HERE / "Queues.java")], folder, RINGMQ_ADDRESS=address)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50000", help="host and port of a running broker")
    address = parser.parse_args().address
    sys.exit(any([javascript(address), java(address)]))


if __name__ == "__main__":
    main()
