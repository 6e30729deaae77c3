"""The reviewer's inbox: approvals as they are asked for and decided, over reconnects."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import grpc

from agent_runtime import v1
from agent_runtime.v1 import hitl_service_pb2_grpc
from agent_runtime_client.attachment import Attachment
from agent_runtime_client.channels import Channels
from agent_runtime_client.chat_side import PROTOCOL_VERSION
from agent_runtime_client.credentials import Metadata
from agent_runtime_client.decisions import decision_on
from agent_runtime_client.errors import CallFailed, ClientError
from agent_runtime_client.inbox import Inbox
from agent_runtime_client.mailbox import Mailbox
from agent_runtime_client.position import Position
from agent_runtime_client.records import new_frame_id
from agent_runtime_client.status import Problem
from agent_runtime_client.tasks import Tasks
from agent_runtime_client.timing import Timing
from agent_runtime_client.updates import CaughtUp, Disconnected, Notice

ReviewUpdate = v1.Approval | CaughtUp | Disconnected | Notice


class ReviewSide:
    """The review's part in an attachment: the latest state of each approval, once."""

    def __init__(
        self,
        client_id: str,
        selection: v1.ApprovalFilter,
        metadata: Metadata,
        mailbox: Mailbox[ReviewUpdate],
        get_approval: Callable[[str], Awaitable[v1.Approval]],
    ) -> None:
        self.client_id = client_id
        self.caught_up = False
        self._selection = selection
        self._metadata = metadata
        self._mailbox = mailbox
        self._get_approval = get_approval
        self._resume_token = ""
        self._inbox = Inbox()

    async def start(self, channel: grpc.aio.Channel) -> "grpc.aio.StreamStreamCall[v1.HitlRequest, v1.HitlResponse]":
        """Begin the RPC."""
        return hitl_service_pb2_grpc.HitlServiceStub(channel).Hitl(metadata=await self._metadata())

    def hello(self) -> v1.HitlRequest:
        """Return the first frame, for where the reader stands now."""
        hello = v1.HitlHello(
            client_id=self.client_id,
            resume_token=self._resume_token,
            filter=self._selection,
            protocol_version=PROTOCOL_VERSION,
        )
        return v1.HitlRequest(hello=hello)

    def ping(self) -> v1.HitlRequest:
        """Return a keepalive."""
        return v1.HitlRequest(ping=v1.Ping())

    async def welcomed(self, frame: v1.HitlResponse) -> None:
        """Take the first frame of a new stream."""
        self.caught_up = False
        if not frame.welcome.resumed:
            self._inbox.begin_list()

    async def received(self, frame: v1.HitlResponse) -> Problem | None:
        """Take one more frame."""
        kind = frame.WhichOneof("frame")
        if kind == "approval":
            await self._tell(frame.approval)
        elif kind == "caught_up":
            await self._ask_about_vanished()
            self.caught_up = True
            await self._mailbox.put(CaughtUp(frame.caught_up.head_seq))
        # Only now: a token is the place after its frame.
        self._resume_token = frame.resume_token or self._resume_token
        return None

    def event_of(self, frame: v1.HitlResponse) -> v1.SessionEvent | None:  # noqa: ARG002
        """Return nothing: a review is told of approvals, not of events."""
        return None

    async def restarted(self, after_seq: int) -> None:
        """Approvals have no seq; nothing to go back to."""

    async def disconnected(self, reason: str, retry_in: float) -> None:
        """Tell that the stream is down for a while."""
        self.caught_up = False
        await self._mailbox.put(Disconnected(reason, retry_in))

    async def held_up(self, reason: str) -> None:
        """Tell that the server cannot take frames now; they are sent again until it can."""
        await self._mailbox.put(Notice(f"{reason}; trying again until it works"))

    async def _tell(self, approval: v1.Approval) -> None:
        if self._inbox.is_news(approval):
            await self._mailbox.put(approval)

    async def _ask_about_vanished(self) -> None:
        """Learn the end of approvals that were pending before, and are not in the new list."""
        for approval_id in self._inbox.end_list():
            try:
                await self._tell(await self._get_approval(approval_id))
            except CallFailed:
                # Gone with its session, or no longer visible: nothing to decide either way.
                continue


class Review:
    """Approvals the caller may see, each revision once; use it as an async context manager.

    Made by `Client.review`. Yields an approval at each change of its state or claim, `CaughtUp` when
    the pending ones are told, `Disconnected` while it reconnects by itself, and `Notice` for what
    the reviewer should see once.
    """

    def __init__(
        self,
        side: ReviewSide,
        mailbox: Mailbox[ReviewUpdate],
        channels: Channels,
        timing: Timing,
        position: Position,
    ) -> None:
        self.client_id = side.client_id
        self._side = side
        self._mailbox = mailbox
        self._tasks = Tasks(self._died)
        self._attachment: Attachment[v1.HitlRequest, v1.HitlResponse] = Attachment(
            channels, side, timing, self._tasks, position
        )

    @property
    def caught_up(self) -> bool:
        """Whether all approvals pending now have been told."""
        return self._side.caught_up

    async def __aenter__(self) -> Self:
        self._tasks.start(self._main())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReviewUpdate:
        return await self._mailbox.take()

    async def decide(
        self,
        approval: v1.Approval,
        verdict: "v1.ApprovalVerdict.ValueType",
        *,
        edited_arguments_json: str = "",
        comment: str = "",
        scope: "v1.ApprovalScope.ValueType" = v1.APPROVAL_SCOPE_UNSPECIFIED,
    ) -> v1.FrameAck:
        """Decide an approval exactly as it was shown."""
        decision = decision_on(approval, verdict, edited_arguments_json, comment, scope)
        return await self._submit(v1.HitlRequest(frame_id=new_frame_id(), decision=decision))

    async def claim(self, approval: v1.Approval) -> v1.FrameAck:
        """Tell other reviewers that this one is being looked at."""
        claim = v1.ApprovalClaim(approval_id=approval.approval_id)
        return await self._submit(v1.HitlRequest(frame_id=new_frame_id(), claim=claim))

    async def release(self, approval: v1.Approval) -> v1.FrameAck:
        """Give a claim back."""
        release = v1.ApprovalRelease(approval_id=approval.approval_id)
        return await self._submit(v1.HitlRequest(frame_id=new_frame_id(), release=release))

    async def aclose(self) -> None:
        """Close the stream."""
        await self._tasks.aclose()
        self._attachment.end()
        self._mailbox.close()

    async def _main(self) -> None:
        error = await self._attachment.run()
        self._attachment.end(error)
        self._mailbox.close(error)

    def _died(self, error: BaseException) -> None:
        self._attachment.end(ClientError(f"a background task failed: {error!r}"))
        self._mailbox.close(error)

    async def _submit(self, frame: v1.HitlRequest) -> v1.FrameAck:
        with self._mailbox.unbounded():
            return await self._attachment.submit(frame)
