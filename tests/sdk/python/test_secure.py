"""The official SDK and plain gRPC over TLS, mutual TLS and with tokens: who is let in, and what each
of the others is told. Collected only beside brokers with TLS, which `tests/sdk.rs` starts:

RINGMQ_TLS_ADDRESS   takes tokens; a policy allows events on `allowed`, for everybody
RINGMQ_MTLS_ADDRESS  takes whoever shows a certificate of its authority
RINGMQ_IDENTITIES    a folder of PEM files
RINGMQ_TOKEN…        tokens: good, expired, forged
"""

import os
from pathlib import Path

import grpc
import pytest
from kubemq import ClientConfig, EventMessage, KubeMQError, PubSubClient, TLSConfig
from kubemq.core.exceptions import KubeMQAuthenticationError, KubeMQConnectionError

from contract import Stub, pb
from wire import DEADLINE, event, status_of

IDENTITIES = Path(os.environ["RINGMQ_IDENTITIES"])
DENIED = ("PERMISSION_DENIED", "Error 412: access denied to resource")
FAILED = "Error 421: authentication verification failed, "


def pem(name):
    return (IDENTITIES / f"{name}.pem").read_bytes()


@pytest.fixture
def tls():
    return os.environ["RINGMQ_TLS_ADDRESS"]


@pytest.fixture
def mtls():
    return os.environ["RINGMQ_MTLS_ADDRESS"]


def token(name=""):
    return os.environ[f"RINGMQ_TOKEN{name}"]


@pytest.fixture
def sdk():
    """Makes clients of the SDK; the name of an identity is what it shows of itself."""
    made = []

    def make(address, auth_token=None, identity=None, ca="ca"):
        shown = {}
        if identity:
            shown["cert_file"] = IDENTITIES / f"{identity}.pem"
            shown["key_file"] = IDENTITIES / f"{identity}-key.pem"
        client = PubSubClient(
            config=ClientConfig(
                address=address,
                client_id="py-secure",
                auth_token=auth_token,
                tls=TLSConfig(enabled=True, ca_file=IDENTITIES / f"{ca}.pem", **shown),
            )
        )
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def stub():
    """Makes plain stubs over TLS."""
    channels = []

    def make(address, identity=None, ca="ca"):
        shown = (pem(f"{identity}-key"), pem(identity)) if identity else (None, None)
        channels.append(
            grpc.secure_channel(address, grpc.ssl_channel_credentials(pem(ca), *shown))
        )
        return Stub(channels[-1])

    yield make
    for channel in channels:
        channel.close()


def refused(call, message, **how):
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=DEADLINE, **how)
    status = status_of(caught.value)
    return tuple(status)


def publish(client, channel="allowed"):
    client.send_event(EventMessage(channel=channel, body=b"secret"))


def test_sdk_with_a_token_publishes_over_tls(tls, sdk):
    client = sdk(tls, token())
    assert client.ping().host
    publish(client)


def test_sdk_with_a_certificate_publishes_over_mutual_tls(mtls, sdk):
    client = sdk(mtls, identity="client")
    assert client.ping().host
    publish(client)


@pytest.mark.parametrize("shown", [None, "_EXPIRED", "_FORGED"])
def test_sdk_without_a_good_token_gets_an_authentication_error(tls, sdk, shown):
    client = sdk(tls, token(shown) if shown else None)
    with pytest.raises(KubeMQAuthenticationError):
        client.list_events_channels("")


def test_sdk_gets_an_authentication_error_where_it_may_not(tls, sdk):
    with pytest.raises(KubeMQError) as caught:
        sdk(tls, token()).list_events_channels("")
    assert isinstance(caught.value, KubeMQAuthenticationError), caught.value
    assert "Error 412" in str(caught.value)


@pytest.mark.parametrize(
    ("identity", "ca"), [(None, "ca"), ("stranger", "ca"), ("client", "stranger-ca")]
)
def test_sdk_without_a_good_certificate_gets_a_connection_error(mtls, sdk, identity, ca):
    with pytest.raises(KubeMQConnectionError):
        sdk(mtls, identity=identity, ca=ca).ping()


def test_grpc_is_told_what_is_wrong_with_its_token(tls, stub):
    send = stub(tls).SendEvent
    message = event("allowed")
    assert refused(send, message) == ("UNAUTHENTICATED", "Authorization token is not supplied")

    def told(shown):
        code, text = refused(send, message, metadata=[("authorization", shown)])
        assert code == "UNAUTHENTICATED"
        assert text.startswith(FAILED), text
        return text.removeprefix(FAILED)

    assert told(f"Bearer {token()}") == "tokenstring should not contain 'bearer '"
    assert told(token("_FORGED")) == "signature is invalid"
    assert told("not a token") == "token contains an invalid number of segments"
    assert told(token("_EXPIRED")).startswith("token is expired by ")


def test_grpc_is_allowed_what_the_policy_says_and_no_more(tls, stub):
    made = stub(tls)
    metadata = [("authorization", token())]
    assert made.SendEvent(event("allowed"), timeout=DEADLINE, metadata=metadata).Sent
    assert refused(made.SendEvent, event("denied"), metadata=metadata) == DENIED
    assert refused(made.SendEvent, event("allowed.not"), metadata=metadata) == DENIED
    stored = event("allowed", Store=True)
    assert refused(made.SendEvent, stored, metadata=metadata) == DENIED


def test_ping_needs_no_token(tls, stub):
    assert stub(tls).Ping(pb.Empty(), timeout=DEADLINE).Host


def test_grpc_needs_the_right_certificates_on_both_sides(mtls, stub):
    assert stub(mtls, "client").SendEvent(event("any"), timeout=DEADLINE).Sent
    for identity, ca in [(None, "ca"), ("stranger", "ca"), ("client", "stranger-ca")]:
        code, _ = refused(stub(mtls, identity, ca).SendEvent, event("any"))
        assert code == "UNAVAILABLE", (identity, ca)


def test_no_tls_is_no_connection(tls):
    with grpc.insecure_channel(tls) as channel:
        code, _ = refused(Stub(channel).Ping, pb.Empty())
    assert code == "UNAVAILABLE"
