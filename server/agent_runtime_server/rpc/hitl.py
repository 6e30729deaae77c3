"""HitlService: approvals for anyone allowed to decide them."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from agent_runtime import v1
from agent_runtime_server.core.errors import Bug, CallerError, ServiceError, StoreUnavailable
from agent_runtime_server.engine import frames, intake, reviews
from agent_runtime_server.engine.feed import heartbeat
from agent_runtime_server.engine.session import Committed
from agent_runtime_server.rpc import acks
from agent_runtime_server.rpc.access import DECIDE, may
from agent_runtime_server.rpc.hello import first_frame
from agent_runtime_server.rpc.pages import fingerprint, fitting, make_token, page_size, read_place, read_token
from agent_runtime_server.rpc.principal import Principal, principal
from agent_runtime_server.rpc.replica import Replica, draining
from agent_runtime_server.rpc.service import BadFrame, Call, Incoming, Responses
from agent_runtime_server.rpc.validation import require_frame_id, validate
from agent_runtime_server.stores.base import ApprovalQuery, Frame

_log = structlog.get_logger(__name__)

_DURABLE = frozenset({"claim", "release", "decision"})
_MOST_ANSWERS = 256
_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class _Desk:
    """One reviewer's stream: what its reader and its writer share."""

    who: Principal
    reviewer: reviews.Reviewer
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    answers: deque[v1.HitlResponse] = field(default_factory=deque)
    stale: bool = True  # approvals may have changed
    last_received: float = field(default_factory=time.monotonic)
    half_closed: bool = False
    error: ServiceError | None = None

    def __post_init__(self) -> None:
        self.room.set()

    def answer(self, response: v1.HitlResponse) -> None:
        """Queue an answer."""
        self.answers.append(response)
        self.wake.set()
        if len(self.answers) >= _MOST_ANSWERS:
            self.room.clear()

    def next_answer(self) -> v1.HitlResponse:
        """Take the oldest answer."""
        self.room.set()
        return self.answers.popleft()

    def changed(self) -> None:
        """Note that approvals have changed."""
        self.stale = True
        self.wake.set()

    def leave(self, go_away: v1.GoAway) -> None:
        """Tell the reviewer to come back on another stream."""
        self.answer(v1.HitlResponse(go_away=go_away))

    def end(self, error: ServiceError) -> None:
        """End the stream."""
        self.error = self.error or error
        self.wake.set()


