"""The ids that a server has told: what is fuzzed with them gets further than what is fuzzed with others."""

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from random import Random
from typing import Final

from google.protobuf.message import Message

_NAMES: Final = frozenset(
    {"call_id", "approval_id", "arguments_sha256", "turn_id", "question_id", "next_page_token", "resume_token"}
)
_MOST: Final = 64
_OFTEN_NEW: Final = 0.9


class Known:
    """The last values of each name; a random generator is asked as often whatever is known, so that seeds repeat."""

    def __init__(self, given: Mapping[str, Iterable[str]]) -> None:
        self._values: dict[str, deque[str]] = {name: deque(values, _MOST) for name, values in given.items()}
        self.heads: dict[str, int] = {}  # of sessions

    def pick(self, name: str, random: Random) -> str:
        """Return a value of a name, empty when none is known."""
        place = random.getrandbits(32)
        values = self._values.get(name)
        return values[place % len(values)] if values else ""

    def again(self, name: str, new: str, random: Random) -> str:
        """Return the new value and remember it, or now and then a remembered one."""
        known = self.pick(name, random)
        if random.random() > _OFTEN_NEW and known:
            return known
        self.note(name, new)
        return new

    def note(self, name: str, value: str) -> None:
        """Remember a value."""
        self._values.setdefault(name, deque(maxlen=_MOST)).append(value)

    def forget(self, name: str, value: str) -> None:
        """Pick a value no more."""
        with suppress(ValueError):
            self._values[name].remove(value)

    def learn(self, message: Message) -> None:
        """Remember the ids in a message."""
        for field, value in message.ListFields():
            if field.message_type is None:
                if field.name in _NAMES and value and isinstance(value, str):
                    self.note(field.name, value)
            elif isinstance(value, Message):
                self.learn(value)
            elif not field.message_type.GetOptions().map_entry:
                for one in value[:3]:
                    self.learn(one)
