"""Who calls, and what they may do."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent_runtime import v1

_TENANT: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # no slash and no colon: it stands in scopes and in log lines
_LONGEST_SUBJECT: Final = 256


class Role(StrEnum):
    """What somebody is in their tenant; a caller may have several."""

    USER = "user"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, and the tenant whose sessions are theirs to see."""

    tenant: str
    subject: str
    display_name: str = ""
    roles: frozenset[Role] = frozenset()
    expires: float | None = None
    """When their credential stops being good, in seconds since 1970."""
    key_id: str = ""
    """The API key they came with, if it was one."""

    def actor(self, kind: "v1.ActorKind.ValueType") -> v1.Actor:
        """Return the caller as the one who does something."""
        return v1.Actor(kind=kind, subject=self.subject, display_name=self.display_name)

    def is_one_of(self, roles: Iterable[Role]) -> bool:
        """Tell whether the caller has one of these roles; an admin has them all."""
        return Role.ADMIN in self.roles or not self.roles.isdisjoint(roles)


LOCAL: Final = Principal("local", "local", "local user", frozenset(Role))
"""The caller where nobody is asked for credentials."""


def is_tenant(text: str) -> bool:
    """Tell whether a text can name a tenant."""
    return _TENANT.fullmatch(text) is not None


def is_subject(text: str) -> bool:
    """Tell whether a text can name a subject."""
    return 0 < len(text) <= _LONGEST_SUBJECT and text.isprintable()
