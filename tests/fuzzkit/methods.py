"""Every RPC there is, from the descriptors of the contract, of health and of reflection."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from agent_runtime import v1

_REGISTERED: Final = (v1.ChatRequest, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)  # by their import
_PACKAGE: Final = "agent_runtime/v1/"
_NAMES: Final = ("agent", "audit", "chat", "event", "hitl", "session", "system")
_REFLECTION: Final = "grpc.reflection.v1alpha.ServerReflection"


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC."""

    path: str
    input: Descriptor
    output: Descriptor
    takes_stream: bool
    gives_stream: bool

    @property
    def name(self) -> str:
        """Service and method, without the package."""
        return self.path.rpartition(".")[2].replace("/", ".")

    @property
    def talks(self) -> bool:
        """Whether frames with a hello go both ways."""
        return self.takes_stream and "frame" in self.input.oneofs_by_name


def methods() -> Iterator[Method]:
    """Yield all of them."""
    pool = descriptor_pool.Default()
    files = [pool.FindFileByName(f"{_PACKAGE}{name}_service.proto") for name in _NAMES]
    services = [service for file in files for service in file.services_by_name.values()]
    services += [pool.FindServiceByName(name) for name in ("grpc.health.v1.Health", _REFLECTION)]
    for service in services:
        for one in service.methods:
            for name in {service.full_name, service.full_name.replace("v1alpha", "v1")}:
                path = f"/{name}/{one.name}"
                yield Method(path, one.input_type, one.output_type, one.client_streaming, one.server_streaming)
