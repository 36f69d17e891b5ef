"""The gRPC contract, compiled from `proto/kubemq.proto` when the session starts.

The SDK registers its own copy of the contract in protobuf's default pool. Ours may be newer, and
protobuf refuses two files that define one name, so ours lives in a pool of its own.
"""

import os
import tempfile
import types
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[3]
PROTO = Path(os.environ.get("RINGMQ_PROTO", ROOT / "proto" / "kubemq.proto"))
SERVICE = "kubemq.kubemq"


def _compile():
    with tempfile.TemporaryDirectory(prefix="ringmq-contract-") as folder:
        out = os.path.join(folder, "contract.bin")
        code = protoc.main(
            ["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={out}", str(PROTO)]
        )
        if code != 0:
            raise RuntimeError(f"protoc refused {PROTO}")
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(out).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool, files.file[-1]


def _messages(pool, file):
    names = types.SimpleNamespace()
    for message in file.message_type:
        descriptor = pool.FindMessageTypeByName(f"{file.package}.{message.name}")
        setattr(names, message.name, message_factory.GetMessageClass(descriptor))
    return names


_POOL, _FILE = _compile()
_METHODS = _POOL.FindServiceByName(SERVICE).methods

pb = _messages(_POOL, _FILE)
"""The message classes of the contract: `pb.Event`, `pb.Subscribe`, ..."""


class Stub:
    """One callable per method of the service, as generated code would have it."""

    def __init__(self, channel):
        for method in _METHODS:
            kind = "_".join(
                "stream" if streams else "unary"
                for streams in (method.client_streaming, method.server_streaming)
            )
            call = getattr(channel, kind)(
                f"/{SERVICE}/{method.name}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=message_factory.GetMessageClass(
                    method.output_type
                ).FromString,
            )
            setattr(self, method.name, call)


def insecure_channel(address, options=()):
    """A connection of its own, without limits on the client's side."""
    return grpc.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
            *options,
        ],
    )
