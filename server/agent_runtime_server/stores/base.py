"""What the engine asks of its stores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from agent_runtime import v1
from agent_runtime_server.core.principal import Role


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
class Loaded:
    """A session and its whole retained log, read in one round trip."""

    row: SessionRow
    events: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be made with its first events."""

    session: v1.Session
    tenant: str
    request_id: str
    events: Sequence[StoredEvent]


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


@dataclass(frozen=True, slots=True)
class Taken:
    """A runnable session whose lease this replica has just taken."""

    session_id: str
    lease_epoch: int
    drained: bool
    """Whether its owner let go of it, or it had none."""
    unfinished: bool = True
    """Whether that happened in the middle of a step."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key as it is kept: not the key itself, but its digest and whose it is."""

    key_id: str
    digest: bytes
    tenant: str
    subject: str
    display_name: str
    roles: frozenset[Role]
    create_time: datetime | None = None
    expire_time: datetime | None = None
    revoke_time: datetime | None = None

    def is_good(self, now: float) -> bool:
        """Tell whether the key opens anything at this time."""
        return self.revoke_time is None and (self.expire_time is None or self.expire_time.timestamp() > now)


@dataclass(frozen=True, slots=True)
class Due:
    """A session with a deadline that has passed by the database's clock, which showed `moment`."""

    session_id: str
    moment: datetime


class EventLog(Protocol):
    """Sessions and their logs."""

    async def append(self, append: Append) -> Appended:
        """Commit, together with what others append now; raises StoreUnavailable when it is not known."""
        ...

    async def create(self, new: NewSession) -> SessionRow | None:
        """Make a session; returns the one there already is by its id or request id, None when made."""
        ...

    async def load(self, tenant: str, session_id: str) -> Loaded | None:
        """Return a session of a tenant and its log, or None."""
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
        """Return events of all sessions behind a place, below which nothing can be committed any more."""
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


class Leases(Protocol):
    """Ownership of running steps."""

    async def take_runnable(self, limit: int) -> Sequence[Taken]:
        """Take runnable sessions whose lease is free, run out, or held by a dead replica."""
        ...

    async def renew(self, epochs: Mapping[str, int]) -> Sequence[str]:
        """Renew the leases of these sessions; returns those that are no longer ours."""
        ...

    async def release(self, epochs: Mapping[str, int], *, unfinished: bool) -> None:
        """Let go of these leases, perhaps in the middle of a step, so that any replica may go on at once."""
        ...

    async def due(self, limit: int) -> Sequence[Due]:
        """Return sessions with a deadline that has passed."""
        ...


class KeyStore(Protocol):
    """API keys, as far as a server asks for them."""

    async def get(self, key_id: str) -> KeyRow | None:
        """Return one key, revoked or not, or None."""
        ...

    async def good(self, key_ids: Sequence[str]) -> frozenset[str]:
        """Return those of these keys that exist and are not revoked."""
        ...


class Bus(Protocol):
    """Messages between replicas; any of them may be lost, so what matters is looked for in the log as well."""

    def publish(self, topic: str, message: bytes) -> None:
        """Tell every other replica that listens to the topic."""
        ...

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Call `heard` with what other replicas say on the topic."""
        ...

    def unlisten(self, topic: str) -> None:
        """Stop listening to the topic."""
        ...
