"""The group-commit writer: while one commit is in flight the next batch gathers.

A lone append is written at once; a busy server writes those of hundreds of sessions in one transaction. Nobody is told
anything before its commit.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import asyncpg
import structlog

from agent_runtime_server.core.errors import Bug, StoreUnavailable
from agent_runtime_server.core.observe import Observer
from agent_runtime_server.stores.base import Append, Appended, Outcome
from agent_runtime_server.stores.postgres.database import Database

_log = structlog.get_logger(__name__)

_MOST_APPENDS = 256
_MOST_BYTES = 8 << 20
_OUTCOMES = {"done": Outcome.DONE, "conflict": Outcome.CONFLICT, "duplicate": Outcome.DUPLICATE}

_CONFLICT = Appended(Outcome.CONFLICT, 0, lease_mine=False)

_APPEND = """SELECT * FROM append_events(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
    $26, $27, $28)"""


class GoneError(Exception):
    """The session of an append does not exist."""


@dataclass(slots=True)
class _Waiting:
    append: Append
    size: int
    answer: asyncio.Future[Appended]


class Writer:
    """Commits appends in batches; `run` must run while it is used."""

    def __init__(self, database: Database, replica: int, lease: timedelta, observer: Observer) -> None:
        self._database = database
        self._replica = replica
        self._lease = lease
        self._observer = observer
        self._queue: deque[_Waiting] = deque()
        self._wake = asyncio.Event()

    async def append(self, append: Append) -> Appended:
        """Commit one append with whatever else waits."""
        size = sum(len(event.payload) for event in append.events)
        waiting = _Waiting(append, size, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._wake.set()
        return await waiting.answer

    async def run(self) -> None:
        """Write batches until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while batch := self._next_batch():
                    await self._commit(batch)
        finally:
            for waiting in self._queue:
                _fail(waiting, StoreUnavailable("the writer has stopped"))

    def _next_batch(self) -> list[_Waiting]:
        """Take appends of distinct sessions, in order, up to the limits of one transaction."""
        batch: list[_Waiting] = []
        sessions: set[str] = set()
        later: deque[_Waiting] = deque()
        size = 0
        while self._queue and len(batch) < _MOST_APPENDS and size < _MOST_BYTES:
            waiting = self._queue.popleft()
            if waiting.append.session_id in sessions:
                later.append(waiting)
                continue
            sessions.add(waiting.append.session_id)
            size += waiting.size
            batch.append(waiting)
        self._queue.extendleft(reversed(later))
        return batch

    async def _commit(self, batch: list[_Waiting]) -> None:
        """Write a batch; one that fails on its data is halved until the culprit stands alone."""
        try:
            started = monotonic()
            answers = await self._write([waiting.append for waiting in batch])
            self._observer.batch_committed(len(batch), monotonic() - started, len(self._queue))
        except StoreUnavailable as error:
            for waiting in batch:
                _fail(waiting, error)
        except (asyncpg.PostgresError, ValueError, OverflowError) as error:
            if len(batch) == 1 and _is_lost_race(error):
                return _answer(batch[0], _CONFLICT)
            if len(batch) == 1:
                return _fail(batch[0], _unstorable(batch[0], error))
            middle = len(batch) // 2
            await self._commit(batch[:middle])
            await self._commit(batch[middle:])
        except asyncio.CancelledError:
            for waiting in batch:
                _fail(waiting, StoreUnavailable("the writer has stopped"))
            raise
        else:
            for waiting in batch:
                _answer(waiting, answers.get(waiting.append.session_id))
        return None

    async def _write(self, appends: Sequence[Append]) -> dict[str, Appended]:
        rows = await self._database.fetch(_APPEND, self._replica, self._lease, *_columns(appends))
        return {
            row["o_session"]: Appended(
                _OUTCOMES[row["o_outcome"]],
                row["o_epoch"],
                row["o_mine"],
                row["o_seq"] or 0,
                row["o_digest"] or b"",
            )
            for row in rows
        }


def _is_lost_race(error: Exception) -> bool:
    """Tell whether deciding again finds out what others did: a deadlock, or a frame id used on two sessions at once."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return error.constraint_name == "frames_pkey"
    return isinstance(error, asyncpg.DeadlockDetectedError)


def _unstorable(waiting: _Waiting, error: Exception) -> Bug:
    """Say whose append it is; the error's text holds what was to be stored, so it is not logged."""
    _log.error("an append cannot be stored", session_id=waiting.append.session_id, error=type(error).__name__)
    return Bug()


def _answer(waiting: _Waiting, appended: Appended | None) -> None:
    if appended is None:
        _fail(waiting, GoneError(waiting.append.session_id))
    elif not waiting.answer.done():
        waiting.answer.set_result(appended)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _columns(appends: Sequence[Append]) -> list[list[object]]:
    """Return the arrays that `append_events` takes, sessions first."""
    events = [(append.session_id, event) for append in appends for event in append.events]
    frames = [(append, append.frame) for append in appends if append.frame is not None]
    approvals = [(append.session_id, row) for append in appends for row in append.approvals]
    return [
        [append.session_id for append in appends],
        [append.head for append in appends],
        [append.epoch for append in appends],
        [append.head + len(append.events) for append in appends],
        [append.summary.state for append in appends],
        [append.summary.SerializeToString() for append in appends],
        [append.runnable for append in appends],
        [append.next_deadline for append in appends],
        [int(append.lease) for append in appends],
        [session_id for session_id, _ in events],
        [event.seq for _, event in events],
        [event.kind for _, event in events],
        [event.payload for _, event in events],
        [append.session_id for append, _ in frames],
        [frame.scope for _, frame in frames],
        [frame.frame_id for _, frame in frames],
        [frame.digest for _, frame in frames],
        [append.frame_seq for append, _ in frames],
        [session_id for session_id, _ in approvals],
        [row.approval.approval_id for _, row in approvals],
        [row.before for _, row in approvals],
        [row.agent_id for _, row in approvals],
        [row.approval.tool_call.risk for _, row in approvals],
        [row.approval.state for _, row in approvals],
        [row.approval.revision for _, row in approvals],
        [row.approval.SerializeToString() for _, row in approvals],
    ]
