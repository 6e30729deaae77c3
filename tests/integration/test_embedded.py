"""The embedded servers as a process meets them: started, killed in every way, and found again."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from agent_runtime_server.embedded import Embedded, EmbeddedError, embedded, scratch_state_dir
from agent_runtime_server.embedded.lock import DirectoryLock, Holding
from agent_runtime_server.embedded.processes import command_line

AS_ROOT = os.geteuid() == 0

HOLDER = """
import asyncio, json, sys
from dataclasses import asdict
from pathlib import Path
from agent_runtime_server.embedded import embedded

async def main():
    async with embedded(Path(sys.argv[1])) as servers:
        print(json.dumps(asdict(servers)), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with scratch_state_dir() as path:
        yield path


def remove_sockets(servers: Embedded) -> None:
    """Sockets of an unwieldy state directory are outside of it."""
    shutil.rmtree(Path(servers.redis_url.removeprefix("unix://")).parent)


@asynccontextmanager
async def held_by_another_process(
    state_dir: Path, *prefix: str
) -> AsyncIterator[tuple[Embedded, asyncio.subprocess.Process]]:
    process = await asyncio.create_subprocess_exec(
        *(*prefix, sys.executable, "-c", HOLDER, str(state_dir)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        yield Embedded(**json.loads(await process.stdout.readline())), process
    finally:
        process.stdin.close()
        await process.wait()


async def boots(servers: Embedded) -> tuple[int, int]:
    """Count one more boot in both servers and return both counts."""
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS boots (at timestamptz)")
        await connection.execute("INSERT INTO boots VALUES (now())")
        rows = await connection.fetchval("SELECT count(*) FROM boots")
    finally:
        await connection.close()
    async with redis.from_url(servers.redis_url) as client:
        return rows, await client.incr("boots")


def holding(state_dir: Path, server: str) -> Holding:
    with DirectoryLock(state_dir / server / "lock") as lock:
        found = lock.holding()
    assert found is not None
    return found


def processes(state_dir: Path) -> list[int]:
    found = [holding(state_dir, server) for server in ("postgres", "valkey")]
    return [found[0].supervisor_pid, *(each.server_pid for each in found)]


def server_users(state_dir: Path) -> set[int]:
    return {(state_dir / server / "data").stat().st_uid for server in ("postgres", "valkey")} | {
        Path(f"/proc/{pid}").stat().st_uid for pid in processes(state_dir)[1:]
    }


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def until_dead(*pids: int) -> None:
    await until(lambda: not any(command_line(pid) for pid in pids))


async def until_others_serve(state_dir: Path, before: list[int]) -> None:
    """Wait until the directory's servers have said that they are ready and are none of those before."""

    def published() -> list[Holding | None]:
        found = []
        for server in ("postgres", "valkey"):
            with DirectoryLock(state_dir / server / "lock") as lock:
                found.append(lock.holding())
        return found

    await until(lambda: all(one is not None and one.server_pid not in before for one in published()))


async def test_both_servers_answer_and_stop_with_the_context(state_dir: Path) -> None:
    async with embedded(state_dir) as servers:
        assert await boots(servers) == (1, 1)
        assert not servers.joined
        assert servers.holder_pid == os.getpid()
        pids = processes(state_dir)
    assert not any(command_line(pid) for pid in pids)


async def test_data_is_kept_across_starts(state_dir: Path) -> None:
    for boot in (1, 2):
        async with embedded(state_dir) as servers:
            assert await boots(servers) == (boot, boot)


async def test_only_the_wanted_server_runs(state_dir: Path) -> None:
    async with embedded(state_dir, want_postgres=False) as servers:
        assert servers.database_url == ""
        async with redis.from_url(servers.redis_url) as client:
            assert await client.ping()
    assert not (state_dir / "postgres").exists()


async def test_nothing_runs_when_nothing_is_wanted(state_dir: Path) -> None:
    async with embedded(state_dir, want_postgres=False, want_redis=False) as servers:
        assert (servers.database_url, servers.redis_url) == ("", "")
    assert not (state_dir / "run").exists()


async def test_a_cancelled_start_leaves_no_process(state_dir: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), embedded(state_dir):
            await asyncio.Event().wait()
    async with embedded(state_dir) as servers:
        assert await boots(servers) == (1, 1)


async def test_a_cluster_half_made_is_made_anew(state_dir: Path) -> None:
    half = state_dir / "postgres" / "data.1"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    async with embedded(state_dir) as servers:
        assert await boots(servers) == (1, 1)
    assert not half.exists()


async def test_postgres_promises_durability_and_listens_nowhere_else(state_dir: Path) -> None:
    async with embedded(state_dir, want_redis=False) as servers:
        connection = await asyncpg.connect(servers.database_url)
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "wal_level", "listen_addresses", "server_encoding")
        }
        await connection.close()
    assert shown == {
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_level": "replica",
        "listen_addresses": "",
        "server_encoding": "UTF8",
    }


async def test_sockets_and_data_are_for_nobody_else(state_dir: Path) -> None:
    async with embedded(state_dir):
        for private in ("run", "postgres/data", "valkey/data"):
            assert (state_dir / private).stat().st_mode & 0o777 == 0o700


async def test_no_server_outlives_a_killed_parent(state_dir: Path) -> None:
    async with held_by_another_process(state_dir) as (servers, parent):
        assert await boots(servers) == (1, 1)
        pids = processes(state_dir)
        parent.kill()
        await until_dead(*pids)
    async with embedded(state_dir) as servers:
        assert await boots(servers) == (2, 2)


@pytest.mark.parametrize("name", ["plain", "with spaces"])
async def test_a_start_after_the_supervisor_was_killed_recovers_the_data(state_dir: Path, name: str) -> None:
    state_dir /= name
    async with held_by_another_process(state_dir) as (servers, parent):
        assert await boots(servers) == (1, 1)
        supervisor, *orphans = processes(state_dir)
        parent.kill()
        os.kill(supervisor, signal.SIGKILL)
        await until_dead(supervisor)
    async with embedded(state_dir) as servers:
        await until_dead(*orphans)
        assert await boots(servers) == (2, 2)
    remove_sockets(servers)


async def test_the_context_leaves_no_orphan_when_its_supervisor_was_killed(state_dir: Path) -> None:
    async with embedded(state_dir):
        supervisor, *orphans = processes(state_dir)
        os.kill(supervisor, signal.SIGKILL)
        await until_dead(supervisor)
    assert not any(command_line(pid) for pid in orphans)


async def test_a_pid_file_that_names_a_living_stranger_is_ignored(state_dir: Path) -> None:
    async with embedded(state_dir) as servers:
        await boots(servers)
    pid_file = state_dir / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getppid()}\n{pid_file.parent}\n1\n5432\n{state_dir / 'run'}\n\n\nready\n")
    (state_dir / "run" / ".s.PGSQL.5432.lock").write_text(f"{os.getppid()}\n")
    (state_dir / "valkey" / "data" / "pid").write_text(f"{os.getppid()}\n")
    async with embedded(state_dir) as servers:
        assert await boots(servers) == (2, 2)


