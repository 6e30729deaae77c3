"""What reviewers see and do: the feed of approvals, claims, and decisions from outside the chat."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from agent_runtime import v1
from agent_runtime_server.core.clock import after, to_nanos
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.engine.frames import resolved
from agent_runtime_server.engine.intake import approval_not_found
from agent_runtime_server.engine.services import Services
from agent_runtime_server.engine.session import Committed, duplicate
from agent_runtime_server.stores.base import ApprovalQuery, ApprovalStore, Frame, ListedApproval, StoredEvent

_CLAIM_SECONDS = 120
_PAGE = 200
_APPROVAL_KINDS = (
    v1.SessionEvent.APPROVAL_REQUESTED_FIELD_NUMBER,
    v1.SessionEvent.APPROVAL_RESOLVED_FIELD_NUMBER,
)


@dataclass(slots=True)
class Position:
    """Where a reviewer's feed stands: every change before transaction `xid` has been sent."""

    xid: int
    revisions: dict[str, int] = field(default_factory=dict)  # of what is pending
    resolved: dict[str, int] = field(default_factory=dict)  # of what changed since `xid` and is over


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who reviews."""

    tenant: str
    actor: v1.Actor

    @property
    def scope(self) -> str:
        """The scope of the reviewer's frame ids."""
        # No session id and no tenant holds a slash, so no scope is ever that of another.
        return f"reviewer/{self.tenant}/{self.actor.subject}"


class Reviews:
    """Wakes reviewers when approvals change; `run` must run while it is used."""

    def __init__(self, store: ApprovalStore, poll_seconds: float = 1) -> None:
        self._store = store
        self._poll_seconds = poll_seconds
        self._watching: set[Callable[[], None]] = set()

    def committed(self, events: Sequence[StoredEvent]) -> None:
        """Note a commit of this replica."""
        if any(event.kind in _APPROVAL_KINDS for event in events):
            self.changed()

    def changed(self) -> None:
        """Wake every reviewer of this replica."""
        for changed in self._watching:
            changed()

    async def run(self) -> None:
        """Look for changes by other replicas, in one query for all reviewers here."""
        seen: int | None = None
        while True:
            await asyncio.sleep(self._poll_seconds)
            if not self._watching:
                seen = None
                continue
            try:
                seen = await self._look(seen)
            except StoreUnavailable:
                continue

    async def _look(self, seen: int | None) -> int:
        horizon = await self._store.horizon()
        if seen is None or await self._store.changed_since(seen):
            self.changed()
        return horizon

    async def start(self, resume_xid: int | None) -> Position:
        """Return where a feed begins: at its token, or before the list that is read next."""
        return Position(await self._store.horizon() if resume_xid is None else resume_xid)

    async def pending(self, query: ApprovalQuery, position: Position) -> AsyncIterator[v1.Approval]:
        """Yield every approval the query selects, oldest page last."""
        async for listed in _pages(self._store, query):
            if _is_news(position, listed.approval):
                yield listed.approval

    async def changes(self, query: ApprovalQuery, position: Position) -> list[v1.Approval]:
        """Return what has changed since the position, and move it."""
        horizon = await self._store.horizon()
        since = replace(query, states=(), since_xid=position.xid)
        changed = [one.approval async for one in _pages(self._store, since)]
        news = [approval for approval in changed if _is_news(position, approval)]
        position.resolved = {one.approval_id: one.revision for one in changed if one.approval_id in position.resolved}
        position.xid = horizon
        return sorted(news, key=lambda approval: to_nanos(approval.create_time))

    @contextmanager
    def watching(self, changed: Callable[[], None]) -> Iterator[None]:
        """Call `changed` whenever approvals change while the block runs."""
        self._watching.add(changed)
        try:
            yield
        finally:
            self._watching.discard(changed)


async def _pages(store: ApprovalStore, query: ApprovalQuery) -> AsyncIterator[ListedApproval]:
    page_query = replace(query, limit=_PAGE, before=None)
    while True:
        page = await store.list_approvals(page_query)
        for listed in page:
            yield listed
        if len(page) < _PAGE:
            return
        page_query = replace(page_query, before=(page[-1].create_time, page[-1].approval.approval_id))


def _is_news(position: Position, approval: v1.Approval) -> bool:
    approval_id, revision = approval.approval_id, approval.revision
    if max(position.revisions.get(approval_id, 0), position.resolved.get(approval_id, 0)) >= revision:
        return False
    if approval.state == v1.APPROVAL_STATE_PENDING:
        position.revisions[approval_id] = revision
    else:
        position.revisions.pop(approval_id, None)  # no more revisions come of it
        position.resolved[approval_id] = revision
    return True


async def claim(services: Services, reviewer: Reviewer, approval_id: str, frame: Frame, *, keep: bool) -> Committed:
    """Take (`keep`) or give back a claim; advisory, it keeps nobody from deciding."""
    while True:
        known = await services.log.frame(frame.scope, frame.frame_id)
        if known is not None:
            return duplicate(frame, *known)
        listed = await services.approvals.get(reviewer.tenant, approval_id)
        if listed is None:
            raise approval_not_found(approval_id)
        approval = listed.approval
        if approval.state != v1.APPROVAL_STATE_PENDING:
            raise resolved(approval, approval.state)
        now = services.clock()
        _refuse_claimed(approval, reviewer.actor, to_nanos(now))
        before = approval.revision
        approval.revision += 1
        approval.ClearField("claimant")
        approval.ClearField("claim_expire_time")
        if keep:
            approval.claimant.CopyFrom(reviewer.actor)
            approval.claim_expire_time.CopyFrom(after(now, _CLAIM_SECONDS))
        if await services.approvals.replace_claim(reviewer.tenant, before, approval, frame):
            return Committed(0)


def _refuse_claimed(approval: v1.Approval, reviewer: v1.Actor, now_nanos: int) -> None:
    claimant = approval.claimant.subject
    if not claimant or claimant == reviewer.subject or to_nanos(approval.claim_expire_time) <= now_nanos:
        return
    until = approval.claim_expire_time.ToJsonString()
    raise CallerError(
        v1.ERROR_REASON_APPROVAL_CLAIMED,
        f"{claimant} looks at it until {until}",
        metadata={"claimant": claimant, "expireTime": until},
    )
