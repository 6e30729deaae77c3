"""What replicas tell each other of a session: that it has grown, and its text while somebody there reads it."""

import pytest

from agent_runtime import v1
from agent_runtime_server.engine.feed import Ephemeral, Seat
from agent_runtime_server.engine.relay import Alone, Relay
from enginekit.wire import Line, Wire

HELLO = v1.MessageDelta(text="Hello")
SO_FAR = v1.MessageDelta(text="Hel", replace=True)


class Ear:
    """A session on one replica, that remembers what it is told."""

    def __init__(self, wire: Wire) -> None:
        self.line: Line = wire.line()
        self.relay = Relay(self.line, "s1", self)
        self.followed = False
        self.heads: list[int] = []
        self.items: list[Ephemeral] = []
        self.text: list[v1.MessageDelta] = []
        self.seats: list[Seat] = []

    def grown(self, head_seq: int) -> None:
        self.heads.append(head_seq)

    def told(self, item: Ephemeral) -> None:
        self.items.append(item)

    def seated(self, seat: Seat) -> None:
        self.seats.append(seat)

    def texts(self) -> list[v1.MessageDelta]:
        return self.text

    def follow(self) -> None:
        self.followed = True
        self.relay.read()


@pytest.fixture
def two() -> tuple[Ear, Ear]:
    wire = Wire()
    return Ear(wire), Ear(wire)


def test_a_commit_is_told_to_who_reads(two: tuple[Ear, Ear]) -> None:
    here, there = two
    here.relay.grew(6)
    there.follow()
    here.relay.grew(7)
    assert there.heads == [7]


def test_who_stops_reading_hears_no_more(two: tuple[Ear, Ear]) -> None:
    here, there = two
    there.follow()
    there.relay.read_no_more()
    there.relay.read_no_more()
    here.relay.grew(7)
    assert there.heads == []
    assert not there.line.listening


def test_text_travels_only_while_another_replica_reads(two: tuple[Ear, Ear]) -> None:
    here, there = two
    here.relay.begin()
    sent = len(here.line.sent)
    here.relay.show(HELLO)
    assert len(here.line.sent) == sent
    there.follow()
    here.relay.show(HELLO)
    assert there.items == [HELLO]


def test_who_comes_while_a_message_is_written_gets_the_text_so_far(two: tuple[Ear, Ear]) -> None:
    here, there = two
    here.relay.begin()
    here.text = [SO_FAR]
    there.follow()
    assert there.items == [SO_FAR]


def test_who_reads_already_gets_the_next_message_too(two: tuple[Ear, Ear]) -> None:
    here, there = two
    there.follow()
    for _ in range(2):
        here.relay.begin()
        here.relay.show(HELLO)
        here.relay.end()
    assert there.items == [HELLO, HELLO]
    here.relay.show(HELLO)
    assert len(there.items) == 2, "the message is written"


def test_who_follows_nothing_asks_for_no_text(two: tuple[Ear, Ear]) -> None:
    here, there = two
    there.relay.begin()
    here.relay.begin()
    here.relay.show(HELLO)
    assert there.items == []


def test_who_reads_and_writes_goes_on_listening_when_one_ends(two: tuple[Ear, Ear]) -> None:
    here, there = two
    there.follow()
    there.relay.begin()
    there.relay.end()
    here.relay.grew(7)
    assert there.heads == [7]


def test_progress_of_tools_is_always_told(two: tuple[Ear, Ear]) -> None:
    here, there = two
    there.follow()
    progress = v1.ToolProgress(call_id="call-1", text="10 %")
    here.relay.show(progress)
    assert there.items == [progress]


def test_what_holds_a_turn_up_is_always_told(two: tuple[Ear, Ear]) -> None:
    here, there = two
    there.follow()
    notice = v1.TurnNotice(turn_id="turn-1", reason="HTTP 503")
    here.relay.show(notice)
    assert there.items == [notice]


def test_words_of_a_newer_version_are_ignored(two: tuple[Ear, Ear]) -> None:
    here, there = two
    there.follow()
    here.line.publish("s1", b"?what")
    assert (there.heads, there.items) == ([], [])


def test_a_replica_may_be_alone() -> None:
    ear = Ear(Wire())
    relay = Relay(Alone(), "s1", ear)
    relay.read()
    relay.begin()
    relay.show(HELLO)
    relay.grew(1)
    relay.end()
    relay.read_no_more()
    assert ear.items == []


@pytest.mark.parametrize("executes", [True, False])
def test_a_client_that_attached_is_told_to_who_reads(two: tuple[Ear, Ear], executes: bool) -> None:
    here, there = two
    there.follow()
    here.relay.seat(Seat("c:1", executes, 7))
    assert there.seats == [Seat("c:1", executes, 7)]


@pytest.mark.parametrize(
    ("newer", "older", "replaces"),
    [
        (Seat("c1", True, 2), Seat("c1", True, 1), True),
        (Seat("c1", False, 2), Seat("c1", True, 1), True),
        (Seat("c2", True, 2), Seat("c1", True, 1), True),
        (Seat("c2", False, 2), Seat("c1", True, 1), False),
        (Seat("c2", True, 2), Seat("c1", False, 1), False),
    ],
)
def test_a_client_replaces_itself_and_an_executor_another(newer: Seat, older: Seat, replaces: bool) -> None:
    assert newer.replaces(older) is replaces
