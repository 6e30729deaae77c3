"""What replicas tell each other about one session: that it has grown, and text that is being written.

All of it may be lost: growth is also looked for in the log, and lost text is replaced by its message. Text travels only
while another replica has said that somebody there reads it.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from agent_runtime import v1
from agent_runtime_server.engine.feed import Ephemeral, Seat
from agent_runtime_server.stores.base import Bus

RUNNABLE: Final = "/runnable"
"""The topic on which replicas tell that a session waits for somebody to run it; no session has this id."""

_GROWN: Final = b"g"  # followed by the head seq
_BEGUN: Final = b"b"  # a message is being written here
_ASKED: Final = b"a"  # somebody reads here
_DELTA: Final = b"d"
_PROGRESS: Final = b"p"
_NOTICE: Final = b"n"
_SEATED: Final = b"s"  # a client attached here


class Alone:
    """The bus of a replica that has no others."""

    connected = True

    def publish(self, topic: str, message: bytes) -> None:
        """Tell nobody."""

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Hear nothing."""

    def unlisten(self, topic: str) -> None:
        """Hear nothing as before."""


class Listener(Protocol):
    """The session on this replica."""

    @property
    def followed(self) -> bool:
        """Whether somebody reads it here."""
        ...

    def grown(self, head_seq: int) -> None:
        """Others have committed up to this seq."""
        ...

    def told(self, item: Ephemeral) -> None:
        """Others show this."""
        ...

    def seated(self, seat: Seat) -> None:
        """A client attached elsewhere."""
        ...

    def texts(self) -> Iterable[Ephemeral]:
        """Return the text so far of the message being written here, and what holds it up."""
        ...


class Relay:
    """One session's line to the other replicas."""

    def __init__(self, bus: Bus, session_id: str, listener: Listener) -> None:
        self._bus = bus
        self._topic = session_id
        self._listener = listener
        self._reasons: set[str] = set()  # why it listens
        self._read_elsewhere = False

    def grew(self, head_seq: int) -> None:
        """Tell of a commit."""
        self._bus.publish(self._topic, _GROWN + str(head_seq).encode())

    def seat(self, seat: Seat) -> None:
        """Tell of a client that attached here."""
        self._bus.publish(self._topic, _SEATED + f"{seat.nanos} {int(seat.executes)} {seat.client_id}".encode())

    def left(self) -> None:
        """Tell that the session is left for any other replica to run."""
        self._bus.publish(RUNNABLE, b"")

    def read(self) -> None:
        """Somebody reads here: ask for the text so far, and for what follows."""
        self._listen("feeds")
        self._bus.publish(self._topic, _ASKED)

    def read_no_more(self) -> None:
        """Nobody reads here any more."""
        self._hear_no_more("feeds")

    def begin(self) -> None:
        """A message begins to be written here."""
        self._read_elsewhere = False
        self._listen("writing")
        self._bus.publish(self._topic, _BEGUN)

    def end(self) -> None:
        """The message is written."""
        self._read_elsewhere = False
        self._hear_no_more("writing")

    def show(self, item: Ephemeral) -> None:
        """Show something ephemeral to readers elsewhere."""
        if isinstance(item, v1.ToolProgress):
            self._bus.publish(self._topic, _PROGRESS + item.SerializeToString())
        elif isinstance(item, v1.TurnNotice):
            self._bus.publish(self._topic, _NOTICE + item.SerializeToString())
        elif self._read_elsewhere:
            self._bus.publish(self._topic, _DELTA + item.SerializeToString())

    def _listen(self, why: str) -> None:
        if not self._reasons:
            self._bus.listen(self._topic, self._heard)
        self._reasons.add(why)

    def _hear_no_more(self, why: str) -> None:
        if why in self._reasons:
            self._reasons.discard(why)
            if not self._reasons:
                self._bus.unlisten(self._topic)

    def _heard(self, message: bytes) -> None:
        kind, content = message[:1], message[1:]
        if kind == _GROWN:
            self._listener.grown(int(content))
        elif kind == _DELTA:
            self._listener.told(v1.MessageDelta.FromString(content))
        elif kind == _PROGRESS:
            self._listener.told(v1.ToolProgress.FromString(content))
        elif kind == _NOTICE:
            self._listener.told(v1.TurnNotice.FromString(content))
        elif kind == _SEATED:
            nanos, executes, client_id = content.decode().split(" ", 2)
            self._listener.seated(Seat(client_id, executes == "1", int(nanos)))
        elif kind == _BEGUN and self._listener.followed:
            self._bus.publish(self._topic, _ASKED)
        elif kind == _ASKED and "writing" in self._reasons:
            self._read_elsewhere = True
            for delta in self._listener.texts():
                self.show(delta)
