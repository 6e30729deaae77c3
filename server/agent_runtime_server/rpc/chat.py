"""ChatService: one reader and one writer a stream; the stream owns nothing, the log is the truth."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

import structlog

from agent_runtime import v1
from agent_runtime_server.core.errors import Bug, CallerError, ServiceError, invalid
from agent_runtime_server.core.ids import new_id
from agent_runtime_server.engine import frames, intake
from agent_runtime_server.engine.feed import Feed, Wanted
from agent_runtime_server.engine.position import check_position, not_found
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.state import State
from agent_runtime_server.rpc import acks, wire
from agent_runtime_server.rpc.hello import first_frame
from agent_runtime_server.rpc.principal import Principal, principal
from agent_runtime_server.rpc.replica import Replica
from agent_runtime_server.rpc.service import BadFrame, Call, Incoming, Responses
from agent_runtime_server.rpc.validation import require_frame_id, validate

_log = structlog.get_logger(__name__)

_MOST_PROGRESS_A_SECOND = 20


@dataclass(slots=True)
class _Attachment:
    """A client on a session: what the reader and the writer of its stream share."""

    session: Session
    feed: Feed
    sender: frames.Sender
    who: Principal
    progress: list[float] = field(default_factory=list)


class ChatService:
    """Conversations between clients and sessions."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def submit_frame(self, request: v1.SubmitFrameRequest, call: Call) -> v1.SubmitFrameResponse:
        """Commit one durable frame without a stream."""
        frame = request.frame
        kind = frame.WhichOneof("frame")
        if kind is None:
            raise acks.unsupported()
        if kind not in intake.DURABLE:
            raise invalid("frame", "frame.durable", f"{kind} needs a stream; send it on Chat")
        require_frame_id(frame.frame_id)
        who = principal(call)
        if kind == "approval_decision":
            await self._replica.may_decide(who, frame.approval_decision)
        session = await self._replica.hub.session(request.session_id, who.tenant)
        sender = frames.Sender(who.actor(v1.ACTOR_KIND_USER), request.client_id, frame.frame_id)
        async with self._replica.beginning(who, request.session_id, frame):
            committed = await intake.submit(session, self._replica.services.approvals, sender, frame)
        lsn = await self._replica.behind_write(who)
        return v1.SubmitFrameResponse(frame_ack=acks.accepted(frame.frame_id, committed, lsn))

    async def chat(self, requests: AsyncIterator[Incoming], call: Call) -> Responses:
        """Hold a conversation: hello, welcome, replay, caught_up, live."""
        hello = (await first_frame(requests, v1.ChatRequest, self._replica.hello_seconds)).hello
        self._replica.refuse_draining()
        who = principal(call)
        welcome, attachment = await self._attach(hello, who)
        session = attachment.session
        attachment.feed.slip_in = lambda control: call.slip_in(wire.chat_frame(control))
        call.in_passing = partial(_in_passing, attachment.feed)
        call.stream.on_end(attachment.feed.answer, attachment.feed.end)
        reader = self._replica.tasks.create_task(self._read(requests, attachment), name=f"read {call.correlation_id}")
        try:
            with self._replica.stream(lambda: attachment.feed.half_closed):
                yield v1.ChatResponse(welcome=welcome)
                del hello, welcome  # the stream may be open for an hour
                async for burst in attachment.feed.bursts():
                    yield [wire.chat_frame(item) for item in burst]
        finally:
            session.audience.leave(attachment.feed)
            reader.cancel()

    async def _attach(self, hello: v1.ChatHello, who: Principal) -> tuple[v1.ChatWelcome, _Attachment]:
        """Put the client on the session; as executor it takes the place of the one before."""
        version = self._replica.protocol_version(hello.protocol_version)
        executes = hello.role != v1.ATTACH_ROLE_OBSERVER
        sender = frames.Sender(who.actor(v1.ACTOR_KIND_USER), hello.client_id, "", observer=not executes)
        if executes:
            frames.check_tools(hello.tools, "hello.tools")

        def may_be_stale(state: State) -> bool:
            """Tell whether nothing that follows would find out, as a commit does."""
            commits = executes and frames.would_attach(state, sender, hello.tools)
            return not commits or hello.after_seq > state.head_seq

        session = await self._replica.hub.session(hello.session_id, who.tenant, latest=may_be_stale)
        state = await session.load()
        check_position(session.oldest_seq, state.head_seq, hello.after_seq)
        if executes:
            await session.commit(lambda draft: frames.attach(draft, sender, hello.tools))
        state = await session.load()
        feed = session.audience.follow(Wanted(hello.after_seq, not hello.durable_only, hello.max_unacked_events))
        session.audience.seat(feed, hello.client_id, executes=executes)
        feed.reads = True
        if self._replica.draining:  # since its hello was let in
            feed.answer(self._replica.farewell())
        try:
            row = await self._replica.services.log.row(session.tenant, session.session_id)
        except BaseException:
            session.audience.leave(feed)
            raise
        if row is None:  # removed meanwhile
            session.audience.leave(feed)
            raise not_found(session.session_id)
        welcome = v1.ChatWelcome(
            session=row.session,
            attachment_id=new_id("attachment"),
            role=v1.ATTACH_ROLE_EXECUTOR if executes else v1.ATTACH_ROLE_OBSERVER,
            executor_epoch=state.executor_epoch if executes else 0,
            head_seq=state.head_seq,
            oldest_seq=row.session.oldest_seq,
            limits=self._replica.limits(),
            protocol_version=version,
            replica_id=self._replica.replica_id,
            notices=self._replica.notices,
        )
        return welcome, _Attachment(session, feed, sender, who)

    async def _read(self, requests: AsyncIterator[Incoming], attachment: _Attachment) -> None:
        """Take frames one at a time, until the client has no more or breaks the rules of the stream."""
        feed = attachment.feed
        try:
            async for request in requests:
                feed.last_received = time.monotonic()
                feed.taking = True
                await self._take(request, attachment)
                feed.taking = False
                if feed.crowded:
                    await feed.room()
            feed.half_close()
        except ServiceError as error:
            feed.end(error)
        except Exception:  # noqa: BLE001 - forwarded to the writer, which ends the stream
            _log.exception("a stream's reader failed", session_id=attachment.session.session_id)
            feed.end(Bug())

    async def _take(self, request: Incoming, attachment: _Attachment) -> None:
        """Act on one frame; what is wrong with a frame is answered, what is wrong with the stream is raised."""
        if isinstance(request, BadFrame):
            if not request.frame_id:
                raise request.error
            attachment.feed.answer(acks.rejected(request.frame_id, request.error))
            return
        assert isinstance(request, v1.ChatRequest), "Chat takes chat requests"
        if _pinged(attachment.feed, request):
            return
        kind = request.WhichOneof("frame")
        if kind == "hello":
            raise acks.hello_required("a stream takes one hello; open another stream to attach again")
        if kind in intake.DURABLE and not request.frame_id:
            require_frame_id(request.frame_id)
        try:
            if kind is None:
                raise acks.unsupported()
            validate(request)
            if kind in intake.DURABLE:
                ack = await self._commit(request, attachment)
                attachment.feed.answer(ack)
            else:
                self._ephemeral(request, attachment)
        except ServiceError as error:
            attachment.feed.answer(acks.rejected(request.frame_id, error))

    async def _commit(self, request: v1.ChatRequest, attachment: _Attachment) -> v1.FrameAck:
        if request.HasField("approval_decision"):
            await self._replica.may_decide(attachment.who, request.approval_decision)
        before = attachment.sender
        sender = frames.Sender(before.actor, before.client_id, request.frame_id, observer=before.observer)
        async with self._replica.beginning(attachment.who, attachment.session.session_id, request):
            committed = await intake.submit(attachment.session, self._replica.services.approvals, sender, request)
        return acks.accepted(request.frame_id, committed, await self._replica.behind_write(attachment.who))

    def _ephemeral(self, request: v1.ChatRequest, attachment: _Attachment) -> None:
        feed, session = attachment.feed, attachment.session
        if request.HasField("ack"):
            feed.acknowledge(request.ack.seq)
        elif request.HasField("ping"):
            feed.pinged(request.ping.nonce)
        elif attachment.sender.observer:
            raise CallerError(v1.ERROR_REASON_NOT_EXECUTOR, "only the executor reports progress")
        elif _may_report(attachment.progress):
            session.audience.show(request.tool_progress, but=feed)


def _in_passing(feed: Feed, request: Incoming) -> bool:
    """See to what needs no reader, who also waits for room among the answers."""
    if feed.crowded or not _pinged(feed, request):
        return False
    feed.last_received = time.monotonic()
    return True


def _pinged(feed: Feed, request: Incoming) -> bool:
    """Take a ping: most of what idle streams send, and nothing in it can be wrong; False for all else."""
    if not isinstance(request, v1.ChatRequest) or request.WhichOneof("frame") != "ping" or request.frame_id:
        return False
    feed.pinged(request.ping.nonce)
    return True


def _may_report(moments: list[float]) -> bool:
    """Let 20 reports of progress a second through."""
    now = time.monotonic()
    moments[:] = [moment for moment in moments if now - moment < 1]
    if len(moments) >= _MOST_PROGRESS_A_SECOND:
        return False
    moments.append(now)
    return True
