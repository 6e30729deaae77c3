"""Messages of any type, made from its descriptor: plausible values where a name says which, hostile ones in between."""

import math
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final
from uuid import UUID

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from fuzzkit.known import Known

_DEEPEST: Final = 5
_SELDOM: Final = 0.4  # is a field set that nobody waits for
_MEBIBYTE: Final = 1 << 20

TOOLS: Final = (
    "read_file",
    "list_files",
    "search_in_code",
    "write_file",
    "create_directory",
    "execute_command",
    "lint",
)
_AGENTS: Final = ("coder", "coder", "ask", "architect", "debug", "orchestrator", "")
_SAID: Final = (
    "hello",
    "create file a.txt with hi",
    "read file a.txt",
    "run ls",
    "list files",
    "search for x",
    "fix it",
)
_SCHEMAS: Final = (
    '{"type": "object"}',
    '{"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}',
    '{"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}}',
    '{"properties": {"path": {"pattern": "^(a+)+$"}}}',
)
_JSON: Final = (
    '{"path": "a.txt", "content": "hi"}',
    "{}",
    '{"path": "' + "a" * 60 + '!"}',
    '{"path": "../../etc/passwd"}',
)
_HOSTILE_SCHEMAS: Final = (
    '{"$ref": "http://127.0.0.1:1/schema.json"}',
    '{"properties": ' * 200 + "{}" + "}" * 200,
    '{"minimum": 1e400, "multipleOf": 0}',
)
_HOSTILE_JSON: Final = (
    "null",
    '{"a": 1e999}',
    '{"a": NaN}',
    '{"path": "\\ud800"}',
    '{"path": "\\u0000"}',
    "[" * 2000 + "]" * 2000,
    '{"a": ' + "9" * 5000 + "}",
    '{"a": 1, "a": 2}',
    '{"path":',
)
_HOSTILE_TEXTS: Final = (
    "",
    " ",
    "\0",
    "a\0b",
    "\u202eevil\u2066",
    "\ufeff",
    "\U0001f4a9" * 70,
    "\u2028\u2029\x85",
    "'; DROP TABLE sessions; --",
    "%s%n{0}{__class__}${jndi:ldap://x}",
    "../../etc/passwd",
    "\x1b[2J\x1b]0;x\x07",
    "x" * 65,
    "x" * 257,
    "x" * 1025,
    "e\u0301" * 500,
    "9" * 400,
    "-1",
    "NaN",
    "true",
    "\r\ndata: [DONE]\r\n\r\n",
    "A.b-C_d:e",
)
_HUGE_TEXTS: Final = tuple("x" * size for size in (65_537, _MEBIBYTE, _MEBIBYTE + 1, 3 << 19))
_INTS: Final = (0, 1, -1, 2, 127, 128, 500, 501, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_FLOATS: Final = (0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, math.inf, -math.inf, math.nan)
_RANGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_HOSTILE_OWN: Final = {
    "input_schema_json": _HOSTILE_SCHEMAS, "edited_arguments_json": _HOSTILE_JSON, "json": _HOSTILE_JSON,
}  # fmt: skip
_FRAMES: Final = {
    "hello": 0.5, "user_message": 6, "tool_call_started": 8, "tool_result": 12, "approval_decision": 8,
    "cancel_turn": 5, "update_tools": 4, "ack": 18, "tool_progress": 16, "ping": 14, "switch_agent": 4, "claim": 10,
    "release": 6, "decision": 10,
}  # fmt: skip
"""How often a stream's frames are of a kind."""
_KINDS: Final = ("user_message", "turn_finished", "tool_call_dispatched")
_SERVICES: Final = ("", "agent_runtime.v1.ChatService", "dependency.postgres", "dependency.llm")


class Shaper:
    """Makes messages; `hostility` is how likely a field is not as it should be."""

    def __init__(self, random: Random, known: Known, hostility: float) -> None:
        self._random = random
        self._known = known
        self._hostility = hostility

    def message(self, descriptor: Descriptor, **given: object) -> Message:
        """Return a message of a type, with these fields as they are given."""
        made = GetMessageClass(descriptor)(**given)
        self._fill(made, given, 0)
        return made

    def frame(self, descriptor: Descriptor) -> Message:
        """Return a frame of a stream, which is more often of a kind that the stream outlives."""
        kinds = [field for field in descriptor.oneofs_by_name["frame"].fields if field.name in _FRAMES]
        (kind,) = self._random.choices(kinds, [_FRAMES[field.name] for field in kinds])
        made = GetMessageClass(descriptor)()
        inner = getattr(made, kind.name)
        inner.SetInParent()
        self._fill(inner, {}, 1)
        if kind.name not in ("hello", "ack", "ping", "tool_progress") or self._hostile():
            made.frame_id = self._text("frame_id")  # type: ignore[attr-defined] # the descriptor has it
        return made

    def _fill(self, message: Any, given: Mapping[str, object], depth: int) -> None:
        chosen = {self._random.choice(oneof.fields).name for oneof in message.DESCRIPTOR.oneofs}
        for field in message.DESCRIPTOR.fields:
            in_oneof = field.containing_oneof is not None
            if field.name in given or (in_oneof and field.name not in chosen):
                continue
            wanted = in_oneof or field.name in _PLAUSIBLE or (field.message_type is not None and not field.is_repeated)
            if not self._hostile() if wanted else self._random.random() < _SELDOM:
                self._set(message, field, depth)

    def _set(self, message: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            pairs = getattr(message, field.name)
            for number in range(self._count(80)):
                pairs[self._text("label") if self._hostile() else f"key{number}"] = self._text("label")
        elif field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(self._count(_MOST_ITEMS.get(field.name, 150)) if depth < _DEEPEST else 0):
                if field.message_type is None:
                    values.append(self._value(field))
                else:
                    self._fill(values.add(), {}, depth + 2)
        elif field.message_type is not None:
            if depth < _DEEPEST:
                inner = getattr(message, field.name)
                inner.SetInParent()
                self._fill(inner, {}, depth + 1)
        else:
            setattr(message, field.name, self._value(field))

    def _count(self, many: int) -> int:
        return self._random.choice((0, 2, 3, 5, 9, 33, many)) if self._hostile() else self._random.choice((1, 1, 2))

    def _hostile(self) -> bool:
        return self._random.random() < self._hostility

    def _value(self, field: FieldDescriptor) -> object:
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            text = self._text(field.name)
            return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None, "an enum has a type"
            numbers = [value.number for value in field.enum_type.values]
            return self._random.choice((-1, 99, 2**31 - 1)) if self._hostile() else self._random.choice(numbers)
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self._random.random() < 0.5
        if field.cpp_type in _RANGES:
            return self._number(field)
        return self._random.choice(_FLOATS) if self._hostile() else self._random.random()

    def _number(self, field: FieldDescriptor) -> int:
        least, most = _RANGES[field.cpp_type]
        if self._hostile():
            return min(max(self._random.choice(_INTS), least), most)
        return _NUMBERS.get(field.name, self._random.randrange(12))

    def _text(self, name: str) -> str:
        if self._hostile():
            huge = self._random.random() < 0.003
            own = _HOSTILE_OWN.get(name, ()) if self._random.random() < 0.5 else ()
            return self._random.choice(own or (_HUGE_TEXTS if huge else _HOSTILE_TEXTS))
        plausible = _PLAUSIBLE.get(name)
        return plausible(self._random, self._known) if plausible is not None else "some words"


def fresh_id(random: Random) -> str:
    """Return an id that no other call gives."""
    return f"{random.getrandbits(96):x}"


def _one_of(values: Sequence[str]) -> Callable[[Random, Known], str]:
    return lambda random, _: random.choice(values)


def _known(name: str, otherwise: str = "nothing") -> Callable[[Random, Known], str]:
    return lambda random, known: known.pick(name, random) or otherwise


def _tag(random: Random, known: Known) -> str:
    """Return an id for a frame: mostly a new one, sometimes one that was there before."""
    return known.again("frame_id", fresh_id(random), random)


_PLAUSIBLE: Final[Mapping[str, Callable[[Random, Known], str]]] = {
    "frame_id": _tag,
    "request_id": lambda random, _: str(UUID(int=random.getrandbits(128), version=4)),
    "session_id": _known("session_id"),
    "session_ids": _known("session_id"),
    "new_session_id": lambda random, _: random.choice(("", fresh_id(random))),
    "client_id": _one_of(("ide", "ide", "window")),
    "agent_id": _one_of(_AGENTS),
    "agent_ids": _one_of(_AGENTS),
    "call_id": _known("call_id"),
    "approval_id": _known("approval_id"),
    "arguments_sha256": _known("arguments_sha256", "0" * 64),
    "turn_id": lambda random, known: random.choice(("", known.pick("turn_id", random))),
    "question_id": lambda random, known: random.choice(("", "", known.pick("question_id", random))),
    "option_ids": _one_of(("extend", "stop")),
    "page_token": lambda random, known: random.choice(("", known.pick("next_page_token", random))),
    "resume_token": lambda random, known: random.choice(("", "", "", "", "", "", known.pick("resume_token", random))),
    "name": _one_of(TOOLS),
    "input_schema_json": _one_of(_SCHEMAS),
    "edited_arguments_json": _one_of(("", *_JSON)),
    "json": _one_of(_JSON),
    "text": _one_of(_SAID),
    "uri": _one_of(("file:///a.txt", "http://127.0.0.1:1/")),
    "label": _one_of(("", "red", "blue")),
    "event_types": _one_of(_KINDS),
    "paths": _one_of(("title", "labels", "labels.key0", "session_id", "*")),
    "first_day": _one_of(("", "2026-01-31", "0001-01-01")),
    "last_day": _one_of(("", "2026-01-31", "9999-12-31")),
    "service": _one_of(_SERVICES),
    "file_containing_symbol": _one_of(("agent_runtime.v1.ChatService", "agent_runtime.v1.ChatService.Chat", ".")),
    "file_by_filename": _one_of(("agent_runtime/v1/event.proto", "../x")),
    "protocol_version": _one_of(("1",)),
}  # fmt: skip
_NUMBERS: Final = {"protocol_version": 1, "after_seq": 0, "expected_revision": 1, "max_unacked_events": 0}
_MOST_ITEMS: Final = {"parts": 40, "context": 70, "content": 40, "tools": 130}
