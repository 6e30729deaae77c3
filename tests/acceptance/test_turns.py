"""Turns as the contract tells them, spoken frame by frame to a real server."""

import hashlib
import json

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer
from servicekit.model import Asked, asked, calls, messages, says
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


async def test_a_result_is_taken_once_and_without_a_start(service: Service, model: MockServer) -> None:
    model.use([calls(("list_files", {"path": "."}), ("read_file", {"path": "a"})), says("Done.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("look")
        listing, reading = await chat.calls(2)
        assert (await chat.result(listing.call_id)).outcome == v1.FrameAck.OUTCOME_ACCEPTED
        assert (await chat.result(listing.call_id, "another")).error.reason == "TOOL_RESULT_CONFLICT"
        assert (await chat.result("call-of-nobody")).error.reason == "TOOL_CALL_NOT_FOUND"
        await chat.result(reading.call_id)
        await chat.finished()
        late = await chat.result(reading.call_id)
    assert late.error.reason == "TURN_ALREADY_FINISHED"
    assert chat.kinds().count("tool_call_completed") == 2


async def test_a_call_that_breaks_its_schema_never_reaches_the_client(service: Service, model: MockServer) -> None:
    wrong: list[Asked] = [("read_file", {"file": "a"}), ("read_file", '{"path": '), ("no_such_tool", {})]
    model.use([calls(*wrong), says("I see.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("go wrong")
        assert (await chat.finished()).state == v1.TURN_STATE_COMPLETED
    assert "tool_call_dispatched" not in chat.kinds()
    results = [e.tool_call_completed.result for e in chat.events if e.HasField("tool_call_completed")]
    assert [result.status for result in results] == [v1.ToolResult.STATUS_FAILED] * 3
    assert [result.source for result in results] == [v1.ToolResult.SOURCE_SERVER] * 3
    told = [m["content"] for m in messages(model) if m["role"] == "tool"]
    assert len(told) == 3
    assert "path" in told[0]
    assert "JSON" in told[1]
    assert "no_such_tool" in told[2]


async def test_the_orchestrator_lets_a_model_choose_the_agent(service: Service, model: MockServer) -> None:
    choice = json.dumps({"agent": "ask", "confidence": "high", "reasoning": "It is a question."})
    model.use([says(f"```json\n{choice}\n```", match={"has_tools": False}), says("Forty-two.")])
    async with service.chat(await service.new_session("")) as chat:
        await chat.say("What is it?")
        await chat.finished()
        await chat.say("And why?")
        await chat.finished(1)
    first, second = (e.routing_decided for e in chat.events if e.HasField("routing_decided"))
    assert (first.agent_id, first.source) == ("ask", v1.ROUTING_SOURCE_MODEL)
    assert (first.confidence, first.reasoning) == (v1.ROUTING_CONFIDENCE_HIGH, "It is a question.")
    assert (second.agent_id, second.source) == ("ask", v1.ROUTING_SOURCE_STICKY)
    assert len(asked(model)) == 3


async def test_a_message_may_name_its_agent(service: Service, model: MockServer) -> None:
    model.use([says("Here.")])
    async with service.chat(await service.new_session("")) as chat:
        await chat.say("you there", agent_id="debug")
        await chat.finished()
        unknown = await chat.say("and you", agent_id="nobody")
    decided = (await chat.event("routing_decided")).routing_decided
    assert (decided.agent_id, decided.source) == ("debug", v1.ROUTING_SOURCE_EXPLICIT)
    assert [("tools" in request) for request in asked(model)] == [True]
    assert unknown.error.reason == "AGENT_NOT_FOUND"


async def test_the_user_puts_another_agent_in_charge(service: Service, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"})), says("Done.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("look")
        (call,) = await chat.calls(1)
        switched = await chat.submit(switch_agent=v1.SwitchAgent(agent_id="debug", reason="it crashes"))
        refused = await chat.submit(switch_agent=v1.SwitchAgent(agent_id="nobody"))
        await chat.result(call.call_id)
        await chat.finished()
    handoff = await chat.event("agent_handoff")
    assert handoff.seq == switched.seq
    assert (handoff.agent_handoff.from_agent_id, handoff.agent_handoff.to_agent_id) == ("coder", "debug")
    assert refused.error.reason == "AGENT_NOT_FOUND"
    spoke = [e.assistant_message.agent_id for e in chat.events if e.HasField("assistant_message")]
    assert spoke == ["coder", "debug"]


async def test_an_agent_hands_the_turn_over(service: Service, model: MockServer) -> None:
    model.use([calls(("switch_agent", {"agent": "coder", "reason": "write it"})), says("Written.")])
    async with service.chat(await service.new_session("debug")) as chat:
        await chat.say("repair it")
        await chat.finished()
    assert "tool_call_dispatched" not in chat.kinds()
    assert (await chat.event("agent_handoff")).agent_handoff.to_agent_id == "coder"
    assert "execute_command" in {tool["function"]["name"] for tool in asked(model)[1]["tools"]}


async def test_a_question_waits_for_its_answer(service: Service, model: MockServer) -> None:
    question = {"question": "Which one?", "options": ["the red", "the blue"]}
    model.use([calls(("ask_followup_question", question)), says("The blue, then.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("paint it")
        asked_event = await chat.event("question_asked")
        session = (await service.sessions.GetSession(v1.GetSessionRequest(session_id=session_id))).session
        assert session.current_turn.state == v1.TURN_STATE_WAITING_FOR_USER
        assert session.current_turn.open_question == asked_event.question_asked.question
        wrong = await chat.say("hm", question_id="another")
        options = asked_event.question_asked.question.options
        answered = await chat.say("please", option_ids=[options[1].option_id])
        await chat.finished()
    assert wrong.error.field_violations[0].field == "user_message.question_id"
    answer = chat.events[answered.seq - 1]
    assert answer.turn_id == asked_event.turn_id
    assert chat.kinds().count("turn_started") == 1
    assert messages(model)[-1]["role"] == "tool"
    assert messages(model)[-1]["content"] == "the blue\nplease"


async def test_attempt_completion_ends_the_turn_with_its_text(service: Service, model: MockServer) -> None:
    model.use([calls(("attempt_completion", {"result": "All is well."}))])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("finish")
        assert (await chat.finished()).state == v1.TURN_STATE_COMPLETED
    assert chat.kinds()[-3:] == ["tool_call_completed", "assistant_message", "turn_finished"]
    assert chat.events[-2].assistant_message.parts[0].text == "All is well."
    assert len(asked(model)) == 1


async def test_messages_are_queued_and_each_ends_in_one_turn(service: Service, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"})), says("Done.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("first")
        (call,) = await chat.calls(1)
        second = await chat.say("second")
        assert chat.kinds().count("turn_started") == 1
        await chat.result(call.call_id)
        await chat.finished(1)
    ends = [e.turn_id for e in chat.events if e.HasField("turn_finished")]
    assert len(set(ends)) == 2
    assert chat.events[second.seq - 1].turn_id == ends[1]
    assert [m["content"] for m in messages(model) if m["role"] == "user"] == ["first", "second"]


async def test_cancelling_stops_the_model(service: Service, model: MockServer) -> None:
    model.use([says("I think and think", fault={"kind": "hang_mid", "after_tokens": 2})])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("think")
        await chat.frame("message_delta")
        cancelled = await chat.submit(frame_id="stop-1", cancel_turn=v1.CancelTurn(reason="enough"))
        finished = await chat.finished()
        again = await chat.submit(frame_id="stop-1", cancel_turn=v1.CancelTurn(reason="enough"))
        turn_id = chat.events[-1].turn_id
        other = await chat.submit(cancel_turn=v1.CancelTurn(turn_id=turn_id))
        nothing = await chat.submit(cancel_turn=v1.CancelTurn())
        model.use([says("Yes.")])
        await chat.say("still there?")
        await chat.finished(1)
    assert finished.state == v1.TURN_STATE_CANCELLED
    assert chat.events[cancelled.seq - 1].turn_cancel_requested.reason == "enough"
    assert (again.outcome, again.seq) == (v1.FrameAck.OUTCOME_DUPLICATE, cancelled.seq)
    assert other.error.reason == "TURN_ALREADY_FINISHED"
    assert nothing.error.reason == "TURN_NOT_FOUND"


async def test_cancelling_lets_the_client_stop_what_it_started(service: Service, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"}), ("read_file", {"path": "b"}))])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("read")
        started, idle = await chat.calls(2)
        await chat.submit(tool_call_started=v1.ToolCallStarted(call_id=started.call_id))
        await chat.submit(cancel_turn=v1.CancelTurn())
        first = (await chat.event("tool_call_completed")).tool_call_completed.result
        assert (first.call_id, first.status) == (idle.call_id, v1.ToolResult.STATUS_CANCELLED)
        await chat.result(started.call_id, "read after all")
        await chat.finished()
        late = await chat.result(idle.call_id)
    second = (await chat.event("tool_call_completed", 1)).tool_call_completed.result
    assert (second.call_id, second.status) == (started.call_id, v1.ToolResult.STATUS_SUCCEEDED)
    assert late.error.reason == "TURN_ALREADY_FINISHED"


async def test_a_model_that_refuses_fails_the_turn_and_not_the_session(service: Service, model: MockServer) -> None:
    model.use([says("", match={"times": 1}, fault={"kind": "status", "status": 400}), says("Better.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("one")
        failed = await chat.finished()
        await chat.say("two")
        assert (await chat.finished(1)).state == v1.TURN_STATE_COMPLETED
    assert failed.state == v1.TURN_STATE_FAILED
    assert failed.error.reason == "MODEL_REJECTED"
