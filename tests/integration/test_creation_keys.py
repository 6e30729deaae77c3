"""Keys of a session's creation."""

import uuid

from agent_runtime_server.engine import lifecycle
from enginekit.refusals import refused
from enginekit.replica import replica, wish


async def test_a_request_id_stands_for_the_session_it_made_and_no_other(database_url: str) -> None:
    async with replica(database_url, runs=False) as here:
        key = str(uuid.uuid4())
        await lifecycle.create(here.services, wish(request_id=key, session_id="s-a"))
        _, made = await lifecycle.create(here.services, wish(request_id=key, session_id="s-a"))
        assert not made
        with refused("IDEMPOTENCY_KEY_REUSED"):
            await lifecycle.create(here.services, wish(request_id=key, session_id="s-b"))
