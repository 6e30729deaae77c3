"""What users and tenants spend in a day: set aside before a model is asked, counted when it has answered.

What their turns take beside models, tool calls and time, is counted with each commit.

Postgres has the totals. A replica adds what it counts about once a second and then knows those of its own spenders
anew, so that what the others spend meanwhile is the most by which a day's limit can be passed.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import structlog

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.engine.budget import NO_CALLS_TODAY, tokens_of
from agent_runtime_server.engine.turn import add_usage
from agent_runtime_server.stores.shared import Spender, UsageStore

_log = structlog.get_logger(__name__)

_FLUSH_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class DayBudget:
    """What may be spent in a day (UTC); 0 is no limit."""

    tokens: int = 0
    cost_micros: int = 0
    steps: int = 0
    tool_calls: int = 0
    seconds: int = 0


@dataclass(slots=True)
class Ledger:
    """Counts for this replica; `run` must run while it is used."""

    store: UsageStore
    today: Callable[[], date]
    per_user: DayBudget = DayBudget()
    per_tenant: DayBudget = DayBudget()
    _day: date = date.min
    _known: dict[Spender, v1.Usage] = field(default_factory=dict)  # as the store had them, of whoever spends here
    _counted: dict[tuple[Spender, date], v1.Usage] = field(default_factory=dict)  # and is not in the store yet
    _adding: dict[tuple[Spender, date], v1.Usage] = field(default_factory=dict)  # or is on its way to it
    _late: bool = False  # for the store was away the last time
    _held: dict[Spender, list[v1.Usage]] = field(default_factory=dict)  # for calls under way

    bounds: bool = field(init=False)
    """Whether there is a limit for anybody."""

    def __post_init__(self) -> None:
        self.bounds = not self.per_user == self.per_tenant == DayBudget()

    async def look(self, spender: Spender) -> None:
        """Learn what was spent today, where that matters and is not known; raises StoreUnavailable."""
        if not self.bounds:
            return
        if self._day != self.today():
            self._day, self._known = self.today(), {}
        if spender not in self._known:
            await self._learn([spender])

    @contextmanager
    def call(self, spender: Spender, expected: v1.Usage) -> Iterator[None]:
        """Set aside what a model call is expected to take, while the block runs; raises TURN_BUDGET_EXCEEDED."""
        tenant = Spender(spender.tenant, "")
        expected = _one_call(expected)
        self._check(spender, self.per_user, expected)
        self._check(tenant, self.per_tenant, expected)
        both = [self._held.setdefault(one, []) for one in (spender, tenant)]
        for held in both:
            held.append(expected)
        try:
            yield
        finally:
            for one, held in zip((spender, tenant), both, strict=True):
                held.remove(expected)
                if not held:
                    self._held.pop(one, None)

    def count(self, spender: Spender, usage: v1.Usage) -> None:
        """Count what an answer took, or a commit has added."""
        add_usage(self._counted.setdefault((spender, self.today()), v1.Usage()), usage)

    def beyond(self, spender: Spender, calls: int) -> Mapping[int, str]:
        """Return which of an answer's calls, by their index, are more than the tool calls of today, and why."""
        refused: dict[int, str] = {}
        for one, budget in ((spender, self.per_user), (Spender(spender.tenant, ""), self.per_tenant)):
            if budget.tool_calls:
                left = max(0, budget.tool_calls - self._used(one).tool_calls)
                why = f"the {_kind(one)} {NO_CALLS_TODAY}"
                refused |= dict.fromkeys(range(left, calls), why)
        return refused

    def _check(self, spender: Spender, budget: DayBudget, expected: v1.Usage) -> None:
        if budget == DayBudget():
            return
        used = self._used(spender)
        for name, limit, spent, needed in (
            ("tokens", budget.tokens, tokens_of(used), max(1, tokens_of(expected))),
            ("cost", budget.cost_micros, used.cost_micros, max(1, expected.cost_micros)),
            ("steps", budget.steps, used.model_calls, 1),
            ("tool_calls", budget.tool_calls, used.tool_calls, 0),
            ("seconds", budget.seconds, used.worked_millis // 1000, max(1, expected.worked_millis // 1000)),
        ):
            if limit and spent + needed > limit:
                raise _exceeded(_kind(spender), name, limit, spent)

    def _used(self, spender: Spender) -> v1.Usage:
        """Return what was spent today and what is set aside."""
        used = v1.Usage()
        add_usage(used, self._known.get(spender, v1.Usage()))
        for (one, day), usage in (*self._counted.items(), *self._adding.items()):
            if day == self._day and one.tenant == spender.tenant and spender.subject in ("", one.subject):
                add_usage(used, usage)
        for usage in self._held.get(spender, ()):
            add_usage(used, usage)
        return used

    async def run(self) -> None:
        """Keep the totals until cancelled, and what was counted beyond that."""
        try:
            while True:
                await asyncio.sleep(_FLUSH_SECONDS)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Add what was counted to the totals, and learn anew those of who has spent or is about to."""
        counted, self._counted, self._adding = self._counted, {}, self._counted
        try:
            if counted:
                await self.store.add(counted)
        except BaseException as error:
            for key, usage in counted.items():
                add_usage(self._counted.setdefault(key, v1.Usage()), usage)
            self._adding = {}
            if not isinstance(error, StoreUnavailable):
                raise
            if not self._late:
                _log.warning("usage is counted later", error=str(error))
            self._late = True
            return
        self._late = False
        active = {spender for spender, _ in counted} | {spender for spender in self._held if spender.subject}
        self._known = {one: used for one, used in self._known.items() if one in active or not one.subject}
        try:
            if self._known:
                await self._learn([one for one in active if one in self._known])
        except StoreUnavailable as error:
            _log.warning("what was spent is not known", error=str(error))
            self._known = {}
        finally:
            self._adding = {}

    async def _learn(self, spenders: list[Spender]) -> None:
        day = self._day
        totals = await self.store.totals(day, spenders)
        if day == self._day:
            for spender in spenders:
                for one in (spender, Spender(spender.tenant, "")):
                    self._known[one] = totals.get(one, v1.Usage())


def _one_call(expected: v1.Usage) -> v1.Usage:
    """Return what a call is expected to take, which is one call whatever it takes else."""
    one = v1.Usage()
    one.CopyFrom(expected)
    one.model_calls = 1
    return one


def _kind(spender: Spender) -> str:
    return "user" if spender.subject else "tenant"


def _exceeded(kind: str, name: str, limit: int, used: int) -> CallerError:
    message = (
        f"the {kind}'s budget of today is used up or set aside for calls under way; it begins anew at midnight UTC"
    )
    metadata = {"budget": f"{kind}.day.{name}", "limit": str(limit), "used": str(used)}
    return CallerError(v1.ERROR_REASON_TURN_BUDGET_EXCEEDED, message, metadata=metadata)
