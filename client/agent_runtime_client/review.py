"""The reviewer's inbox: approvals as they are asked for and decided, over reconnects."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from agent_runtime import v1
from agent_runtime_client.updates import CaughtUp, Connected, Disconnected

ReviewUpdate = v1.Approval | CaughtUp | Connected | Disconnected


class Review:
    """Approvals the caller may see, each revision once; use it as an async context manager."""

    client_id: str
    caught_up: bool

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[ReviewUpdate]:
        raise NotImplementedError

    async def decide(
        self,
        approval: v1.Approval,
        verdict: "v1.ApprovalVerdict.ValueType",
        *,
        edited_arguments_json: str = "",
        comment: str = "",
    ) -> v1.FrameAck:
        """Decide an approval exactly as it was shown."""
        raise NotImplementedError

    async def claim(self, approval: v1.Approval) -> v1.FrameAck:
        """Tell other reviewers that this one is being looked at."""
        raise NotImplementedError

    async def release(self, approval: v1.Approval) -> v1.FrameAck:
        """Give a claim back."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the stream."""
        raise NotImplementedError