class HitlService:
    """Human approval of tool calls."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._store = replica.services.approvals

    async def get_approval(self, request: v1.GetApprovalRequest, call: Call) -> v1.GetApprovalResponse:
        """Return one approval."""
        return v1.GetApprovalResponse(approval=await self._get(principal(call), request.approval_id))

    async def _get(self, who: Principal, approval_id: str) -> v1.Approval:
        listed = await self._store.get(who.tenant, approval_id)
        if listed is None:
            raise intake.approval_not_found(approval_id)
        return shown(listed.approval, who)

    async def list_approvals(self, request: v1.ListApprovalsRequest, call: Call) -> v1.ListApprovalsResponse:
        """Return a page of approvals, newest first."""
        limit = page_size(request.page_size, 50, 500)
        bound_to = fingerprint(request, "page_token", "page_size")
        states = request.states or [v1.APPROVAL_STATE_PENDING]
        place = read_place(request.page_token, bound_to)
        who = principal(call)
        wanted = query(who.tenant, request.filter, states=states, limit=limit + 1, before=place)
        page = await self._replica.read(call, lambda history: history.approvals.list_approvals(wanted))
        approvals = fitting([shown(listed.approval, who) for listed in page[:limit]])
        response = v1.ListApprovalsResponse(approvals=approvals)
        if len(page) > len(approvals):
            last = page[len(approvals) - 1]
            place_after = (last.create_time.isoformat(), last.approval.approval_id)
            response.next_page_token = make_token(bound_to, place_after)
        return response

    async def decide_approval(self, request: v1.DecideApprovalRequest, call: Call) -> v1.DecideApprovalResponse:
        """Decide without a stream."""
        who = principal(call)
        reviewer = reviews.Reviewer(who.tenant, who.actor(v1.ACTOR_KIND_REVIEWER))
        await self._replica.may_decide(who, request.decision)
        await self._decide(reviewer, request.request_id, request.decision)
        await self._replica.wrote(call)
        return v1.DecideApprovalResponse(approval=await self._get(who, request.decision.approval_id))

    async def _decide(self, reviewer: reviews.Reviewer, frame_id: str, decision: v1.ApprovalDecision) -> Committed:
        frame = Frame(reviewer.scope, frame_id, intake.digest(decision))
        listed = await self._store.get(reviewer.tenant, decision.approval_id)
        if listed is None:
            raise intake.approval_not_found(decision.approval_id)
        session = await self._replica.hub.session(listed.approval.session_id, reviewer.tenant)
        sender = frames.Sender(reviewer.actor, "", frame_id)
        return await intake.decide(session, self._store, sender, decision, frame)

    async def hitl(self, requests: AsyncIterator[Incoming], call: Call) -> Responses:
        """Show approvals and take decisions: hello, welcome, every pending one, caught_up, live."""
        hello = (await first_frame(requests, v1.HitlRequest, self._replica.hello_seconds)).hello
        self._replica.refuse_draining()
        version = self._replica.protocol_version(hello.protocol_version)
        who = principal(call)
        bound_to = fingerprint(hello.filter)
        resume_xid = int(read_token(hello.resume_token, bound_to, (int,))[0]) if hello.resume_token else None
        desk = _Desk(who, reviews.Reviewer(who.tenant, who.actor(v1.ACTOR_KIND_REVIEWER)))
        call.stream.on_end(desk.leave, desk.end, ages=True)
        reader = self._replica.tasks.create_task(self._read(requests, desk), name=f"read {call.correlation_id}")
        try:
            welcome = v1.HitlWelcome(
                reviewer=desk.reviewer.actor,
                limits=self._replica.limits(),
                protocol_version=version,
                replica_id=self._replica.replica_id,
                resumed=resume_xid is not None,
            )
            open_stream = self._replica.stream(lambda: desk.half_closed)
            with open_stream, self._replica.reviews.watching(desk.changed):
                yield v1.HitlResponse(welcome=welcome)
                async for response in self._show(desk, hello.filter, bound_to, resume_xid):
                    yield response
        finally:
            reader.cancel()

    async def _show(
        self, desk: _Desk, selected: v1.ApprovalFilter, bound_to: str, resume_xid: int | None
    ) -> AsyncIterator[v1.HitlResponse]:
        """Yield the list or what has changed since the token, then every change and answer."""
        everything = query(desk.reviewer.tenant, selected, states=[v1.APPROVAL_STATE_PENDING])
        position = await self._replica.reviews.start(resume_xid)
        async for approval in self._backlog(everything, position, whole=resume_xid is None):
            yield v1.HitlResponse(approval=shown(approval, desk.who))
        yield v1.HitlResponse(resume_token=make_token(bound_to, (position.xid,)), caught_up=v1.CaughtUp())
        last_sent, warned = time.monotonic(), False
        while True:
            desk.wake.clear()
            changed = await self._changes(desk, everything, position)
            for left, approval in zip(range(len(changed) - 1, -1, -1), changed, strict=True):
                last_sent = time.monotonic()
                # The place is behind all of them: who comes back after the first must be told of the others.
                token = "" if left else make_token(bound_to, (position.xid,))
                yield v1.HitlResponse(resume_token=token, approval=shown(approval, desk.who))
            if self._replica.draining and not warned:
                warned = True
                desk.leave(self._replica.farewell())
            while desk.answers:
                last_sent = time.monotonic()
                yield desk.next_answer()
            if desk.error is not None:
                raise desk.error
            if desk.half_closed and not desk.wake.is_set():
                return
            if await self._pause(desk, last_sent):
                last_sent = time.monotonic()
                yield v1.HitlResponse(heartbeat=heartbeat(0))

    async def _backlog(
        self, everything: ApprovalQuery, position: reviews.Position, *, whole: bool
    ) -> AsyncIterator[v1.Approval]:
        if whole:
            async for approval in self._replica.reviews.pending(everything, position):
                yield approval
        for approval in await self._replica.reviews.changes(everything, position):
            yield approval

    async def _changes(
        self, desk: _Desk, everything: ApprovalQuery, position: reviews.Position
    ) -> Sequence[v1.Approval]:
        """Return what has changed; nothing while Postgres is away, which is looked at again later."""
        if not desk.stale:
            return ()
        desk.stale = False
        try:
            return await self._replica.reviews.changes(everything, position)
        except StoreUnavailable:
            desk.stale = True
            return ()

    async def _pause(self, desk: _Desk, last_sent: float) -> bool:
        """Wait until there is something to do; True when it is time for a heartbeat."""
        left = last_sent + self._replica.heartbeat_seconds - time.monotonic()
        retry = desk.stale and left > 2 * _RETRY_SECONDS
        try:
            # Not all at the same moment: reviewers wait for the same database.
            pause = _RETRY_SECONDS * random.uniform(0.5, 1.5) if retry else max(0, left)  # noqa: S311
            async with asyncio.timeout(pause):
                await desk.wake.wait()
        except TimeoutError:
            if retry:
                return False
            if time.monotonic() - desk.last_received > self._replica.client_idle_seconds:
                message = "no frame came for too long; attach again"
                raise CallerError(v1.ERROR_REASON_CLIENT_IDLE_TIMEOUT, message) from None
            return True
        if self._replica.ending.is_set():
            raise draining()
        return False

    async def _read(self, requests: AsyncIterator[Incoming], desk: _Desk) -> None:
        """Take frames one at a time, until the reviewer has no more or breaks the rules of the stream."""
        try:
            async for request in requests:
                desk.last_received = time.monotonic()
                await self._take(request, desk)
                await desk.room.wait()
            desk.half_closed = True
            desk.wake.set()
        except ServiceError as error:
            desk.end(error)
        except Exception:  # noqa: BLE001 - forwarded to the writer, which ends the stream
            _log.exception("a reviewer's reader failed")
            desk.end(Bug())

    async def _take(self, request: Incoming, desk: _Desk) -> None:
        """Act on one frame; what is wrong with a frame is answered, what is wrong with the stream is raised."""
        if isinstance(request, BadFrame):
            if not request.frame_id:
                raise request.error
            desk.answer(v1.HitlResponse(frame_ack=acks.rejected(request.frame_id, request.error)))
            return
        assert isinstance(request, v1.HitlRequest), "Hitl takes review requests"
        kind = request.WhichOneof("frame")
        if kind == "hello":
            raise acks.hello_required("a stream takes one hello; open another stream to attach again")
        if kind in _DURABLE and not request.frame_id:
            require_frame_id(request.frame_id)
        try:
            if kind is None:
                raise acks.unsupported()
            validate(request)
            if kind == "ping":
                desk.answer(v1.HitlResponse(heartbeat=heartbeat(0, request.ping.nonce)))
            else:
                committed = await self._commit(request, desk)
                ack = acks.accepted(request.frame_id, committed, await self._replica.behind_write(desk.who))
                desk.answer(v1.HitlResponse(frame_ack=ack))
        except ServiceError as error:
            desk.answer(v1.HitlResponse(frame_ack=acks.rejected(request.frame_id, error)))

    async def _commit(self, request: v1.HitlRequest, desk: _Desk) -> Committed:
        reviewer = desk.reviewer
        if request.HasField("decision"):
            await self._replica.may_decide(desk.who, request.decision)
            return await self._decide(reviewer, request.frame_id, request.decision)
        keep = request.HasField("claim")
        approval_id = request.claim.approval_id if keep else request.release.approval_id
        frame = Frame(reviewer.scope, request.frame_id, intake.digest(request))
        committed = await reviews.claim(self._replica.services, reviewer, approval_id, frame, keep=keep)
        self._replica.reviews.changed()
        return committed


def shown(approval: v1.Approval, who: Principal) -> v1.Approval:
    """Return an approval as the caller sees it."""
    approval.decidable_by_caller = approval.state == v1.APPROVAL_STATE_PENDING and may(who, DECIDE)
    return approval


def query(
    tenant: str,
    selected: v1.ApprovalFilter,
    *,
    states: "Sequence[v1.ApprovalState.ValueType]",
    limit: int = 0,
    before: tuple[datetime, str] | None = None,
) -> ApprovalQuery:
    """Return the query of a filter."""
    return ApprovalQuery(
        tenant=tenant,
        limit=limit,
        before=before,
        states=states,
        session_ids=selected.session_ids,
        agent_ids=selected.agent_ids,
        min_risk=selected.min_risk,
    )
