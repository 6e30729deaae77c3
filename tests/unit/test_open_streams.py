"""How many streams are held, and which end when credentials do."""

import math
from collections.abc import Iterable, Mapping

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, ServiceError, StoreUnavailable
from agent_runtime_server.core.principal import Principal
from agent_runtime_server.rpc.streams import OpenStream, StreamLimits, Streams

ANN, BEN = Principal("acme", "ann", key_id="k1"), Principal("acme", "ben", key_id="k2")


class Known:
    """Knows when keys end."""

    def __init__(self, **ends: float) -> None:
        self.ends = ends
        self.up = True

    async def endings(self, callers: Iterable[Principal]) -> Mapping[str, float]:
        if not self.up:
            raise StoreUnavailable("away")
        return {caller.key_id: self.ends.get(caller.key_id, math.inf) for caller in callers if caller.key_id}


class Watched:
    """What a stream was told."""

    def __init__(self, stream: OpenStream) -> None:
        self.told: list[v1.GoAway] = []
        self.errors: list[ServiceError] = []
        stream.on_end(self.told.append, self.errors.append)


def refused(streams: Streams, caller: Principal, connection: str) -> bool:
    try:
        with streams.opened(caller, connection):
            return False
    except CallerError as error:
        return (error.wire_reason, error.retry_delay is None) == ("TOO_MANY_STREAMS", False)


def test_each_caller_and_each_connection_has_a_share() -> None:
    streams = Streams(StreamLimits(total=4, per_caller=2, per_connection=3))
    with streams.opened(ANN, "c1"), streams.opened(ANN, "c2"):
        assert refused(streams, ANN, "c3")
        with streams.opened(BEN, "c1"):
            assert not refused(streams, Principal("other", "ann"), "c1"), "the same name in another tenant"
            with streams.opened(Principal("acme", "cas"), "c1"):
                assert refused(streams, BEN, "c1"), "by the connection"
                assert refused(streams, BEN, "c9"), "by the total"
    assert len(streams) == 0
    assert not streams._by_caller
    assert not streams._by_connection


def test_no_limit_is_no_limit() -> None:
    streams = Streams()
    with streams.opened(ANN, "c1"), streams.opened(ANN, "c1"):
        assert not refused(streams, ANN, "c1")


def test_a_stream_is_warned_once_and_then_ended() -> None:
    now = 1000.0
    streams = Streams(clock=lambda: now)
    with streams.opened(Principal("acme", "ann", expires=1100), "c1") as stream, streams.opened(BEN, "c2") as other:
        watched, untouched = Watched(stream), Watched(other)
        streams.expire()
        assert watched.told == []
        now = 1045.0
        streams.expire()
        streams.expire()
        assert [go_away.reason for go_away in watched.told] == [v1.GoAway.REASON_CREDENTIALS_EXPIRING]
        assert watched.told[0].time_left.seconds == 55
        assert watched.errors == []
        now = 1100.0
        streams.expire()
        assert watched.errors[0].wire_reason == "CREDENTIALS_INVALID"
        assert (untouched.told, untouched.errors) == ([], [])


def test_an_old_stream_is_told_to_leave_and_then_ended() -> None:
    streams = Streams(age_seconds=100)
    with streams.opened(ANN, "c1") as stream, streams.opened(BEN, "c2") as other:
        told: list[v1.GoAway] = []
        errors: list[ServiceError] = []
        stream.on_end(told.append, errors.append, ages=True)
        untouched = Watched(other)
        streams.age(stream.opened + 60)
        assert told == []
        streams.age(stream.opened + 89)
        streams.age(stream.opened + 89)
        assert [go_away.reason for go_away in told] == [v1.GoAway.REASON_MAX_AGE]
        streams.age(stream.opened + 100)
        assert errors[0].wire_reason == "SERVER_DRAINING"
        assert (untouched.told, untouched.errors) == ([], [])


async def test_streams_of_lost_keys_end() -> None:
    known = Known()
    streams = Streams(callers=known)
    with streams.opened(ANN, "c1") as stream, streams.opened(BEN, "c2") as other:
        watched, untouched = Watched(stream), Watched(other)
        await streams.revoke()
        assert watched.errors == []
        known.ends = {"k1": 0}
        await streams.revoke()
        assert watched.errors[0].wire_reason == "CREDENTIALS_INVALID"
        assert untouched.errors == []


async def test_streams_of_a_key_that_was_replaced_are_warned_before_it_ends() -> None:
    now = 1000.0
    known = Known()
    streams = Streams(callers=known, clock=lambda: now)
    with streams.opened(ANN, "c1") as stream, streams.opened(BEN, "c2") as other:
        watched, untouched = Watched(stream), Watched(other)
        known.ends = {"k1": 1030}
        streams.expire()
        await streams.revoke()
        streams.expire()
        assert [go_away.reason for go_away in watched.told] == [v1.GoAway.REASON_CREDENTIALS_EXPIRING]
        now = 1030.0
        streams.expire()
        assert watched.errors[0].wire_reason == "CREDENTIALS_INVALID"
        assert (untouched.told, untouched.errors) == ([], [])
    assert not streams._expiring


async def test_no_stream_ends_because_nobody_can_be_asked() -> None:
    known = Known()
    known.up = False
    streams = Streams(callers=known)
    with streams.opened(ANN, "c1") as stream:
        watched = Watched(stream)
        await streams.revoke()
        assert watched.errors == []


async def test_a_stream_that_nobody_writes_to_yet_ends_when_somebody_does() -> None:
    known = Known(k1=0)
    streams = Streams(callers=known)
    with streams.opened(ANN, "c1") as stream:
        await streams.revoke()
        assert Watched(stream).errors[0].wire_reason == "CREDENTIALS_INVALID"


@pytest.mark.parametrize("caller", [ANN, Principal("acme", "ann")])
async def test_without_anybody_to_ask_nothing_is_lost(caller: Principal) -> None:
    streams = Streams()
    with streams.opened(caller, "c1") as stream:
        watched = Watched(stream)
        await streams.revoke()
        streams.expire()
        assert (watched.told, watched.errors) == ([], [])
