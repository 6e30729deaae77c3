"""Every service of a server behind its generated stub."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_status import rpc_status

from agent_runtime import v1
from agent_runtime.v1 import (
    agent_service_pb2_grpc,
    chat_service_pb2_grpc,
    event_service_pb2_grpc,
    hitl_service_pb2_grpc,
    session_service_pb2_grpc,
    system_service_pb2_grpc,
)
from servicekit.streams import ChatStream, HitlStream

STANDARD_TOOLS = (
    "read_file", "list_files", "search_in_code", "write_file", "create_directory", "execute_command",
)  # fmt: skip


class _Stub:
    """A generated stub whose calls carry metadata."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata

    def __getattr__(self, method: str) -> Any:
        return partial(getattr(self._stub, method), metadata=self._metadata)


class Service:
    """A connection to a server, with nothing of the client library between."""

    def __init__(
        self,
        target: str,
        token: str | None = None,
        *,
        channel_credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, int]] = (),
    ) -> None:
        self.target = target
        if channel_credentials is None:
            self.channel = grpc.aio.insecure_channel(target, options=options)
        else:
            self.channel = grpc.aio.secure_channel(target, channel_credentials, options=options)
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        # The stubs' types do not know the asyncio kind of every method.
        self.chat_service: Any = _Stub(chat_service_pb2_grpc.ChatServiceStub(self.channel), metadata)
        self.hitl_service: Any = _Stub(hitl_service_pb2_grpc.HitlServiceStub(self.channel), metadata)
        self.sessions: Any = _Stub(session_service_pb2_grpc.SessionServiceStub(self.channel), metadata)
        self.events: Any = _Stub(event_service_pb2_grpc.EventServiceStub(self.channel), metadata)
        self.agents: Any = _Stub(agent_service_pb2_grpc.AgentServiceStub(self.channel), metadata)
        self.system: Any = _Stub(system_service_pb2_grpc.SystemServiceStub(self.channel), metadata)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)

    async def new_session(self, agent_id: str = "coder") -> str:
        """Create a session; the coder answers without being routed to."""
        answer = await self.sessions.CreateSession(v1.CreateSessionRequest(agent_id=agent_id))
        return str(answer.session.session_id)

    def chat(self, session_id: str, **hello: Any) -> ChatStream:
        """Open a chat; as its executor, with the standard tools, unless `hello` says otherwise."""
        usual: dict[str, Any] = {"client_id": "client-1", "protocol_version": 1, "tools": tools(*STANDARD_TOOLS)}
        stream = ChatStream(self.chat_service.Chat())
        stream.begin(v1.ChatRequest(hello=v1.ChatHello(session_id=session_id, **(usual | hello))))
        return stream

    def review(self, client_id: str = "reviewer-1", **hello: Any) -> HitlStream:
        """Open a reviewer's stream."""
        stream = HitlStream(self.hitl_service.Hitl())
        stream.begin(v1.HitlRequest(hello=v1.HitlHello(client_id=client_id, protocol_version=1, **hello)))
        return stream

    async def log(self, session_id: str) -> list[v1.SessionEvent]:
        """Return a session's whole event log."""
        request = v1.ListSessionEventsRequest(session_id=session_id, page_size=1000)
        return list((await self.sessions.ListSessionEvents(request)).events)


def tools(*names: str) -> list[v1.ToolSpec]:
    """Return the declaration of standard tools."""
    return [v1.ToolSpec(name=name) for name in names]


def reason_of(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str]]:
    """Return the reason in a terminal status, and its metadata."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # it reads what both kinds of call have
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return info.reason, dict(info.metadata)
    return "", {}
