"""Fixtures of the suite. `tests/sdk.rs` sets the environment:

RINGMQ_ADDRESS  host and port of a running broker; the tests share it, each with channels of its own
RINGMQ_BINARY   the broker's binary, for the tests that stop and restart one
RINGMQ_CORES    how many shards such a broker gets
"""

import os
import uuid

import pytest

from broker import Broker
from wire import Client


# Brokers with TLS are started for a run of their own.
collect_ignore = [] if "RINGMQ_TLS_ADDRESS" in os.environ else ["test_secure.py"]


def pytest_collection_modifyitems(items):
    # The slow ones mostly wait: they start first and the others run beside them.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def binary():
    value = os.environ.get("RINGMQ_BINARY")
    if not value:
        pytest.fail("RINGMQ_BINARY must name the broker's binary")
    return value


@pytest.fixture(scope="session")
def cores():
    return int(os.environ.get("RINGMQ_CORES", "1"))


@pytest.fixture(scope="session")
def address():
    value = os.environ.get("RINGMQ_ADDRESS")
    if not value:
        pytest.fail("RINGMQ_ADDRESS must name a running broker")
    return value


@pytest.fixture
def start_broker(binary, cores):
    """Starts brokers of the test's own; whatever still runs at the end is stopped."""
    started = []

    def start(port=0, data=None, args=()):
        started.append(Broker(binary, cores, port, data, args))
        return started[-1]

    yield start
    for broker in started:
        broker.close()


@pytest.fixture
def data(tmp_path):
    """A data directory that outlives the brokers that use it."""
    return tmp_path / "data"


@pytest.fixture
def name():
    """Makes channel names that no other test uses."""
    unique = uuid.uuid4().hex[:12]
    return lambda label="c": f"t{unique}-{label}"


@pytest.fixture
def wire(address):
    """A raw gRPC connection to the shared broker."""
    client = Client(address)
    yield client
    client.close()
