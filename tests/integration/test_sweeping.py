"""The hub keeps its promises to all sessions, whatever is wrong with one."""

import gc

import pytest
from structlog.testing import capture_logs

from agent_runtime_server.engine import hub as hub_module
from agent_runtime_server.engine.session import Session
from agent_runtime_server.stores.upkeep import Taken
from enginekit.model import Answer
from enginekit.replica import OFTEN, replica, until

WRITE = ("write_file", {"path": "a.py", "content": "x"})


async def test_a_session_that_cannot_be_settled_keeps_none_from_its_deadline(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(database_url, runs=False) as here:
        here.clock.ahead = -3600
        broken, sound = await here.new_session(), await here.new_session()
        await here.say(broken)
        await here.say(sound)
        here.clock.ahead = 0
        commit = Session.commit

        async def failing(self: Session, *given: object, **named: object) -> object:
            if self.session_id == broken.session_id:
                raise ValueError("a log that cannot be folded")
            return await commit(self, *given, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(Session, "commit", failing)
        with capture_logs() as logs:
            await here.hub._sweep()
        assert {"a deadline cannot be settled"} <= {one["event"] for one in logs}
        finished = (await until(sound, "turn_finished")).turn_finished
        assert finished.error.reason == "TURN_TIMEOUT"


async def test_a_session_in_use_stays_the_one_everybody_gets(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "_MOST_IDLE_SESSIONS", 0)
    async with replica(database_url) as here:
        used = await here.new_session()
        for _ in range(3):
            await here.new_session()
        assert used.session_id not in here.hub._sessions
        assert await here.session(used.session_id) is used
        name = used.session_id
        del used
        for _ in range(2):
            await here.new_session()
        gc.collect()
        assert name not in here.hub._alive


async def test_a_lease_taken_by_a_commit_outlives_an_older_take_over(database_url: str) -> None:
    async with replica(database_url, timing=OFTEN, runs=False) as here:
        session = await here.new_session()
        here.model.then(Answer(calls=(WRITE,)))
        await here.say(session)
        epoch = session.lease_epoch
        assert epoch is not None
        await here.hub._take_over(Taken(session.session_id, epoch - 1, drained=False))
        assert session.lease_epoch == epoch
