"""Which calls of one answer have to wait for which earlier ones.

Calls of one answer run side by side unless they could disturb each other: reads never do; a write and anything else
do when one's path is the other's, or above or below it; a command may touch anything, so it waits and is waited for.
Each call names *every* earlier call it conflicts with. Leaving out those implied by others would be wrong: a call that
is refused is complete at once, before the ones it would have waited for.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeAlias

from agent_runtime import v1
from agent_runtime_server.tools import catalogue

_Place: TypeAlias = tuple[str, ...]
_ANYWHERE: Final[_Place] = ()


class _Kind(Enum):
    SERVER = auto()
    READ = auto()
    WRITE = auto()
    BARRIER = auto()


@dataclass(frozen=True, slots=True)
class _Footprint:
    kind: _Kind
    place: _Place = _ANYWHERE

    def conflicts_with(self, other: "_Footprint") -> bool:
        kinds = {self.kind, other.kind}
        if _Kind.SERVER in kinds or kinds == {_Kind.READ}:
            return False
        return _Kind.BARRIER in kinds or _overlap(self.place, other.place)


def dependencies(calls: Sequence[tuple[v1.ToolCall, Mapping[str, object]]]) -> list[list[str]]:
    """Return for each call, in order, the ids of the earlier calls that must be complete before it starts."""
    footprints = [_footprint(call, arguments) for call, arguments in calls]
    return [
        [calls[earlier][0].call_id for earlier in range(index) if footprint.conflicts_with(footprints[earlier])]
        for index, footprint in enumerate(footprints)
    ]


def _footprint(call: v1.ToolCall, arguments: Mapping[str, object]) -> _Footprint:
    if catalogue.is_server(call.tool_name):
        return _Footprint(_Kind.SERVER)
    standard = catalogue.STANDARD.get(call.tool_name)
    if standard is None:
        return _Footprint(_extra_kind(call.effect))
    if standard.effect == v1.TOOL_EFFECT_READ:
        return _Footprint(_Kind.READ, _place(arguments.get("path", ".")))
    if standard.effect == v1.TOOL_EFFECT_WRITE:
        return _Footprint(_Kind.WRITE, _place(arguments.get("path")))
    return _Footprint(_Kind.BARRIER)


def _extra_kind(effect: "v1.ToolEffect.ValueType") -> _Kind:
    # What the arguments of a foreign tool mean is not known: it reads or writes anywhere.
    return _Kind.READ if effect == v1.TOOL_EFFECT_READ else _Kind.BARRIER


def _place(path: object) -> _Place:
    """Return the steps from the workspace's root; anywhere, when words alone cannot tell where it leads."""
    if not isinstance(path, str) or "\\" in path or path.startswith(("/", "~")) or path[1:2] == ":":
        return _ANYWHERE
    steps: list[str] = []
    # Some file systems tell neither case nor composition apart: two names that may be one count as one.
    for step in unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold()).split("/"):
        if step == "..":
            if not steps:
                return _ANYWHERE
            steps.pop()
        elif step not in {"", "."}:
            steps.append(step)
    return tuple(steps)


def _overlap(one: _Place, other: _Place) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
