"""API keys: one takes another's place, and both are good until the grace is over."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_runtime_server.auth.keys import new_key
from agent_runtime_server.core.principal import Role
from agent_runtime_server.stores.postgres.keys import PostgresKeys
from agent_runtime_server.stores.shared import KeyRow
from enginekit.stores import Stores

HOUR = timedelta(hours=1)


@pytest.fixture
def keys(stores: Stores) -> PostgresKeys:
    return PostgresKeys(stores.database)


async def kept(keys: PostgresKeys, expires: datetime | None = None) -> KeyRow:
    """Keep a new key, and return it as it is kept."""
    _, row = new_key("acme", "ann", [Role.USER, Role.REVIEWER], expires)
    await keys.add(row)
    found = await keys.get(row.key_id)
    assert found is not None
    return found


async def replace(keys: PostgresKeys, old: KeyRow, grace: timedelta) -> KeyRow | None:
    """Replace a key, and return the new one if it was made."""
    _, new = new_key(old.tenant, old.subject, old.roles)
    assert await keys.replace(old.key_id, new, grace) is (await keys.get(new.key_id) is not None)
    return await keys.get(new.key_id)


async def test_both_are_good_until_the_grace_is_over(keys: PostgresKeys) -> None:
    old = await kept(keys)
    new = await replace(keys, old, HOUR)
    assert new is not None
    assert (new.tenant, new.subject, new.roles, new.expire_time) == ("acme", "ann", old.roles, None)
    ending = await keys.get(old.key_id)
    assert ending is not None
    assert ending.expire_time is not None
    assert new.create_time is not None
    assert ending.expire_time == new.create_time + HOUR
    assert await keys.good([old.key_id, new.key_id]) == {old.key_id: ending.expire_time, new.key_id: None}


async def test_the_old_one_ends_by_itself(keys: PostgresKeys) -> None:
    old = await kept(keys)
    new = await replace(keys, old, timedelta(0))
    assert new is not None
    assert await keys.good([old.key_id, new.key_id]) == {new.key_id: None}
    assert await replace(keys, old, HOUR) is None, "what has ended is not replaced"


async def test_a_grace_lets_no_key_live_longer(keys: PostgresKeys) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    old = await kept(keys, soon)
    assert await replace(keys, old, HOUR) is not None
    ending = await keys.get(old.key_id)
    assert ending is not None
    assert ending.expire_time == soon


async def test_a_key_that_is_not_good_makes_no_other(keys: PostgresKeys) -> None:
    revoked, expired = await kept(keys), await kept(keys, datetime.now(UTC) - HOUR)
    await keys.revoke(revoked.key_id)
    for old in (revoked, expired, KeyRow("0" * 12, b"", "acme", "ann", "ann", frozenset())):
        assert await replace(keys, old, HOUR) is None
