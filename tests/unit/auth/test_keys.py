"""API keys: what is kept of them, and how seldom the store is asked."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent_runtime_server.auth.keys import Keys, new_key
from agent_runtime_server.auth.remembered import Remembered
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.core.principal import Principal, Role
from agent_runtime_server.stores.shared import KeyRow


class Store:
    """A KeyStore that counts what it is asked."""

    def __init__(self, *rows: KeyRow) -> None:
        self.rows = {row.key_id: row for row in rows}
        self.asked = 0
        self.up = True

    async def get(self, key_id: str) -> KeyRow | None:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.up:
            raise StoreUnavailable("away")
        return self.rows.get(key_id)

    async def good(self, key_ids: Sequence[str]) -> Mapping[str, datetime | None]:
        good = (self.rows[one] for one in key_ids if one in self.rows and self.rows[one].revoke_time is None)
        return {row.key_id: row.expire_time for row in good}


KEY, ROW = new_key("acme", "ann", [Role.USER])


def test_the_row_does_not_hold_the_key() -> None:
    secret = KEY.split("_")[2]
    assert len(secret) == 48
    assert secret not in repr(ROW)
    assert new_key("acme", "ann", [Role.USER])[0] != KEY


async def test_a_key_is_looked_up_once_for_many() -> None:
    store = Store(ROW)
    keys = Keys(store)
    found = await asyncio.gather(*(keys.principal(KEY) for _ in range(100)))
    assert {who.subject for who in found if who is not None} == {"ann"}
    assert store.asked == 1


async def test_a_key_that_is_not_good_is_nobodys() -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    for spoilt in (replace(ROW, revoke_time=past), replace(ROW, expire_time=past), replace(ROW, digest=b"another")):
        assert await Keys(Store(spoilt)).principal(KEY) is None
    assert await Keys(Store()).principal(KEY) is None


async def test_what_cannot_be_a_key_is_not_looked_up() -> None:
    store = Store(ROW)
    for text in ("", "ark_", KEY + "x", KEY.upper(), "ark_" + "0" * 61, KEY.replace("_", "-")):
        assert await Keys(store).principal(text) is None
    assert store.asked == 0


async def test_a_key_expires_also_while_it_is_remembered() -> None:
    now = 1000.0
    row = replace(ROW, expire_time=datetime.fromtimestamp(1005, UTC))
    keys = Keys(Store(row), clock=lambda: now)
    assert await keys.principal(KEY) is not None
    now = 1006.0
    assert await keys.principal(KEY) is None


async def test_a_known_key_is_good_for_a_while_when_the_store_is_away() -> None:
    store = Store(ROW)
    keys = Keys(store)
    await keys.principal(KEY)
    store.up = False
    assert await keys.principal(KEY) is not None
    with pytest.raises(StoreUnavailable):
        await keys.principal(new_key("acme", "ben", [Role.USER])[0])


async def test_revoked_keys_have_ended_and_unknown_ones_too() -> None:
    ending = replace(ROW, key_id="ending", expire_time=datetime.fromtimestamp(1000, UTC))
    keys = Keys(Store(ROW, ending, replace(ROW, key_id="gone", revoke_time=datetime.now(UTC))))
    asked = [ROW.key_id, "ending", "gone", "never"]
    assert await keys.endings(asked) == {ROW.key_id: math.inf, "ending": 1000, "gone": 0, "never": 0}
    assert await keys.endings([]) == {}


async def test_what_is_remembered_is_bounded_and_grows_old() -> None:
    now, asked = 0.0, 0

    async def verify(text: str) -> Principal | None:
        nonlocal asked
        asked += 1
        return None

    remembered = Remembered(verify, 10, lambda: now)
    for number in range(10_100):
        await remembered.principal(str(number))
    assert len(remembered._known) == 10_000
    assert not remembered._verifying
    await remembered.principal("10099")
    assert asked == 10_100
    now = 11
    await remembered.principal("10099")
    assert asked == 10_101
