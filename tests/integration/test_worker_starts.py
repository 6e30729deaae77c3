"""Workers come back, whatever keeps one from being started."""

import asyncio
import os
from pathlib import Path

from agent_runtime_server.commands.stopping import Stopping
from agent_runtime_server.commands.workers import READY, Workers
from servicekit.waiting import until


async def test_a_worker_that_cannot_be_started_for_a_while_comes_back(tmp_path: Path) -> None:
    worker, away = tmp_path / "worker", tmp_path / "away"
    worker.write_text(f'#!/bin/sh\necho "{READY} 1"\nexec cat\n')
    worker.chmod(0o755)
    stopping, ready = Stopping(), asyncio.Event()
    workers = Workers([str(worker)], os.environ, stopping, 5)
    async with asyncio.TaskGroup() as group:
        group.create_task(workers.run(1, ready.set))
        await ready.wait()
        worker.rename(away)
        (process,) = workers._processes
        process.kill()
        await until(lambda: workers._restarts._value.get() >= 2, "a start that fails")
        away.rename(worker)
        await until(lambda: bool(workers._metrics_ports), "a start")
        stopping.asked.set()