async def test_a_server_that_dies_is_started_again_at_the_same_address(state_dir: Path) -> None:
    async with embedded(state_dir) as servers:
        await boots(servers)
        before = processes(state_dir)[1:]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await until_others_serve(state_dir, before)
        rows, _ = await boots(servers)
        assert rows == 2


async def test_a_second_start_joins_and_says_who_holds_the_servers(state_dir: Path) -> None:
    async with held_by_another_process(state_dir) as (first, parent), embedded(state_dir) as second:
        assert second.joined
        assert second.holder_pid == parent.pid
        assert (second.database_url, second.redis_url) == (first.database_url, first.redis_url)
        assert await boots(second) == (1, 1)


async def test_who_joined_takes_the_servers_over_when_the_holder_dies(state_dir: Path) -> None:
    async with held_by_another_process(state_dir) as (_, parent):
        before = processes(state_dir)
        async with embedded(state_dir) as joined:
            assert await boots(joined) == (1, 1)
            parent.kill()
            await until_others_serve(state_dir, before[1:])
            assert holding(state_dir, "postgres").holder_pid == os.getpid()
            assert await boots(joined) == (2, 2)


async def test_the_joined_holder_goes_on_when_the_second_leaves(state_dir: Path) -> None:
    async with held_by_another_process(state_dir) as (first, _):
        async with embedded(state_dir):
            pass
        assert await boots(first) == (1, 1)


@pytest.mark.parametrize("name", ["deep" * 30, "with, spaces & 100% ünicode"])
async def test_sockets_of_an_unwieldy_state_dir_get_a_plain_path(state_dir: Path, name: str) -> None:
    async with embedded(state_dir / name) as servers:
        assert await boots(servers) == (1, 1)
    remove_sockets(servers)


async def test_data_of_another_major_is_refused_in_words(state_dir: Path) -> None:
    data = state_dir / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match="written by Postgres 9, but the embedded one is Postgres 18"):
        async with embedded(state_dir, want_redis=False):
            pass


async def test_a_server_that_cannot_start_shows_the_end_of_its_log(state_dir: Path) -> None:
    async with embedded(state_dir, want_postgres=False) as servers, redis.from_url(servers.redis_url) as client:
        await client.set("a", "b")
    for file in (state_dir / "valkey" / "data" / "appendonlydir").glob("*.aof"):
        file.write_bytes(b"not an append-only file" * 10)
    with pytest.raises(EmbeddedError, match=r"(?s)valkey did not start.*Bad file format"):
        async with embedded(state_dir, want_postgres=False):
            pass


async def test_a_state_dir_that_is_a_file_is_refused_in_words(state_dir: Path) -> None:
    (state_dir / "file").touch()
    with pytest.raises(EmbeddedError, match=r"cannot use .*/file"):
        async with embedded(state_dir / "file"):
            pass


@pytest.mark.skipif(not AS_ROOT, reason="only root steps down")
async def test_as_root_the_servers_run_as_an_account_without_rights(state_dir: Path) -> None:
    async with embedded(state_dir):
        assert 0 not in server_users(state_dir)


@pytest.mark.skipif(not AS_ROOT, reason="only root steps down")
async def test_as_root_a_private_parent_is_refused_in_words(state_dir: Path) -> None:
    (state_dir / "private").mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match=r"cannot pass through .*/private: allow it"):
        async with embedded(state_dir / "private" / "state"):
            pass


@pytest.mark.skipif(not AS_ROOT, reason="root is needed to become another user")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is needed to become another user")
async def test_an_ordinary_user_and_then_root_use_the_same_data(state_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    mine = state_dir / "mine"
    mine.mkdir(mode=0o755)
    os.chown(mine, nobody.pw_uid, nobody.pw_gid)
    # The one capability is there because this Python may lie under root's private home.
    become = ("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    caps = ("--inh-caps=-all,+dac_override", "--ambient-caps=+dac_override")
    async with held_by_another_process(mine, *become, *caps) as (servers, _):
        assert await boots(servers) == (1, 1)
        assert server_users(mine) == {nobody.pw_uid}
    async with embedded(mine) as servers:
        assert await boots(servers) == (2, 2)
