"""`agent-runtime keys`: make, list, replace and revoke API keys, in the database that the server uses."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeVar

from cyclopts import App, Parameter
from pydantic import ValidationError

from agent_runtime_server.auth.keys import new_key
from agent_runtime_server.core.errors import ServiceError
from agent_runtime_server.core.principal import Role, is_subject, is_tenant
from agent_runtime_server.core.settings import Settings
from agent_runtime_server.embedded import EmbeddedError, embedded
from agent_runtime_server.stores.postgres.database import open_database
from agent_runtime_server.stores.postgres.keys import PostgresKeys
from agent_runtime_server.stores.postgres.migrations import MigrationError, migrate
from agent_runtime_server.stores.shared import KeyRow

T = TypeVar("T")
KeyId = Annotated[str, Parameter(help="The id in `keys list`, or the key itself.")]

_MOST_GRACE_HOURS: Final = 90 * 24

keys = App(name="keys", help="Make, list, replace and revoke API keys, in the database that the server uses.")


@keys.command
def create(
    *,
    tenant: Annotated[str, Parameter(help="Whose sessions the key opens.")],
    subject: Annotated[str, Parameter(help="Who comes with it.")],
    role: Annotated[list[Role], Parameter(help="What they are; may be given more than once.", negative="")],
    name: Annotated[str, Parameter(help="How people are shown the subject.")] = "",
    days: Annotated[float | None, Parameter(help="Days until it expires; without, it does not.")] = None,
) -> int:
    """Make a key. It is printed last, and only now: it is not kept."""
    if not is_tenant(tenant):
        raise SystemExit("agent-runtime keys: --tenant takes 1 to 64 letters, digits and . _ -")
    if not is_subject(subject) or not is_subject(name or subject):
        raise SystemExit("agent-runtime keys: --subject and --name take 1 to 256 printable characters")
    key, row = new_key(tenant, subject, role, _expiry(days), name)
    _with_store(lambda store: store.add(row))
    _give_out(key, row)
    return 0


@keys.command(name="list")
def list_(*, tenant: Annotated[str | None, Parameter(help="Of this tenant only.")] = None) -> int:
    """List the keys, one a line: id, tenant, subject, roles, when made, and whether it is good."""
    for row in _with_store(lambda store: store.list_keys(tenant)):
        print(_line(row))  # noqa: T201
    return 0


@keys.command
def rotate(
    key_id: KeyId,
    /,
    *,
    grace_hours: Annotated[float, Parameter(help="How long the old key stays good, unless it ends before.")] = 24,
    days: Annotated[
        float | None, Parameter(help="Days until the new one expires; else as the old one was made.")
    ] = None,
) -> int:
    """Make a key in place of another, for the same subject and roles; it is printed last, and only now.

    Both are good until the grace is over. Then the old one ends by itself, and so do streams opened with it, which are
    told a minute before.
    """
    if not 0 <= grace_hours <= _MOST_GRACE_HOURS:
        raise SystemExit(f"agent-runtime keys: --grace-hours must be 0 to {_MOST_GRACE_HOURS}")
    key, row = _with_store(lambda store: _replace(store, _meant(key_id), timedelta(hours=grace_hours), _expiry(days)))
    _give_out(key, row)
    return 0


@keys.command
def revoke(key_id: KeyId, /) -> int:
    """Make a key worthless: calls fail within 10 seconds, streams end within 30."""
    meant = _meant(key_id)
    if not _with_store(lambda store: store.revoke(meant)):
        raise SystemExit(f"agent-runtime keys: there is no key {meant[:64]!r}; see agent-runtime keys list")
    return 0


async def _replace(store: PostgresKeys, key_id: str, grace: timedelta, expires: datetime | None) -> tuple[str, KeyRow]:
    old = await store.get(key_id)
    if old is not None:
        if expires is None and old.expire_time is not None and old.create_time is not None:
            expires = datetime.now(UTC) + (old.expire_time - old.create_time)
        key, row = new_key(old.tenant, old.subject, old.roles, expires, old.display_name)
        if await store.replace(key_id, row, grace):
            return key, row
    raise ValueError(f"there is no good key {key_id[:64]!r}; see agent-runtime keys list")


def _meant(key_id: str) -> str:
    """Return the id of a key of which it, or the key itself, was given."""
    return key_id.split("_")[1] if key_id.count("_") == 2 else key_id


def _expiry(days: float | None) -> datetime | None:
    if days is not None and not 0 < days < 100 * 365:
        raise SystemExit("agent-runtime keys: --days must be above 0, and less than a hundred years")
    return None if days is None else datetime.now(UTC) + timedelta(days=days)


def _give_out(key: str, row: KeyRow) -> None:
    """Print a new key last, and alone on stdout."""
    print(_line(row), file=sys.stderr)  # noqa: T201
    print(key)  # noqa: T201


def _with_store(work: Callable[[PostgresKeys], Awaitable[T]]) -> T:
    async def main() -> T:
        async with _store() as store:
            return await work(store)

    try:
        return asyncio.run(main())
    except ValidationError as error:
        name = "AGENT_RUNTIME_" + "_".join(str(part) for part in error.errors()[0]["loc"]).upper()
        raise SystemExit(f"agent-runtime keys: {name}: {error.errors()[0]['msg']}") from error
    except (ServiceError, EmbeddedError, MigrationError, OSError, ValueError) as error:
        raise SystemExit(f"agent-runtime keys: {error}") from error


@asynccontextmanager
async def _store() -> AsyncIterator[PostgresKeys]:
    settings = Settings()
    async with AsyncExitStack() as stack:
        url = settings.database_url
        if url is None:
            servers = await stack.enter_async_context(embedded(settings.state_dir, want_redis=False))
            url = servers.database_url
        database = await stack.enter_async_context(open_database(url, most_connections=1))
        await migrate(database)
        yield PostgresKeys(database)


def _line(row: KeyRow) -> str:
    made = row.create_time or datetime.now(UTC)
    return "\t".join((row.key_id, row.tenant, row.subject, ",".join(sorted(row.roles)), _day(made), _state(row)))


def _state(row: KeyRow) -> str:
    if row.revoke_time is not None:
        return f"revoked {_day(row.revoke_time)}"
    if row.expire_time is None:
        return "good"
    return f"{'good until' if row.is_good(datetime.now(UTC).timestamp()) else 'expired'} {_day(row.expire_time)}"


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
