"""The client: unary calls, feeds, and the way to a chat or a review."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agent_runtime import v1
from agent_runtime.v1 import (
    agent_service_pb2_grpc,
    chat_service_pb2_grpc,
    hitl_service_pb2_grpc,
    session_service_pb2_grpc,
    system_service_pb2_grpc,
)
from agent_runtime_client import feeds
from agent_runtime_client.channels import Channels
from agent_runtime_client.chat import Chat
from agent_runtime_client.chat_side import ChatOptions, ChatSide
from agent_runtime_client.credentials import Metadata, Token
from agent_runtime_client.decisions import decision_on
from agent_runtime_client.errors import CallFailed, NotAllowed, Unreachable, call_failed
from agent_runtime_client.journal import Journal
from agent_runtime_client.mailbox import Mailbox
from agent_runtime_client.patience import CallPatience
from agent_runtime_client.position import Position
from agent_runtime_client.records import MemoryRecords, new_frame_id
from agent_runtime_client.review import Review, ReviewSide, ReviewUpdate
from agent_runtime_client.status import Problem, problem_of
from agent_runtime_client.timing import Timing
from agent_runtime_client.tools.executor import ToolExecutor
from agent_runtime_client.updates import ChatUpdate

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_DEFAULT_TIMING = Timing()
_CONNECTION_FAULTS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

USER_AGENT = f"agent-runtime-client/{version('agent-runtime')} python"
"""How this library names itself to servers."""


class Client:
    """A client of one server (or of one address in front of many); an async context manager."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: Token | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        timing: Timing = _DEFAULT_TIMING,
    ) -> None:
        """Reach `target`, with TLS when there are channel `credentials`, as whom the `token` says.

        A function as `token` is called for each RPC; it should return at once while its token still is good.
        """
        self.target = target
        self._channels = Channels(target, credentials)
        self._metadata = Metadata(metadata, token)
        self._timing = timing
        self._position = Position()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; chats and reviews should be closed before."""
        await self._channels.aclose()

    async def create_session(
        self,
        *,
        agent_id: str = "",
        session_id: str = "",
        title: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> v1.Session:
        """Create a session, or return the one that has `session_id` already."""
        request = v1.CreateSessionRequest(
            request_id=str(uuid.uuid4()),
            agent_id=agent_id,
            session_id=session_id,
            title=title,
            labels=labels or {},
        )
        answer = await self._call(lambda channel: _sessions(channel).CreateSession, request)
        return answer.session

    async def get_session(self, session_id: str) -> v1.Session:
        """Read one session."""
        request = v1.GetSessionRequest(session_id=session_id)
        return (await self._call(lambda channel: _sessions(channel).GetSession, request)).session

    async def list_sessions(
        self,
        *,
        states: Sequence["v1.SessionState.ValueType"] = (),
        labels: Mapping[str, str] | None = None,
        page_size: int = 0,
    ) -> AsyncIterator[v1.Session]:
        """Yield the caller's sessions, newest first."""
        request = v1.ListSessionsRequest(page_size=page_size, states=states, labels=labels or {})
        while True:
            page = await self._call(lambda channel: _sessions(channel).ListSessions, request)
            for session in page.sessions:
                yield session
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def close_session(self, session_id: str, reason: str = "") -> v1.Session:
        """End a session; its turn is cancelled."""
        request = v1.CloseSessionRequest(session_id=session_id, reason=reason)
        return (await self._call(lambda channel: _sessions(channel).CloseSession, request)).session

    async def fork_session(self, session_id: str, *, at_seq: int = 0, title: str = "") -> v1.Session:
        """Begin a session as a copy of another one up to a seq (0: all of it); what runs there is cancelled."""
        request = v1.ForkSessionRequest(request_id=str(uuid.uuid4()), session_id=session_id, at_seq=at_seq, title=title)
        return (await self._call(lambda channel: _sessions(channel).ForkSession, request)).session

    async def events(
        self, session_id: str, *, after_seq: int = 0, to_seq: int | None = None
    ) -> AsyncIterator[v1.SessionEvent]:
        """Yield the committed events after `after_seq`, up to `to_seq` or the end of the log."""
        request = v1.ListSessionEventsRequest(session_id=session_id, after_seq=after_seq)
        while True:
            page = await self._call(lambda channel: _sessions(channel).ListSessionEvents, request)
            for event in page.events:
                if to_seq is not None and event.seq > to_seq:
                    return
                yield event
            if page.last_seq >= page.head_seq or not page.events:
                return
            request.after_seq = page.last_seq

    def follow(
        self,
        session_id: str = "",
        *,
        after_seq: int = 0,
        resume_token: str = "",
        include_deltas: bool = False,
    ) -> AsyncIterator[v1.SubscribeEventsResponse]:
        """Yield a session's events, or all visible sessions' when unnamed; reconnects by itself."""
        request = v1.SubscribeEventsRequest(
            session_id=session_id,
            after_seq=after_seq,
            resume_token=resume_token,
            include_deltas=include_deltas,
        )
        return feeds.follow(self._channels, request, self._metadata, self._timing)

    async def list_approvals(
        self,
        *,
        filter: v1.ApprovalFilter | None = None,  # noqa: A002 - the contract's word
        states: Sequence["v1.ApprovalState.ValueType"] = (),
    ) -> list[v1.Approval]:
        """Read the visible approvals, newest first; the pending ones unless `states` says otherwise."""
        request = v1.ListApprovalsRequest(filter=filter, states=states)
        found: list[v1.Approval] = []
        while True:
            page = await self._call(lambda channel: _approvals(channel).ListApprovals, request)
            found.extend(page.approvals)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def get_approval(self, approval_id: str) -> v1.Approval:
        """Read one approval."""
        request = v1.GetApprovalRequest(approval_id=approval_id)
        return (await self._call(lambda channel: _approvals(channel).GetApproval, request)).approval

    async def decide(
        self,
        approval: v1.Approval,
        verdict: "v1.ApprovalVerdict.ValueType",
        *,
        edited_arguments_json: str = "",
        comment: str = "",
        scope: "v1.ApprovalScope.ValueType" = v1.APPROVAL_SCOPE_UNSPECIFIED,
    ) -> v1.Approval:
        """Decide an approval exactly as it was shown, without a stream."""
        request = v1.DecideApprovalRequest(
            request_id=uuid.uuid4().hex,
            decision=decision_on(approval, verdict, edited_arguments_json, comment, scope),
        )
        answer = await self._call(lambda channel: _approvals(channel).DecideApproval, request)
        return answer.approval

    async def list_agents(self) -> list[v1.Agent]:
        """Read the agents the caller may use."""
        request, agents = v1.ListAgentsRequest(), list[v1.Agent]()
        while True:
            page = await self._call(lambda channel: _agents(channel).ListAgents, request)
            agents.extend(page.agents)
            if not page.next_page_token:
                return agents
            request.page_token = page.next_page_token

    async def server_status(self) -> v1.GetServerStatusResponse:
        """Read version and state of the replica that answers."""
        request = v1.GetServerStatusRequest()
        return await self._call(
            lambda channel: system_service_pb2_grpc.SystemServiceStub(channel).GetServerStatus, request
        )

    async def usage(self, *, first_day: str = "", last_day: str = "") -> v1.GetUsageResponse:
        """Read what was spent on models by day (UTC, as 2026-01-31) and subject: today, or from a day to another."""
        request = v1.GetUsageRequest(first_day=first_day, last_day=last_day)
        return await self._call(lambda channel: system_service_pb2_grpc.SystemServiceStub(channel).GetUsage, request)

    async def health(self, service: str = "") -> str:
        """Return the health of a service by its name, such as `SERVING`."""
        request = health_pb2.HealthCheckRequest(service=service)
        answer = await self._call_now(_health_check, request)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def chat(
        self,
        session_id: str,
        *,
        client_id: str | None = None,
        executor: ToolExecutor | None = None,
        role: "v1.AttachRole.ValueType" = v1.ATTACH_ROLE_UNSPECIFIED,
        after_seq: int = 0,
        journal: Journal | None = None,
        durable_only: bool = False,
    ) -> Chat:
        """Attach to a session; as its executor when there is an `executor` and no other `role` is asked.

        With a `journal` a restarted program is the same client and goes on with its tool calls.
        """
        if role == v1.ATTACH_ROLE_UNSPECIFIED:
            role = v1.ATTACH_ROLE_OBSERVER if executor is None else v1.ATTACH_ROLE_EXECUTOR
        mailbox: Mailbox[ChatUpdate] = Mailbox()
        options = ChatOptions(
            session_id,
            client_id or (new_frame_id() if journal is None else journal.client_id),
            role,
            after_seq,
            durable_only,
            USER_AGENT,
        )
        side = ChatSide(options, self._metadata, mailbox, self._history)
        chat = Chat(side, mailbox, self._channels, self._timing, self._submit_frame, self._position)
        if executor is not None and role == v1.ATTACH_ROLE_EXECUTOR:
            chat.use_tools(executor, MemoryRecords() if journal is None else journal)
        return chat

    def review(
        self,
        *,
        client_id: str | None = None,
        filter: v1.ApprovalFilter | None = None,  # noqa: A002 - the contract's word
    ) -> Review:
        """Open the reviewer's inbox."""
        mailbox: Mailbox[ReviewUpdate] = Mailbox()
        selection = filter or v1.ApprovalFilter()
        side = ReviewSide(client_id or new_frame_id(), selection, self._metadata, mailbox, self.get_approval)
        return Review(side, mailbox, self._channels, self._timing, self._position)

    def _history(self, session_id: str, after_seq: int, to_seq: int) -> AsyncIterator[v1.SessionEvent]:
        return self.events(session_id, after_seq=after_seq, to_seq=to_seq)

    async def _submit_frame(self, request: v1.SubmitFrameRequest) -> v1.SubmitFrameResponse:
        answer = await self._call(lambda channel: chat_service_pb2_grpc.ChatServiceStub(channel).SubmitFrame, request)
        self._position.note(answer.frame_ack.lsn)
        return answer

    async def _call(
        self,
        method: Callable[[grpc.aio.Channel], "grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer]"],
        request: _Request,
    ) -> _Answer:
        """Make a unary call; again while the server says that it may be taken soon, as each may be repeated safely."""
        patience = CallPatience(self._timing)
        while True:
            try:
                return await self._call_now(method, request)
            except CallFailed as error:
                delay = patience.delay(error.problem)
                if delay is None:
                    raise
            await asyncio.sleep(delay)

    async def _call_now(
        self,
        method: Callable[[grpc.aio.Channel], "grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer]"],
        request: _Request,
    ) -> _Answer:
        """Make a unary call; once more on a new connection or with a fresh token."""
        try:
            return await self._attempt(method, request)
        except Unreachable as error:
            # One that drains asks for patience on its own account: another server may answer at once.
            if (error.problem.retry_delay is not None and not error.problem.leaves) or _timed_out(error):
                raise
        except NotAllowed as error:
            if error.problem.code is not grpc.StatusCode.UNAUTHENTICATED or not self._metadata.renews:
                raise
        return await self._attempt(method, request)

    async def _attempt(
        self,
        method: Callable[[grpc.aio.Channel], "grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer]"],
        request: _Request,
    ) -> _Answer:
        metadata = (*await self._metadata(), *self._position.metadata())
        async with self._channels.lend() as channel:
            try:
                call = method(channel)(request, metadata=metadata, timeout=self._timing.call_seconds)
                answer = await call
                self._position.note_trailing(await call.trailing_metadata())
            except grpc.aio.AioRpcError as error:
                problem = problem_of(error)
                if problem.code in _CONNECTION_FAULTS:
                    self._channels.distrust(channel)
                if _timed_out(error) and channel.get_state() is not grpc.ChannelConnectivity.READY:
                    problem = Problem(
                        grpc.StatusCode.UNAVAILABLE, f"no connection within {self._timing.call_seconds:g} s"
                    )
                raise call_failed(problem) from error
        return answer


def _timed_out(error: BaseException) -> bool:
    """Tell whether a call, or what an error came from, took all the time it had."""
    failed = error if isinstance(error, grpc.aio.AioRpcError) else error.__cause__
    return isinstance(failed, grpc.aio.AioRpcError) and failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def _sessions(channel: grpc.aio.Channel) -> "session_service_pb2_grpc.SessionServiceAsyncStub":
    return session_service_pb2_grpc.SessionServiceStub(channel)


def _approvals(channel: grpc.aio.Channel) -> "hitl_service_pb2_grpc.HitlServiceAsyncStub":
    return hitl_service_pb2_grpc.HitlServiceStub(channel)


def _agents(channel: grpc.aio.Channel) -> "agent_service_pb2_grpc.AgentServiceAsyncStub":
    return agent_service_pb2_grpc.AgentServiceStub(channel)


def _health_check(
    channel: grpc.aio.Channel,
) -> "grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]":
    # The stubs know the stub's methods of the blocking kind only as attributes set at run time.
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return cast(
        "grpc.aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]",
        stub.Check,
    )
