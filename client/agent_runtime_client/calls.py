"""Running dispatched tool calls: recorded before the effect, reported until confirmed."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1
from agent_runtime_client.attachment import seconds_of
from agent_runtime_client.errors import ClientError, JournalFailed, Rejected, ToolRefused
from agent_runtime_client.ledger import Fate, Ledger, OpenCall
from agent_runtime_client.records import Entry, Records, finished
from agent_runtime_client.tasks import Tasks
from agent_runtime_client.tools.executor import ToolExecutor

_MOST_PROGRESS: Final = 16 * 1024
_MOST_MESSAGE: Final = 8 * 1024
_TOO_BIG: Final = frozenset({"FRAME_TOO_LARGE", "VALIDATION_FAILED"})

_Status = v1.ToolResult


class Stop(Enum):
    """Why a local run is stopped."""

    CANCELLED = "the turn was cancelled"
    COMPLETED = "the call was completed without this client"
    CLOSED = "stopped, because the client was closed"


class Calls:
    """The client tool calls of one chat, each a task of its own."""

    def __init__(
        self,
        session_id: str,
        ledger: Ledger,
        executor: ToolExecutor,
        records: Records,
        tasks: Tasks,
        submit: Callable[[v1.ChatRequest], Awaitable[object]],
        report: Callable[[v1.ToolProgress], None],
    ) -> None:
        self._session_id = session_id
        self._ledger = ledger
        self._executor = executor
        self._records = records
        self._owner = tasks
        self._submit = submit
        self._report = report
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stoppable: set[str] = set()
        self._stops: dict[str, Stop] = {}

    def __contains__(self, call_id: object) -> bool:
        return call_id in self._tasks

    def begin(self, open_call: OpenCall) -> None:
        """See to one call in the background."""
        call_id = open_call.call.call_id
        self._stoppable.add(call_id)
        task = self._tasks[call_id] = self._owner.start(self._see_to(open_call))
        task.add_done_callback(lambda _: self._over(call_id))

    def stop(self, call_id: str, why: Stop) -> None:
        """Stop a local run; a call whose result is on its way is left alone."""
        if call_id in self._stoppable and call_id not in self._stops:
            self._stops[call_id] = why
            self._tasks[call_id].cancel()

    def stop_all(self, why: Stop) -> None:
        """Stop all local runs."""
        for call_id in list(self._tasks):
            self.stop(call_id, why)

    async def idle(self) -> None:
        """Wait until no call is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def completed(self, call_id: str) -> None:
        """Take note that the log has the result of a call."""
        self.stop(call_id, Stop.COMPLETED)
        if self._records.entry(self._session_id, call_id) is not None:
            await self._forget(call_id)

    def _over(self, call_id: str) -> None:
        del self._tasks[call_id]
        self._stoppable.discard(call_id)
        self._stops.pop(call_id, None)

    async def _see_to(self, open_call: OpenCall) -> None:
        call_id = open_call.call.call_id
        try:
            entry = await self._prepare(open_call)
        except asyncio.CancelledError:
            entry = await self._stopped(call_id)
        self._stoppable.discard(call_id)
        if entry is not None:
            await self._deliver(entry)

    async def _prepare(self, open_call: OpenCall) -> Entry | None:
        """Do what the call's fate asks for, and return the entry whose result must be delivered."""
        call_id = open_call.call.call_id
        entry = await asyncio.to_thread(self._records.entry, self._session_id, call_id)
        fate = self._ledger.fate(open_call, entry, self._is_repeatable)
        if fate is Fate.RESEND:
            return entry
        if fate is Fate.CONFESS:
            return await self._finish(_unknown(call_id))
        if fate is Fate.LEAVE or (deadline := _deadline(open_call)) <= asyncio.get_running_loop().time():
            return None
        return await self._run(open_call, fate, deadline)

    async def _run(self, open_call: OpenCall, fate: Fate, deadline: float) -> Entry | None:
        call = open_call.call
        try:
            entry = await asyncio.to_thread(self._records.start, self._session_id, call.call_id)
        except JournalFailed as error:
            # What cannot be recorded must not be run: after a crash nobody would know of it.
            return finished(None, _result(call.call_id, _Status.STATUS_FAILED, f"not run: {error}"))
        if self._is_repeatable(call.tool_name):
            # Nothing is lost if somebody else runs it too, so the run need not wait for the word.
            if fate is Fate.RUN or open_call.started_by is None:
                self._owner.start(self._announce_beside(call.call_id, entry))
        elif not await self._announce(call.call_id, entry):
            await self._forget(call.call_id)
            return None
        return await self._finish(await self._execute(call, deadline))

    async def _announce(self, call_id: str, entry: Entry) -> bool:
        """Report the start; False when the call must not be run here."""
        started = v1.ToolCallStarted(call_id=call_id)
        try:
            await self._send(v1.ChatRequest(frame_id=entry.start_frame, tool_call_started=started))
        except Rejected:
            return False
        return True

    async def _announce_beside(self, call_id: str, entry: Entry) -> None:
        try:
            if not await self._announce(call_id, entry):
                self.stop(call_id, Stop.COMPLETED)
        except ClientError:
            # The chat is over; whoever reads it is told.
            return

    async def _execute(self, call: v1.ToolCall, deadline: float) -> v1.ToolResult:
        begin = _now()
        try:
            async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
                result = await self._executor.run(call, deadline, self._progress_of(call.call_id))
        except TimeoutError:
            result = _result(call.call_id, _Status.STATUS_TIMED_OUT, "the call's deadline passed")
        except ToolRefused as error:
            result = _result(call.call_id, _Status.STATUS_REJECTED, str(error))
        except ClientError as error:
            result = _result(call.call_id, _Status.STATUS_FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is that call's failure
            result = _result(call.call_id, _Status.STATUS_FAILED, f"{type(error).__name__}: {error}")
        result.call_id = call.call_id
        if not result.HasField("start_time"):
            result.start_time.CopyFrom(begin)
            result.end_time.CopyFrom(_now())
        return result

    def _progress_of(self, call_id: str) -> Callable[[str], None]:
        index = 0

        def report(text: str) -> None:
            nonlocal index
            self._report(v1.ToolProgress(call_id=call_id, text=text[:_MOST_PROGRESS], fraction=-1, index=index))
            index += 1

        return report

    async def _stopped(self, call_id: str) -> Entry | None:
        """Turn the cancellation of a run into its result; or let it pass when nobody asked for one."""
        task, why = asyncio.current_task(), self._stops.pop(call_id, None)
        if why is None or task is None:
            raise asyncio.CancelledError
        task.uncancel()
        if why is Stop.COMPLETED or self._records.entry(self._session_id, call_id) is None:
            return None
        status = _Status.STATUS_CANCELLED if why is Stop.CANCELLED else _Status.STATUS_FAILED
        return await self._finish(_result(call_id, status, why.value))

    async def _deliver(self, entry: Entry) -> None:
        """Send a result until the server has it, or does not want it."""
        result = entry.result
        if result is None:
            return
        try:
            await self._send(v1.ChatRequest(frame_id=entry.result_frame, tool_result=result))
        except Rejected as error:
            if error.reason in _TOO_BIG and result.content:
                text = f"the result could not be sent: {error}"
                await self._deliver(await self._finish(_result(result.call_id, _Status.STATUS_FAILED, text)))
                return
            # Another result stands, or the turn is over: there is nobody left to tell.
            await self._forget(result.call_id)
        except ClientError:
            # The chat is over. The record stays, and the next attachment sends the result.
            return

    async def _send(self, frame: v1.ChatRequest) -> None:
        while True:
            try:
                await self._submit(frame)
            except Rejected as error:
                if not error.error.HasField("retry_delay"):
                    raise
                await asyncio.sleep(seconds_of(error.error.retry_delay))
            else:
                return

    async def _finish(self, result: v1.ToolResult) -> Entry:
        try:
            return await asyncio.to_thread(self._records.finish, self._session_id, result)
        except JournalFailed:
            # The server may still learn of the result; only a crash before that would lose it.
            return finished(None, result)

    async def _forget(self, call_id: str) -> None:
        # A call remembered in vain does no harm: the log says that it is over.
        with suppress(JournalFailed):
            await asyncio.to_thread(self._records.forget, self._session_id, call_id)

    def _is_repeatable(self, tool_name: str) -> bool:
        return any(spec.name == tool_name and spec.idempotent for spec in self._executor.specs)


def _result(call_id: str, status: "v1.ToolResult.Status.ValueType", message: str) -> v1.ToolResult:
    return v1.ToolResult(call_id=call_id, status=status, error_message=message[:_MOST_MESSAGE])


def _unknown(call_id: str) -> v1.ToolResult:
    text = "the client was restarted while this ran; nobody knows whether it had its effect"
    return _result(call_id, _Status.STATUS_OUTCOME_UNKNOWN, text)


def _now() -> Timestamp:
    nanos = time.time_ns()
    return Timestamp(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def _deadline(open_call: OpenCall) -> float:
    """Return the call's deadline on the loop's clock.

    A fresh dispatch is measured by the server's clock alone, so that a wrong clock here does no harm.
    """
    dispatched = open_call.dispatched.tool_call_dispatched
    if not dispatched.HasField("deadline"):
        return math.inf
    allowed = _seconds(dispatched.deadline) - _seconds(open_call.dispatched.create_time)
    left = allowed if open_call.fresh else _seconds(dispatched.deadline) - time.time()
    return asyncio.get_running_loop().time() + left


def _seconds(moment: Timestamp) -> float:
    return moment.seconds + moment.nanos / 1e9
