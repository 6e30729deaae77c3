"""Whatever happens, in whatever order: every transcript is one that any provider accepts."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.agents.prompt import messages
from agent_runtime_server.core.errors import CallerError, ModelUnavailable
from agent_runtime_server.engine import frames, settle, steps
from agent_runtime_server.engine.limits import Budget, Limits
from agent_runtime_server.engine.state import Phase
from agent_runtime_server.engine.turn import Route, TakeStep, next_effect
from enginekit.rules import log_problems, transcript_problems

from .world import SECOND, World

PATHS = ["a.py", "b.py", "docs/c.md", "docs"]
STATUSES = [status for status in v1.ToolResult.Status.values() if status]
EDITS = ['{"path": "b.py", "content": "y"}', '{"path": "c.md", "content": "y"}', '{"command": "true"}', "{"]


class Chaos:
    """Users, models, clients, reviewers, clocks and crashes, as chance has it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        action = self.random.choice(["reject", "approve", "wait"])
        limits = Limits(
            approval_action=action,  # type: ignore[arg-type]
            turn_steps=self.random.randint(2, 12),
            turn_handoffs=2,
            park_seconds=self.random.choice([0, 60, 1800]),
            calls_per_step=4,
            budget=Budget(
                tokens=self.random.choice([0, 0, 50]),
                tool_calls=self.random.choice([0, 9]),
                session_tokens=self.random.choice([0, 0, 200]),
                ask_percent=self.random.choice([0, 40]),
            ),
        )
        self.world = World(agent_id=self.random.choice(["orchestrator", "coder", "debug"]), limits=limits)
        self.actions: list[tuple[int, Callable[[], object]]] = [
            (4, self.user_speaks),
            (8, self.somebody_takes_the_effect),
            (1, self.model_fails),
            (2, self.no_model_answers),
            (1, self.answer_breaks_off),
            (3, self.model_is_back),
            (9, self.client_reports),
            (4, self.client_starts),
            (7, self.reviewer_decides),
            (1, self.user_cancels),
            (1, self.user_switches),
            (2, self.time_passes),
            (2, self.server_crashes),
        ]

    def act(self) -> None:
        weights = [weight for weight, _ in self.actions]
        _, action = self.random.choices(self.actions, weights)[0]
        with suppress(CallerError):  # a refusal is an answer too
            action()

    def user_speaks(self) -> None:
        turn = self.world.state.turn
        message = v1.UserMessage(agent_id=self.random.choice(["", "", "coder", "architect", "nobody"]))
        message.parts.add(text="do it")
        message.delivery = self.random.choice(v1.MessageDelivery.values())
        if turn is not None and turn.question is not None and self.random.random() < 0.7:
            message.question_id = turn.question.question_id
            offered = [option.option_id for option in turn.question.options]
            message.option_ids.append(self.random.choice([*offered, "7"]))
        self.world.commit(lambda draft: frames.user_message(draft, self.world.sender(), message))

    def somebody_takes_the_effect(self) -> None:
        effect = next_effect(self.world.state)
        if isinstance(effect, Route):
            agent = self.random.choice(["coder", "debug", "architect"])
            decided = v1.RoutingDecided(agent_id=agent, source=v1.ROUTING_SOURCE_MODEL)
            self.world.commit(lambda draft: settle.choose(draft, decided))
        elif isinstance(effect, TakeStep):
            calls = [self.some_call() for _ in range(self.random.choice([0, 1, 1, 2, 3, 6]))]
            self.world.answer(*calls, text=self.random.choice(["", "text"]))

    def some_call(self) -> tuple[str, str]:
        path = self.random.choice(PATHS)
        return self.random.choice(
            [
                ("read_file", json.dumps({"path": path})),
                ("write_file", json.dumps({"path": path, "content": "x"})),
                ("write_file", json.dumps({"path": path, "content": "x"})),
                ("execute_command", '{"command": "make"}'),
                ("ask_followup_question", '{"question": "which?", "options": ["one", "two"]}'),
                ("attempt_completion", '{"result": "done"}'),
                ("switch_agent", json.dumps({"agent": self.random.choice(["debug", "coder"]), "reason": "r"})),
                ("no such tool", "{}"),
                ("read_file", self.random.choice(["{", "[]", '{"path": 3}'])),
            ]
        )

    def model_fails(self) -> None:
        if next_effect(self.world.state) is not None:
            self.world.commit(lambda draft: steps.failed(draft, ModelUnavailable("down")))

    def no_model_answers(self) -> None:
        asked = self.random.choice([None, timedelta(seconds=5), timedelta(seconds=5000)])
        if isinstance(next_effect(self.world.state), TakeStep):
            self.world.commit(lambda draft: steps.unavailable(draft, ModelUnavailable("down", retry_delay=asked)))

    def answer_breaks_off(self) -> None:
        if isinstance(next_effect(self.world.state), TakeStep):
            self.world.commit(lambda draft: steps.broke_off(draft, ModelUnavailable("cut")))

    def model_is_back(self) -> None:
        self.world.commit(settle.resume)

    def some_call_id(self) -> str:
        turn = self.world.state.turn
        open_ids = [call.call.call_id for call in turn.open_calls] if turn is not None else []
        if open_ids and self.random.random() < 0.8:
            return self.random.choice(open_ids)
        return self.random.choice([*self.world.state.calls, "call-unknown"])

    def client_reports(self) -> None:
        status = self.random.choice([v1.ToolResult.STATUS_SUCCEEDED, self.random.choice(STATUSES)])
        self.world.result(self.some_call_id(), status)

    def client_starts(self) -> None:
        client_id = self.random.choice(["c1", "c1", "c2"])
        started = v1.ToolCallStarted(call_id=self.some_call_id())
        sender = self.world.sender(client_id=client_id, observer=self.random.random() < 0.1)
        self.world.commit(lambda draft: frames.tool_call_started(draft, sender, started))

    def reviewer_decides(self) -> None:
        if not self.world.open_approvals():
            return
        verdict = self.random.choice([value for value in v1.ApprovalVerdict.values() if value])
        edits = self.random.choice(EDITS) if verdict == v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS else ""
        self.world.decide(verdict, edits=edits, index=self.random.choice([0, -1]))

    def user_cancels(self) -> None:
        turn_id = self.random.choice(["", "", *(queued.turn_id for queued in self.world.state.queue)])
        self.world.cancel(turn_id, drop_queue=self.random.random() < 0.3)

    def user_switches(self) -> None:
        switch = v1.SwitchAgent(agent_id=self.random.choice(["coder", "ask", "nobody"]))
        self.world.commit(lambda draft: frames.switch_agent(draft, self.world.sender(), switch))

    def time_passes(self) -> None:
        self.world.wait(self.random.choice([1, 11, 61, 301, 700, 2000]))

    def server_crashes(self) -> None:
        self.world.crash()
        if next_effect(self.world.state) is not None:
            self.world.commit(lambda draft: steps.recovered(draft, v1.TurnRecovered.CAUSE_OWNER_LOST))

    def end(self) -> None:
        self.world.commit(lambda draft: settle.close(draft, "end", v1.Actor()))


