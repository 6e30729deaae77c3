"""What the engine asks of its stores."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol, TypeVar

from agent_runtime import v1

T = TypeVar("T")


class LeaseAction(IntEnum):
    """What an append does to the session's lease."""

    KEEP = 0
    ACQUIRE = 1
    RELEASE = 2


class Outcome(IntEnum):
    """What became of an append."""

    DONE = 0
    CONFLICT = 1  # the head or the lease epoch has moved, or an approval has: refold and decide again
    DUPLICATE = 2  # the frame is known; nothing was written


class GoneError(Exception):
    """The session of an append does not exist."""


class CompactedError(Exception):
    """Events behind a place in the feed over all sessions are gone; `oldest` is the first place with none missing."""

    def __init__(self, oldest: "FeedPlace") -> None:
        super().__init__("events behind this place have been compacted")
        self.oldest = oldest


@dataclass(frozen=True, slots=True)
class Frame:
    """The idempotency key of a durable client frame."""

    scope: str
    frame_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it is stored and sent: `payload` is the serialised SessionEvent."""

    seq: int
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class ApprovalRow:
    """The latest state of an approval; `before` is the revision it replaces, 0 for a new one."""

    before: int
    agent_id: str
    approval: v1.Approval


@dataclass(frozen=True, slots=True)
class Append:
    """Events of one session, to be committed if its head is `head` (and its lease epoch `epoch`)."""

    session_id: str
    head: int
    epoch: int | None
    events: Sequence[StoredEvent]
    summary: v1.Session
    runnable: bool
    next_deadline: datetime | None
    lease: LeaseAction
    frame: Frame | None = None
    frame_seq: int = 0
    approvals: Sequence[ApprovalRow] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to an append; `frame_seq` and `frame_digest` tell of the known frame of a duplicate."""

    outcome: Outcome
    lease_epoch: int
    lease_mine: bool
    frame_seq: int = 0
    frame_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as stored: what the fold made, and what lies beside it."""

    session: v1.Session
    tenant: str
    lease_epoch: int
    lease_mine: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The folded state of a session behind the event `seq`."""

    seq: int
    fold_version: int
    bytes: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """A session, a snapshot of it if there is one, and the first page of the events behind that."""

    row: SessionRow
    events: Sequence[bytes]
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be made with its first events; with `base`, those behind it."""

    session: v1.Session
    tenant: str
    request_id: str
    events: Sequence[StoredEvent]
    base: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """A page of a tenant's sessions, newest first; `before` is the (create time, id) of the last one seen."""

    tenant: str
    limit: int
    before: tuple[datetime, str] | None = None
    states: Sequence[int] = ()
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ApprovalQuery:
    """A page of a tenant's approvals, newest first; empty selections mean all."""

    tenant: str
    limit: int
    before: tuple[datetime, str] | None = None
    states: Sequence[int] = ()
    session_ids: Sequence[str] = ()
    agent_ids: Sequence[str] = ()
    min_risk: int = 0
    since_xid: int | None = None  # only those changed by this or a later transaction


@dataclass(frozen=True, slots=True)
class ListedApproval:
    """An approval and the position of its last change."""

    approval: v1.Approval
    agent_id: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class FeedPlace:
    """A place in the feed over all sessions: behind this event."""

    xid: int
    session_id: str = ""
    seq: int = 0


class EventLog(Protocol):
    """Sessions and their logs."""

    async def append(self, append: Append) -> Appended:
        """Commit, together with what others append now; raises StoreUnavailable when it is not known."""
        ...

    async def create(self, new: NewSession) -> tuple[SessionRow, bool]:
        """Make a session; returns it, or the one there already is by its id or request id, and whether it was made."""
        ...

    async def load(self, tenant: str, session_id: str, fold_version: int) -> Loaded | None:
        """Return a session of a tenant to be folded, or None.

        A snapshot of another version is returned only where the log it stands for is gone.
        """
        ...

    async def base(self, tenant: str, session_id: str, fold_version: int) -> Snapshot | None:
        """Return the snapshot right before the oldest event of a tenant's session; None when it has all events."""
        ...

    async def row(self, tenant: str | None, session_id: str) -> SessionRow | None:
        """Return a session of a tenant (None: of any, for sweepers) without its log, or None."""
        ...

    async def list_sessions(self, query: SessionQuery) -> Sequence[SessionRow]:
        """Return a page of sessions."""
        ...

    async def update(
        self, tenant: str, session_id: str, etag: str, title: str | None, labels: Mapping[str, str] | None,
        expire_time: datetime | None, *, set_expire: bool,
    ) -> SessionRow | None:  # fmt: skip
        """Change what lies beside the log; None when the tenant has no such session or the etag does not match."""
        ...

    async def events(self, tenant: str, session_id: str, after_seq: int, limit: int) -> Sequence[StoredEvent]:
        """Return events of a tenant's session with a higher seq in order, at most `limit` and about 2 MiB."""
        ...

    async def feed(
        self, tenant: str, place: FeedPlace, limit: int
    ) -> tuple[Sequence[tuple[StoredEvent, FeedPlace]], FeedPlace]:
        """Return events of all sessions behind a place, below which nothing can be committed any more.

        Raises CompactedError when some of them have been removed.
        """
        ...

    async def feed_end(self) -> FeedPlace:
        """Return the place behind everything committed."""
        ...

    async def heads(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the head seqs of these sessions."""
        ...

    async def frame(self, scope: str, frame_id: str) -> tuple[int, bytes] | None:
        """Return the seq and digest of a known frame."""
        ...


class ApprovalStore(Protocol):
    """Approvals across sessions, and the claims on them."""

    async def get(self, tenant: str, approval_id: str) -> ListedApproval | None:
        """Return one approval of a tenant, or None."""
        ...

    async def revisions(self, tenant: str, approval_ids: Sequence[str]) -> Mapping[str, v1.Approval]:
        """Return the latest rows of these approvals of a tenant."""
        ...

    async def list_approvals(self, query: ApprovalQuery) -> Sequence[ListedApproval]:
        """Return a page of approvals."""
        ...

    async def replace_claim(self, tenant: str, before: int, approval: v1.Approval, frame: Frame) -> bool:
        """Store a changed claim; False when the revision is not `before` any more or the frame is known."""
        ...

    async def changed_since(self, xid: int) -> bool:
        """Tell whether this or a later transaction has changed an approval."""
        ...

    async def horizon(self) -> int:
        """Return a transaction number below which everything is committed or gone."""
        ...


@dataclass(frozen=True, slots=True)
class History:
    """One server's tables, of which only what reads may be asked."""

    log: EventLog
    approvals: ApprovalStore


class Histories(Protocol):
    """Where lists and pages are read: on any server that is as fresh as its caller must have it."""

    async def wrote(self, caller: str) -> int:
        """Note that a caller has just changed something; returns a position behind it, 0 when nobody needs one."""
        ...

    async def read(self, caller: str, position: int, ask: Callable[[History], Awaitable[T]]) -> T:
        """Ask a server that has come as far as `position`, and as what the caller has written when that is 0."""
        ...


class Bus(Protocol):
    """Messages between replicas; any of them may be lost, so what matters is looked for in the log as well."""

    @property
    def connected(self) -> bool:
        """Whether messages arrive, as far as is known."""
        ...

    def publish(self, topic: str, message: bytes) -> None:
        """Tell every other replica that listens to the topic."""
        ...

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Call `heard` with what other replicas say on the topic."""
        ...

    def unlisten(self, topic: str) -> None:
        """Stop listening to the topic."""
        ...
