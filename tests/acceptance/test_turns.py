"""Turns as the contract tells them, spoken frame by frame to a real server."""

import hashlib
import json

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer
from servicekit.model import asked, calls, messages, says
from servicekit.service import Service


async def test_a_turn_with_three_parallel_calls_is_told_in_order(service: Service, model: MockServer) -> None:
    paths = ["a.txt", "b.txt", "c.txt"]
    model.use([calls(*(("read_file", {"path": path}) for path in paths), text="I read them."), says("All read.")])
    async with service.chat(await service.new_session()) as chat:
        welcome = await chat.frame("welcome")
        await chat.caught_up()
        said = await chat.say("Read <all> of\nthem; \u00fc\U0001f600")
        a, b, c = await chat.calls(3)
        assert [json.loads(call.arguments_json)["path"] for call in (a, b, c)] == paths
        assert all(hashlib.sha256(x.arguments_json.encode()).hexdigest() == x.arguments_sha256 for x in (a, b, c))
        for call in (a, b, c):
            await chat.submit(tool_call_started=v1.ToolCallStarted(call_id=call.call_id))
        for call in (b, a, c):
            await chat.result(call.call_id, f"text of {call.arguments_json}")
        finished = await chat.finished()
    assert finished.state == v1.TURN_STATE_COMPLETED
    assert welcome.head_seq == said.seq - 1
    assert [event.seq for event in chat.events] == [*range(1, len(chat.events) + 1)]
    assert chat.kinds() == [
        "session_created", "executor_changed", "tools_updated",
        "user_message", "turn_started", "routing_decided",
        "assistant_message", *["tool_call_proposed"] * 3, *["tool_call_dispatched"] * 3,
        *["tool_call_started"] * 3, *["tool_call_completed"] * 3,
        "assistant_message", "turn_finished",
    ]  # fmt: skip
    told = [{"role": m["role"], "content": m["content"], "call": m.get("tool_call_id")} for m in messages(model)[1:]]
    assert told[0] == {"role": "user", "content": "Read <all> of\nthem; \u00fc\U0001f600", "call": None}
    assert [m["call"] for m in told[2:]] == [a.call_id, b.call_id, c.call_id]
    assert [m["content"] for m in told[2:]] == [f"text of {call.arguments_json}" for call in (a, b, c)]
    assert len(asked(model)) == 2
