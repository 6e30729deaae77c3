"""The group-commit writer: while one commit is in flight the next batch gathers, and for longer where many come.

A lone append is written at once; a busy server writes those of hundreds of sessions in one transaction. Nobody is told
anything before its commit. When the answer to a commit is lost, what became of it is looked up before anybody is told.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Final

import asyncpg
import structlog

from agent_runtime_server.core.errors import Bug, StoreUnavailable
from agent_runtime_server.core.observe import Batch, Observer
from agent_runtime_server.stores.base import Append, Appended, GoneError, Outcome
from agent_runtime_server.stores.postgres.database import Connection, Database, Lost, Unreached
from agent_runtime_server.stores.postgres.queue import Bounds, Queue, Waiting

_log = structlog.get_logger(__name__)

_OUTCOMES: Final = {"done": Outcome.DONE, "conflict": Outcome.CONFLICT, "duplicate": Outcome.DUPLICATE}
_DOUBT_SECONDS: Final = 5.0  # a Postgres that restarts is back by then
_LOOK_SECONDS: Final = 0.1
_KEEP_SECONDS: Final = 0.05  # a connection, for the next batch

_FAILURES: Final = (StoreUnavailable, asyncpg.PostgresError, ValueError, OverflowError)
_CONFLICT: Final = Appended(Outcome.CONFLICT, 0, lease_mine=False)

_APPEND = """SELECT * FROM append_events(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
    $26, $27, $28)"""

_FOUND = """SELECT s.session_id, s.head_seq, s.lease_epoch, coalesce(s.lease_owner = $1, false) AS lease_mine,
        (SELECT array_agg(e.payload ORDER BY e.seq) FROM session_events e
         WHERE e.session_id = s.session_id AND e.seq > a.head AND e.seq <= a.new_head) AS events,
        f.digest AS frame_digest
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
        AS a (session_id, head, new_head, scope, frame_id)
    JOIN sessions s ON s.session_id = a.session_id
    LEFT JOIN frames f ON f.scope = a.scope AND f.frame_id = a.frame_id"""


class Writer:
    """Commits appends in batches; `run` must run while it is used."""

    def __init__(
        self, database: Database, replica: int, lease: timedelta, observer: Observer, bounds: Bounds | None = None
    ) -> None:
        self._database = database
        self._replica = replica
        self._lease = lease
        self._observer = observer
        self._queue = Queue(bounds or Bounds())
        self._batch: Sequence[Waiting] = ()  # in hand
        self._began = 0.0  # when it was written
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Number of appends that wait for the next commit."""
        return self._queue.appends

    async def append(self, append: Append) -> Appended:
        """Commit one append with whatever else waits; waits for room first when too much does."""
        waiting = self._queue.put(append)
        self._wake.set()
        return await waiting.answer

    async def run(self) -> None:
        """Write batches until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._write_all()
        finally:  # nobody waits for an answer that does not come
            for waiting in [*self._batch, *self._queue.everybody()]:
                waiting.failed(StoreUnavailable("the writer has stopped"))

    async def _write_all(self) -> None:
        """Write batch after batch until nothing has come for a while: on one connection, without its pool between."""
        while self._take():
            try:
                async with self._database.connection() as connection:
                    while self._batch:
                        await self._write(self._batch, connection)
                        await self._gather()
                        if not self._take() and await self._more_comes(connection):
                            self._take()
            except _FAILURES as error:
                await self._mend(self._batch, error, again=False)

    async def _gather(self) -> None:
        """Let the next batch gather where many come, for a batch costs more than what is in it."""
        bounds = self._queue.bounds
        left = self._began + bounds.apart_seconds - monotonic()
        if len(self._batch) >= bounds.crowd and left > 0:
            await asyncio.sleep(left)

    async def _more_comes(self, connection: Connection) -> bool:
        """Wait a little for what comes next: to give a connection back and fetch it costs more than to keep it."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_KEEP_SECONDS):
                await self._wake.wait()
        return self._wake.is_set() and not connection.is_closed()

    def _take(self) -> bool:
        """Take the next batch in hand, if there is one."""
        self._batch = self._queue.next_batch()
        return bool(self._batch)

    async def _write(self, batch: Sequence[Waiting], connection: Connection) -> None:
        """Commit a batch and tell everybody."""
        self._began = started = monotonic()
        columns = _columns([waiting.append for waiting in batch])
        rows = await connection.fetch(_APPEND, self._replica, self._lease, *columns)
        self._observe(batch, started)
        answers = {row["o_session"]: _appended(row) for row in rows}
        for waiting in batch:
            _answer(waiting, answers.get(waiting.append.session_id))

    async def _commit(self, batch: Sequence[Waiting], *, again: bool) -> None:
        """Write a batch by itself."""
        try:
            async with self._database.connection() as connection:
                await self._write(batch, connection)
        except _FAILURES as error:
            await self._mend(batch, error, again=again)

    async def _mend(self, batch: Sequence[Waiting], error: Exception, *, again: bool) -> None:
        """See to everybody's answer; a batch that fails on its data is halved until the culprit stands alone."""
        match error:
            case Unreached():
                self._give_up(batch, error)
            case Lost():
                await self._look_up(batch, error, again=again)
            case StoreUnavailable():
                for waiting in batch:
                    waiting.failed(error)
            case _:
                await self._isolate(batch, error, again=again)

    async def _isolate(self, batch: Sequence[Waiting], error: Exception, *, again: bool) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._commit(batch[:middle], again=again)
            await self._commit(batch[middle:], again=again)
        elif _is_lost_race(error):
            batch[0].done(_CONFLICT)
        else:
            batch[0].failed(_unstorable(batch[0], error))

    def _give_up(self, batch: Sequence[Waiting], error: StoreUnavailable) -> None:
        """Tell everybody that Postgres is away, rather than let each batch find it out."""
        for waiting in [*batch, *self._queue.everybody()]:
            waiting.failed(error)

    async def _look_up(self, batch: Sequence[Waiting], lost: Lost, *, again: bool) -> None:
        """Find out what became of a batch whose answer was lost, and try once more what was not committed."""
        try:
            found = await self._found([waiting.append for waiting in batch])
        except StoreUnavailable as error:
            return self._give_up(batch, error)
        left: list[Waiting] = []
        for waiting in batch:
            session_id = waiting.append.session_id
            if session_id in found and found[session_id] is None:
                left.append(waiting)
            else:
                _answer(waiting, found.get(session_id))
        if not again and left:
            return await self._commit(left, again=True)
        for waiting in left:
            waiting.failed(lost)
        return None

    async def _found(self, appends: Sequence[Append]) -> Mapping[str, Appended | None]:
        """Return what became of appends whose session is there, None for one that has not been committed."""
        frames = [append.frame for append in appends]
        arguments = (
            [append.session_id for append in appends],
            [append.head for append in appends],
            [append.head + len(append.events) for append in appends],
            [frame and frame.scope for frame in frames],
            [frame and frame.frame_id for frame in frames],
        )
        by_session = {append.session_id: append for append in appends}
        return {
            row["session_id"]: _outcome(by_session[row["session_id"]], row)
            for row in await self._patiently(_FOUND, self._replica, *arguments)
        }

    async def _patiently(self, sql: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Read, and wait a little for a Postgres that comes back."""
        until = monotonic() + _DOUBT_SECONDS
        while True:
            try:
                return await self._database.read(sql, *arguments)
            except StoreUnavailable:
                if monotonic() > until:
                    raise
                await asyncio.sleep(_LOOK_SECONDS)

    def _observe(self, batch: Sequence[Waiting], started: float) -> None:
        self._observer.batch_committed(
            Batch(
                appends=len(batch),
                size=sum(waiting.size for waiting in batch),
                seconds=monotonic() - started,
                waited=started - min(waiting.since for waiting in batch),
                left=self._queue.appends,
                left_size=self._queue.size,
            )
        )


def _outcome(append: Append, row: asyncpg.Record) -> Appended | None:
    """Tell from what is stored whether an append was committed; None when it was not, and still can be."""
    if append.events:
        done = row["events"] == [event.payload for event in append.events]
    else:
        done = append.frame is not None and row["frame_digest"] == append.frame.digest
    if done:
        return Appended(Outcome.DONE, row["lease_epoch"], row["lease_mine"])
    return None if row["head_seq"] == append.head else _CONFLICT


def _appended(row: asyncpg.Record) -> Appended:
    outcome = _OUTCOMES[row["o_outcome"]]
    return Appended(outcome, row["o_epoch"], row["o_mine"], row["o_seq"] or 0, row["o_digest"] or b"")


def _is_lost_race(error: Exception) -> bool:
    """Tell whether deciding again finds out what others did: a deadlock, or a frame id used on two sessions at once."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return error.constraint_name == "frames_pkey"
    return isinstance(error, asyncpg.DeadlockDetectedError)


def _unstorable(waiting: Waiting, error: Exception) -> Bug:
    """Say whose append it is; the error's text holds what was to be stored, so it is not logged."""
    _log.error("an append cannot be stored", session_id=waiting.append.session_id, error=type(error).__name__)
    return Bug()


def _answer(waiting: Waiting, appended: Appended | None) -> None:
    if appended is None:
        waiting.failed(GoneError(waiting.append.session_id))
    else:
        waiting.done(appended)


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
