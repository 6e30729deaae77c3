"""Those who read a session on this replica: what they are shown, in which order, and who takes whose place."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from weakref import proxy

from agent_runtime import v1
from agent_runtime_server.core.clock import Clock, to_nanos
from agent_runtime_server.core.errors import CallerError, ServiceError
from agent_runtime_server.engine.deltas import Writing
from agent_runtime_server.engine.feed import Ephemeral, Feed, Seat, Wanted
from agent_runtime_server.engine.notices import HeldUp
from agent_runtime_server.engine.recent import Recent
from agent_runtime_server.engine.relay import Relay
from agent_runtime_server.engine.watch import Watch
from agent_runtime_server.stores.base import Bus, StoredEvent

_AT_REST = (v1.TURN_STATE_UNSPECIFIED, v1.TURN_STATE_WAITING_FOR_TOOL, v1.TURN_STATE_WAITING_FOR_USER)

Read = Callable[[int, int], Awaitable[Sequence[StoredEvent]]]


class Audience:
    """The feeds of one session, and its line to those on other replicas."""

    def __init__(
        self,
        session_id: str,
        read: Read,
        clock: Clock,
        bus: Bus,
        watch: Watch,
        *,
        on_growth: Callable[[int], None],
        on_change: Callable[[], None],
    ) -> None:
        self.feeds: set[Feed] = set()
        self.head_seq = 0  # highest committed seq that is known here
        self.turn_state: v1.TurnState.ValueType = v1.TURN_STATE_UNSPECIFIED
        self.relay = Relay(bus, session_id, proxy(self))  # which must not keep it
        self._read = read
        self._clock = clock
        self._watch = watch
        self._on_growth = on_growth  # told up to where others have committed
        self._on_change = on_change  # called when the first reader has come, or the last has left
        self._writing: Writing | None = None
        self._held_up = HeldUp()
        self._recent = Recent()
        self._executor = ""

    @property
    def followed(self) -> bool:
        """Whether somebody reads it here."""
        return bool(self.feeds)

    @property
    def kept_bytes(self) -> int:
        """Size of the events at hand, of the text being written, and of what readers have not taken yet: bounded."""
        writing = self._writing.size if self._writing is not None else 0
        return self._recent.bytes + writing + sum(feed.queued_bytes for feed in self.feeds)

    def at_rest(self) -> bool:
        """Tell whether nothing more is to come without a client frame."""
        return self.turn_state in _AT_REST

    def recent(self, after_seq: int) -> Sequence[StoredEvent] | None:
        """Return the events behind `after_seq` when they are at hand, else None."""
        return [] if after_seq >= self.head_seq else self._recent.behind(after_seq)

    # -- who reads --------------------------------------------------------------------------------------------------

    def follow(self, wanted: Wanted) -> Feed:
        """Add a feed."""
        feed = Feed(self, self._read, wanted)
        self.feeds.add(feed)
        self._on_change()
        feed.watch = self._watch
        self._watch.look_after(feed, 0)
        self.relay.read()
        return feed

    def seat(self, feed: Feed, client_id: str, *, executes: bool) -> None:
        """Give a feed to a client, which takes the place of its own older ones and of another executor, anywhere."""
        feed.seat = Seat(client_id, executes, to_nanos(self._clock()))
        for other in self.feeds:
            if other is not feed and other.seat is not None and feed.seat.replaces(other.seat):
                other.end(_superseded())
        self.relay.seat(feed.seat)

    def leave(self, feed: Feed) -> None:
        """Take a feed away."""
        self.feeds.discard(feed)
        feed.watch = feed.slip_in = None
        self._watch.forget(feed)
        if not self.feeds:
            self._on_change()
            self.relay.read_no_more()

    def end(self, error: ServiceError) -> None:
        """End every feed."""
        for feed in self.feeds:
            feed.end(error)

    def follow_executor(self, client_id: str) -> None:
        """End what another executor replaced, for of that the log tells too."""
        if client_id == self._executor:
            return
        self._executor = client_id
        for feed in self.feeds:
            if feed.seat is not None and feed.seat.executes and feed.seat.client_id != client_id:
                feed.end(_superseded())

    # -- what is committed ------------------------------------------------------------------------------------------

    def publish(self, head_seq: int, events: Sequence[StoredEvent]) -> None:
        """Hand committed events to every feed; what a snapshot stands for they read themselves."""
        fresh = [event for event in events if event.seq > self.head_seq]
        skipped = head_seq - self.head_seq > len(fresh)
        self.head_seq = max(self.head_seq, head_seq)
        if skipped:
            self._recent = Recent()
        self._recent.add(fresh)
        for feed in self.feeds:
            if skipped:
                feed.catch_up()
            else:
                feed.offer(fresh)

    # -- what is ephemeral ------------------------------------------------------------------------------------------

    def begin_writing(self, writing: Writing) -> None:
        """Keep the text of a message while it is written, for who comes to read it."""
        self._writing = writing
        self.relay.begin()

    def end_writing(self) -> None:
        """Let go of the text."""
        self._writing = None
        self._held_up = HeldUp()
        self.relay.end()

    def texts(self) -> Iterable[Ephemeral]:
        """Return the text so far of the message being written here, and what holds it up."""
        yield from self._writing.so_far() if self._writing is not None else ()
        yield from self._held_up.now()

    def show(self, *items: Ephemeral, but: Feed | None = None) -> None:
        """Hand something ephemeral to every feed, here and elsewhere, except to the one it came from."""
        for feed in self.feeds:
            if feed is not but:
                feed.offer(items)
        for item in items:
            if isinstance(item, v1.TurnNotice):
                self._held_up.note(item)
            self.relay.show(item)

    # -- what other replicas tell -----------------------------------------------------------------------------------

    def grown(self, head_seq: int) -> None:
        """Note that others have committed up to this seq."""
        self._on_growth(head_seq)

    def told(self, item: Ephemeral) -> None:
        """Show what another replica shows."""
        for feed in self.feeds:
            feed.offer((item,))

    def seated(self, seat: Seat) -> None:
        """Let a client that attached elsewhere take the place of older ones here; what is told late is old itself."""
        for feed in self.feeds:
            if feed.seat is not None and feed.seat.nanos < seat.nanos and seat.replaces(feed.seat):
                feed.end(_superseded())


def _superseded() -> CallerError:
    return CallerError(v1.ERROR_REASON_ATTACHMENT_SUPERSEDED, "a newer stream of this session took over")
