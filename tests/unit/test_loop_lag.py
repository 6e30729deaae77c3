"""What holds up the event loop is measured."""

import asyncio
import time

from agent_runtime_server.telemetry.lag import watch_lag
from agent_runtime_server.telemetry.metrics import Metrics


async def test_a_loop_that_is_held_up_is_told_to_be_late() -> None:
    metrics, told = Metrics(), asyncio.Event()
    late: list[float] = []

    def note(seconds: float) -> None:
        metrics.loop_late(seconds)
        late.append(seconds)
        told.set()

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch_lag(note))
        await asyncio.sleep(0)  # until it has set its timer
        time.sleep(0.5)  # noqa: ASYNC251 - nothing else holds a loop up as surely
        await told.wait()
        watching.cancel()
    assert late[0] >= 0.25
    assert metrics.registry.get_sample_value("agent_runtime_event_loop_lag_seconds_sum") == late[0]
