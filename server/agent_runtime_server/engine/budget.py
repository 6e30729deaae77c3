"""What a turn and its session have spent of what they may: decided before each model call, from the log alone.

Before a call its cost is not known, so as much is set aside for it as the turn's last call took; what it really took
counts afterwards. A call for which too little is left is not made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.state import State, Turn
from agent_runtime_server.engine.turn import EXTEND, STOP

STEPS: Final = "turn.steps"
BYTES: Final = "turn.bytes"
NO_CALLS_TODAY: Final = "had all tool calls of today"
"""Ends what is said of calls that are more than a day allows."""


@dataclass(frozen=True, slots=True)
class Account:
    """One budget: its limit, what is used, what the next call needs, and after how much the user is asked."""

    name: str
    limit: int
    used: int
    needed: int = 0
    asks_at: int | None = None

    @property
    def ends(self) -> bool:
        """Whether the next call would go beyond the limit."""
        return self.used + self.needed > self.limit

    @property
    def reached(self) -> bool:
        """Whether there is something to do before the next call."""
        return self.ends or (self.asks_at is not None and self.used >= self.asks_at)

    def told(self) -> str:
        """Return what is used of it, in words."""
        what = self.name.partition(".")[2].replace("_", " ")
        if what == "cost":
            return f"{self.used / 1e6:.4f} of {self.limit / 1e6:.4f} that it may cost"
        return f"{self.used} of its {self.limit} {what}"


def accounts(state: State, turn: Turn, limits: Limits) -> Iterator[Account]:
    """Yield the budgets that are limited."""
    budget, last = limits.budget, turn.last_usage
    yield Account(STEPS, limits.turn_steps, turn.steps, 1)
    if limits.turn_bytes:
        yield Account(BYTES, limits.turn_bytes, turn.bytes)
    tokens, cost = max(1, tokens_of(last)), max(1, last.cost_micros)
    all_tokens = tokens_of(state.usage) + tokens_of(turn.usage)
    all_calls = state.usage.model_calls + turn.usage.model_calls
    worked = (state.worked_nanos + turn.worked_nanos(state.last_nanos)) // 1_000_000_000
    for name, limit, used, needed, granted in (
        ("turn.tokens", budget.tokens, tokens_of(turn.usage), tokens, turn.granted),
        ("turn.cost", budget.cost_micros, turn.usage.cost_micros, cost, turn.granted),
        ("turn.tool_calls", budget.tool_calls, turn.tool_calls, 0, turn.granted),
        ("session.tokens", budget.session_tokens, all_tokens, tokens, state.granted),
        (
            "session.cost",
            budget.session_cost_micros,
            state.usage.cost_micros + turn.usage.cost_micros,
            cost,
            state.granted,
        ),
        ("session.steps", budget.session_steps, all_calls, 1, state.granted),
        ("session.tool_calls", budget.session_tool_calls, state.tool_calls + turn.tool_calls, 0, state.granted),
        ("session.seconds", budget.session_seconds, worked, 1, state.granted),
    ):
        if limit:
            part = max(1, limit * budget.ask_percent // 100)
            asks_at = granted.get(name, 0) + part if budget.ask_percent else None
            yield Account(name, limit, used, needed, asks_at)


def reached(state: State, limits: Limits) -> Account | None:
    """Return the budget that keeps the next call from being made, one that ends the turn before one that asks."""
    if state.turn is None:
        return None
    found = [account for account in accounts(state, state.turn, limits) if account.reached]
    return min(found, key=lambda account: not account.ends, default=None)


def exceeded(account: Account) -> CallerError:
    """Return the error of a turn for whose next call too little is left."""
    message = f"the {_owner(account)} used {account.told()}, too much for another model call"
    if account.name == STEPS:
        message = f"the turn took its {account.limit} steps; say how to go on in a new message"
    metadata = {"budget": account.name, "limit": str(account.limit), "used": str(account.used)}
    return CallerError(v1.ERROR_REASON_TURN_BUDGET_EXCEEDED, message, metadata=metadata)


def declined(use: v1.BudgetUse) -> CallerError:
    """Return the error of a turn that the user does not want to cost more."""
    metadata = {"budget": use.budget, "limit": str(use.limit), "used": str(use.used)}
    message = "the user chose to stop when asked whether to go on"
    return CallerError(v1.ERROR_REASON_TURN_BUDGET_EXCEEDED, message, metadata=metadata)


def question(account: Account, question_id: str, agent_id: str) -> v1.Question:
    """Return the question whether to go on."""
    asked = v1.Question(
        question_id=question_id,
        agent_id=agent_id,
        text=f"This {_owner(account)} has used {account.told()}. Go on?",
        budget=v1.BudgetUse(budget=account.name, used=account.used, limit=account.limit),
    )
    asked.options.add(option_id=EXTEND, label="Go on")
    asked.options.add(option_id=STOP, label="Stop here")
    return asked


def tokens_of(usage: v1.Usage) -> int:
    """Return the tokens that models read and wrote."""
    return usage.input_tokens + usage.output_tokens


def _owner(account: Account) -> str:
    return account.name.partition(".")[0]
