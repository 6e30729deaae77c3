"""Commits whose answer never came."""

import pytest

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.base import Append, Appended
from enginekit.refusals import refused
from enginekit.replica import kinds, log, replica, until


async def test_a_turn_begun_by_a_commit_that_was_not_heard_of_runs_when_its_frame_comes_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(database_url) as here:
        session = await here.new_session()
        append = here.stores.log.append

        async def unheard(given: Append) -> Appended:
            await append(given)
            raise StoreUnavailable("the connection broke")

        with monkeypatch.context() as patch:
            patch.setattr(here.stores.log, "append", unheard)
            with refused("DEPENDENCY_UNAVAILABLE"):
                await here.say(session, frame_id="f1")
        assert (await here.say(session, frame_id="f1")).duplicate
        await until(session, "turn_finished")
        assert kinds(await log(session)).count("user_message") == 1
