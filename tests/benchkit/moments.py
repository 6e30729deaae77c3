"""What no load shows: how a long log costs and is replayed, how soon a server serves, or goes on for a killed one."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc.aio

from agent_runtime import v1
from agent_runtime.v1 import chat_service_pb2_grpc, session_service_pb2_grpc
from benchkit.cells import Figures
from benchkit.processes import cpu_seconds
from benchkit.systems import Stand
from benchkit.turns import Channels, ChatPlayer

_SHORT: Final = 10
_TURNS: Final = 8  # between which the logs take turns; twice as many would have the long one compacted
_ROUNDS: Final = 5
_STARTS: Final = 3
_AT_ONCE: Final = 256


async def lengths(here: Stand, longest: int) -> Figures:
    """Play turns on a short log and a long one in turn, both with the same prompt; then read the long one again."""
    async with AsyncExitStack() as stack:
        system, _ = await stack.enter_async_context(here.service("lengths"))
        channels = Channels(system.target)
        stack.push_async_callback(channels.close)
        logs = [await _filled(channels, events) for events in (_SHORT, longest)]
        costs: list[list[float]] = [[], []]
        for _ in range(_ROUNDS):
            for log, cost in zip(logs, costs, strict=True):
                cost.append(await _turn_cost(log, system.pids))
        short, long = (statistics.median(cost) for cost in costs)
        for log in logs:
            await log.close()
        fresh, _ = await stack.enter_async_context(here.service("replay"))
        others = Channels(fresh.target)
        stack.push_async_callback(others.close)
        began = time.monotonic()
        events = await _replay(others, logs[1].session_id)
        took = time.monotonic() - began
    return {
        f"CPU ms/turn at {_SHORT} events": short,
        "CPU ms/turn at a long log": long,
        "events of the long log": events,
        "replayed events/s": events / took,
    }


async def _filled(channels: Channels, events: int) -> ChatPlayer:
    """Return a session whose log is filled with lists of tools, which no prompt shows, warm from a few turns."""
    player = ChatPlayer(channels.one(), bare=False)
    await player.open()
    submit: Any = chat_service_pb2_grpc.ChatServiceStub(channels.one()).SubmitFrame
    for first in range(0, events, _AT_ONCE):
        frames = range(first, min(first + _AT_ONCE, events))
        await asyncio.gather(*(submit(_filler(player.session_id, number)) for number in frames))
    for _ in range(5):
        await player.play("delay=0 tokens=64")
    return player


async def _turn_cost(player: ChatPlayer, pids: Sequence[int]) -> float:
    before = cpu_seconds(pids)
    for _ in range(_TURNS):
        await player.play("delay=0 tokens=64")
    return (cpu_seconds(pids) - before) * 1000 / _TURNS


def _filler(session_id: str, number: int) -> v1.SubmitFrameRequest:
    tools = v1.UpdateTools(tools=[v1.ToolSpec(name=f"tool_{number % 2}", input_schema_json='{"type": "object"}')])
    frame = v1.ChatRequest(frame_id=f"fill-{number}", update_tools=tools)
    return v1.SubmitFrameRequest(session_id=session_id, client_id="bench", frame=frame)


async def _replay(channels: Channels, session_id: str) -> int:
    """Attach from the beginning, and count the events until the stream has caught up."""
    call: Any = chat_service_pb2_grpc.ChatServiceStub(channels.one()).Chat()
    hello = v1.ChatHello(session_id=session_id, client_id="replay", protocol_version=1, role=v1.ATTACH_ROLE_OBSERVER)
    await call.write(v1.ChatRequest(hello=hello))
    events = 0
    while (kind := (await call.read()).WhichOneof("frame")) != "caught_up":
        events += kind == "event"
    call.cancel()
    return events


async def start(here: Stand) -> Figures:
    """Start the service on stores that run and have been used, from the start of its process until it serves."""
    took = []
    for number in range(_STARTS):
        began = time.monotonic()
        async with here.service(f"start {number}"):
            took.append(time.monotonic() - began)
    return {"serves after s": statistics.median(took)}


async def recovery(here: Stand) -> Figures:
    """Kill the server that runs a turn, and see on another how long until the turn is taken over, and finished."""
    async with AsyncExitStack() as stack:
        doomed, process = await stack.enter_async_context(here.service("doomed"))
        other, _ = await stack.enter_async_context(here.service("other"))
        first, second = Channels(doomed.target), Channels(other.target)
        stack.push_async_callback(first.close)
        stack.push_async_callback(second.close)
        session_id = await _begin_turn(first.one())
        watch: Any = chat_service_pb2_grpc.ChatServiceStub(second.one()).Chat()
        hello = v1.ChatHello(session_id=session_id, client_id="w", protocol_version=1, role=v1.ATTACH_ROLE_OBSERVER)
        await watch.write(v1.ChatRequest(hello=hello))
        await _until(watch, "turn_started")
        killed = time.monotonic()
        process.kill()
        recovered = await _until(watch, "turn_recovered") - killed
        finished = await _until(watch, "turn_finished") - killed
        watch.cancel()
    return {"taken over s": recovered, "finished s": finished}


async def _begin_turn(channel: grpc.aio.Channel) -> str:
    sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
    submit: Any = chat_service_pb2_grpc.ChatServiceStub(channel).SubmitFrame
    answer = await sessions.CreateSession(v1.CreateSessionRequest(agent_id="coder"))
    session_id = str(answer.session.session_id)
    message = v1.UserMessage(parts=[v1.Part(text="delay=50 tokens=64")])
    frame = v1.ChatRequest(frame_id="begin", user_message=message)
    await submit(v1.SubmitFrameRequest(session_id=session_id, client_id="bench", frame=frame))
    return session_id


async def _until(stream: Any, kind: str) -> float:
    """Read until an event of a kind, and return when it came."""
    async with asyncio.timeout(60):
        while not (await stream.read()).event.HasField(kind):
            pass
    return time.monotonic()