def check_log(world: World) -> None:
    assert not [*log_problems(world.log)]


def check_transcript(world: World) -> None:
    said = messages(world.agents.get(world.state.agent_id), world.state.transcript, others=())
    assert not [*transcript_problems(said)]


def check_progress(world: World) -> None:
    """The model is asked only when no call is open, and nobody waits for nothing."""
    turn = world.state.turn
    if turn is None:
        assert not world.state.queue or world.state.closed
        return
    if next_effect(world.state) is not None:
        assert not turn.open_calls
    elif turn.parked is not None:
        assert not turn.open_calls
        assert turn.state == v1.TURN_STATE_PARKED
        assert turn.parked.deadline_nanos <= world.nanos + int(world.limits.park_seconds * SECOND)
    elif turn.question is None:
        assert {call.phase for call in turn.open_calls} & {Phase.ASKED, Phase.DISPATCHED, Phase.STARTED}


@pytest.mark.timeout(300)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_history_is_valid(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(120):
        chaos.act()
        check_progress(chaos.world)
        check_transcript(chaos.world)
    check_log(chaos.world)
    chaos.end()
    chaos.world.crash()
    check_log(chaos.world)
    finished = Counter(event.turn_id for event in chaos.world.log if event.HasField("turn_finished"))
    asked = {event.turn_id for event in chaos.world.log if event.HasField("user_message")}
    assert finished == Counter(dict.fromkeys(asked, 1)), "every turn ends exactly once"
