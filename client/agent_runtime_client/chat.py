"""A conversation with one session that survives the loss of its stream."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

from agent_runtime import v1
from agent_runtime_client.attachment import Attachment
from agent_runtime_client.calls import Calls, Stop
from agent_runtime_client.channels import Channels
from agent_runtime_client.chat_side import ChatSide
from agent_runtime_client.decisions import decision_on
from agent_runtime_client.errors import CallFailed, ClientError, Rejected, Superseded, Unreachable
from agent_runtime_client.mailbox import Mailbox
from agent_runtime_client.position import Position
from agent_runtime_client.records import Records, new_frame_id
from agent_runtime_client.tasks import Tasks
from agent_runtime_client.timing import Timing
from agent_runtime_client.tools.executor import ToolExecutor
from agent_runtime_client.updates import ChatUpdate, Event

_AWAY_SECONDS: Final = 1.0  # until a server that is not there is tried again

SubmitFrame = Callable[[v1.SubmitFrameRequest], Awaitable[v1.SubmitFrameResponse]]


class Chat:
    """One attachment to one session; iterate over it for what happens, `send` to say something.

    Made by `Client.chat`; use it as an async context manager. It connects in the background and
    reconnects by itself; entering does not wait for the server. Iteration ends when the chat is closed,
    and raises a `ClientError` when it cannot go on.
    """

    def __init__(
        self,
        side: ChatSide,
        mailbox: Mailbox[ChatUpdate],
        channels: Channels,
        timing: Timing,
        submit_frame: SubmitFrame,
        position: Position,
    ) -> None:
        self.client_id = side.options.client_id
        self.last_seq = side.options.after_seq
        self._side = side
        self._mailbox = mailbox
        self._timing = timing
        self._submit_frame = submit_frame
        self._tasks = Tasks(self._died)
        self._attachment: Attachment[v1.ChatRequest, v1.ChatResponse] = Attachment(
            channels, side, timing, self._tasks, position
        )

    def use_tools(self, executor: ToolExecutor, records: Records) -> None:
        """Run the session's client tool calls with `executor`; before the chat is entered."""
        side = self._side
        side.tools = tuple(executor.specs)
        side.calls = Calls(
            side.options.session_id,
            side.ledger,
            executor,
            records,
            self._tasks,
            self._submit_for_call,
            self._report,
        )

    @property
    def session(self) -> v1.Session:
        """The session as the last welcome showed it; only its id before the first one."""
        return self._side.session

    @property
    def welcome(self) -> v1.ChatWelcome | None:
        """The last welcome; None before the first one."""
        return self._side.welcome

    async def __aenter__(self) -> Self:
        self._tasks.start(self._main())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatUpdate:
        """Return the next update; `last_seq` is that of the last event returned."""
        update = await self._mailbox.take()
        if isinstance(update, Event):
            self.last_seq = update.event.seq
        return update

    async def send(
        self,
        text: str | Sequence[v1.Part],
        *,
        agent_id: str = "",
        question_id: str = "",
        option_ids: Sequence[str] = (),
        delivery: "v1.MessageDelivery.ValueType" = v1.MESSAGE_DELIVERY_QUEUE,
    ) -> v1.FrameAck:
        """Say something; begins a turn, or meets the one that runs as `delivery` says.

        Raises `Rejected` when the server refuses it. Waits for the server's word, over reconnects; being cancelled
        ends the wait, not the message.
        """
        message = v1.UserMessage(
            parts=[v1.Part(text=text)] if isinstance(text, str) else text,
            agent_id=agent_id,
            question_id=question_id,
            option_ids=option_ids,
            delivery=delivery,
        )
        return await self._submit(v1.ChatRequest(frame_id=new_frame_id(), user_message=message))

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
        return await self._submit(v1.ChatRequest(frame_id=new_frame_id(), approval_decision=decision))

    async def cancel(self, *, turn_id: str = "", reason: str = "", drop_queue: bool = False) -> v1.FrameAck:
        """Stop a turn; the running one unless named."""
        cancel = v1.CancelTurn(turn_id=turn_id, reason=reason, drop_queue=drop_queue)
        return await self._submit(v1.ChatRequest(frame_id=new_frame_id(), cancel_turn=cancel))

    async def switch_agent(self, agent_id: str, reason: str = "") -> v1.FrameAck:
        """Put another agent in charge."""
        switch = v1.SwitchAgent(agent_id=agent_id, reason=reason)
        return await self._submit(v1.ChatRequest(frame_id=new_frame_id(), switch_agent=switch))

    async def update_tools(self, specs: Sequence[v1.ToolSpec]) -> v1.FrameAck:
        """Replace the list of tools this client offers, now and after reconnects."""
        update = v1.UpdateTools(tools=specs)
        self._side.tools = tuple(specs)
        return await self._submit(v1.ChatRequest(frame_id=new_frame_id(), update_tools=update))

    async def aclose(self) -> None:
        """Stop local runs, deliver what they left, and close the stream."""
        calls = self._side.calls
        if not self._attachment.connected:
            self._attachment.end()
        if calls is not None:
            calls.stop_all(Stop.CLOSED)
            try:
                async with asyncio.timeout(self._timing.close_seconds):
                    await calls.idle()
            except TimeoutError:
                pass  # The journal keeps the results for the next attachment.
        await self._tasks.aclose()
        self._attachment.end()
        self._mailbox.close()

    async def _main(self) -> None:
        error = await self._attachment.run()
        self._attachment.end(error)
        self._mailbox.close(error)
        if self._side.calls is not None and not isinstance(error, Superseded):
            self._side.calls.stop_all(Stop.CLOSED)

    def _died(self, error: BaseException) -> None:
        self._attachment.end(ClientError(f"a background task failed: {error!r}"))
        self._mailbox.close(error)

    async def _submit(self, frame: v1.ChatRequest) -> v1.FrameAck:
        with self._mailbox.unbounded():
            return await self._attachment.submit(frame)

    async def _submit_for_call(self, frame: v1.ChatRequest) -> v1.FrameAck:
        """Send a tool frame; one whose chat was superseded goes by itself, as the call is still ours."""
        try:
            return await self._submit(frame)
        except Superseded:
            request = v1.SubmitFrameRequest(
                session_id=self._side.options.session_id, client_id=self.client_id, frame=frame
            )
        try:
            return (await self._submit_frame(request)).frame_ack
        except CallFailed as error:
            raise Rejected(_refusal(error)) from error

    def _report(self, progress: v1.ToolProgress) -> None:
        self._mailbox.offer(progress)
        self._attachment.offer(v1.ChatRequest(tool_progress=progress))


def _refusal(error: CallFailed) -> v1.Error:
    """Say a failed call as the refusal of a frame; one that may be taken later keeps its delay."""
    problem = error.problem
    refusal = v1.Error(code=problem.code.value[0], reason=error.reason, message=str(error))
    delay = _AWAY_SECONDS if problem.retry_delay is None and isinstance(error, Unreachable) else problem.retry_delay
    if delay is not None:
        refusal.retry_delay.FromNanoseconds(int(delay * 1e9))
    return refusal
