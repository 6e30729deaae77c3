"""A conversation with one session that survives the loss of its stream."""

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from agent_runtime import v1
from agent_runtime_client.updates import ChatUpdate


class Chat:
    """One attachment to one session; iterate over it for what happens, `send` to say something.

    Use it as an async context manager. It connects in the background and reconnects by itself;
    entering does not wait for the server. Iteration ends when the chat is closed, and raises
    a `ClientError` when it cannot go on.
    """

    session: v1.Session
    last_seq: int
    welcome: v1.ChatWelcome | None
    client_id: str

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[ChatUpdate]:
        raise NotImplementedError

    async def send(
        self,
        text: str | Sequence[v1.Part],
        *,
        agent_id: str = "",
        question_id: str = "",
        option_ids: Sequence[str] = (),
    ) -> v1.FrameAck:
        """Say something; starts or queues a turn. Raises `Rejected` when the server refuses it."""
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

    async def cancel(self, *, turn_id: str = "", reason: str = "") -> v1.FrameAck:
        """Stop a turn; the running one unless named."""
        raise NotImplementedError

    async def switch_agent(self, agent_id: str, reason: str = "") -> v1.FrameAck:
        """Put another agent in charge."""
        raise NotImplementedError

    async def update_tools(self, specs: Sequence[v1.ToolSpec]) -> v1.FrameAck:
        """Replace the list of tools this client offers."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Stop local runs, deliver what they left, and close the stream."""
        raise NotImplementedError
