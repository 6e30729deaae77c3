"""What an operator limits: whose requests, turns or tokens, and to what rate."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent_runtime_server.core.buckets import Rate


class Scope(StrEnum):
    """Who shares a bucket."""

    USER = "user"
    TENANT = "tenant"
    GLOBAL = "global"


class Kind(StrEnum):
    """What is counted."""

    READ = "read"
    WRITE = "write"
    STREAM = "stream"
    REQUEST = "request"  # of any of these classes
    TURN = "turn"
    TOKEN = "token"  # noqa: S105 - those that models read and write


_PERIODS: Final[Mapping[str, int]] = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_WORDS: Final[Mapping[str, str]] = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
_QUOTA: Final = re.compile(r"([a-z]+)\.([a-z]+)=([0-9]{1,15})/([smhd])(?::([0-9]{1,15}))?")


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit."""

    scope: Scope
    kind: Kind
    rate: Rate

    @property
    def name(self) -> str:
        """What it is called where it refuses, such as `user.turn`."""
        return f"{self.scope}.{self.kind}"

    def bucket(self, tenant: str, subject: str) -> str:
        """Return the name of a caller's bucket; another period counts in other parts, so it is another bucket."""
        whose = {Scope.USER: f"{tenant}/{subject}", Scope.TENANT: tenant, Scope.GLOBAL: ""}[self.scope]
        return f"{self.name}/{self.rate.period_ms}:{whose}"

    def whose(self, tenant: str, subject: str) -> str:
        """Return who it limits, as refusals name them."""
        return {Scope.USER: f"user:{subject}", Scope.TENANT: f"tenant:{tenant}", Scope.GLOBAL: "global"}[self.scope]

    def __str__(self) -> str:
        word = next(_WORDS[letter] for letter, period in _PERIODS.items() if period == self.rate.period_ms)
        return f"{self.rate.amount} {self.kind}{'s' if self.rate.amount > 1 else ''} a {word}"


def parse(text: str) -> tuple[Quota, ...]:
    """Return the quotas of a text such as `user.turn=10/m, tenant.token=200000/m:50000`; raises ValueError."""
    quotas = tuple(_parse_one(one.strip()) for one in text.split(",") if one.strip())
    names = [quota.name for quota in quotas]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{twice[0]} is limited twice")
    return quotas


def _parse_one(text: str) -> Quota:
    match = _QUOTA.fullmatch(text)
    if match is None:
        message = f"{text[:80]!r} is no limit: write scope.kind=amount/period[:burst], such as user.turn=10/m:20"
        raise ValueError(message)
    scope, kind, amount, period, burst = match.groups()
    if scope not in [*Scope] or kind not in [*Kind]:
        raise ValueError(f"{scope}.{kind}: scopes are {', '.join(Scope)}; kinds are {', '.join(Kind)}")
    return Quota(Scope(scope), Kind(kind), Rate(int(amount), _PERIODS[period], int(burst or amount)))
