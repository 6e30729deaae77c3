"""The updates of a chat as pieces to print, each piece of text once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from rich.text import Text

from agent_runtime import v1
from agent_runtime_client import updates
from agent_runtime_client.terminal import calls, render
from agent_runtime_client.terminal.state import SessionView
from agent_runtime_client.terminal.text import clean


class Voice(Enum):
    """Who a streamed text is from."""

    ANSWER = auto()
    REASONING = auto()
    OUTPUT = auto()


@dataclass(frozen=True)
class Chunk:
    """Streamed text that continues the former chunk of the same key."""

    key: str
    voice: Voice
    text: str


@dataclass(frozen=True)
class Line:
    """Whole lines."""

    text: Text


Piece = Chunk | Line

_VOICES = {
    v1.MessageDelta.CHANNEL_TEXT: Voice.ANSWER,
    v1.MessageDelta.CHANNEL_REASONING: Voice.REASONING,
}


@dataclass
class _Streamed:
    """One text being written: what the model wrote in this attempt, and what is on the screen."""

    attempt: int = 0
    text: str = ""
    shown: str = ""


class Feed:
    """Turns updates into pieces; what was streamed is not printed again when its event arrives."""

    def __init__(self, client_id: str = "") -> None:
        self.view = SessionView()
        self.live = False
        self.writing = 0  # characters of tool arguments the model has written so far
        self._client_id = client_id
        self._streamed: dict[str, _Streamed] = {}
        self._output: set[str] = set()
        self._disconnected = False
        self._handoff: v1.AgentHandoff | None = None

    def apply(self, update: updates.ChatUpdate) -> list[Piece]:
        """Return what to print for the update."""
        return [*self._held_handoff(update), *self._pieces(update)]

    def _held_handoff(self, update: updates.ChatUpdate) -> Iterator[Piece]:
        """A handoff is told with what follows it: a choice of agent that follows at once says the same and more."""
        held, self._handoff = self._handoff, None
        if held is None:
            return
        routed = update.event.routing_decided if isinstance(update, updates.Event) else v1.RoutingDecided()
        if routed.agent_id != held.to_agent_id:
            yield Line(render.handoff(held))

    def _pieces(self, update: updates.ChatUpdate) -> list[Piece]:
        match update:
            case updates.Event(event):
                self.view.fold(event)
                return list(self._event(event))
            case updates.TextDelta():
                return list(self._delta(update))
            case v1.ToolProgress():
                return list(self._progress(update))
            case v1.TurnNotice():
                return [Line(render.notice(update))]
            case updates.CaughtUp():
                self.live = True
                return []
            case _:
                return [Line(text) for text in self._connection(update)]

    def _connection(self, update: updates.ChatUpdate) -> Iterator[Text]:
        match update:
            case updates.Connected():
                if self._disconnected:
                    yield Text("● connected again", "green")
                self._disconnected = False
            case updates.Disconnected(reason, retry_in):
                if not self._disconnected:
                    why = clean(reason) or "the connection was lost"
                    yield Text(f"○ disconnected ({why}); trying again in {retry_in:.1f} s", "yellow")
                self._disconnected = True
            case updates.Notice(text):
                yield Text(f"! {clean(text)}", "yellow")

    def _delta(self, delta: updates.TextDelta) -> Iterator[Piece]:
        if delta.channel == v1.MessageDelta.CHANNEL_TOOL_ARGUMENTS:
            self.writing = len(delta.text) + (0 if delta.replace else self.writing)
            return
        voice = _VOICES.get(delta.channel)
        if voice is not None:
            key = f"{delta.message_id}/{voice.name}"
            known = self._streamed.setdefault(key, _Streamed())
            continues = delta.attempt == known.attempt and not delta.replace
            known.attempt = delta.attempt
            yield from self._show(key, voice, known.text + delta.text if continues else delta.text)

    def _show(self, key: str, voice: Voice, whole: str) -> Iterator[Piece]:
        """Bring the text on the screen to `whole`, printing only what is new."""
        known = self._streamed.setdefault(key, _Streamed())
        known.text = whole
        if known.shown.startswith(whole):
            return
        if not whole.startswith(known.shown):
            yield Line(render.quiet("↻ once more:"))
            known.shown = ""
        yield Chunk(key, voice, whole[len(known.shown) :])
        known.shown = whole

    def _progress(self, progress: v1.ToolProgress) -> Iterator[Piece]:
        if progress.text:
            self._output.add(progress.call_id)
            yield Chunk(progress.call_id, Voice.OUTPUT, progress.text)

    def _event(self, event: v1.SessionEvent) -> Iterator[Piece]:
        kind = event.WhichOneof("payload")
        if kind == "agent_handoff":
            self._handoff = event.agent_handoff
        elif kind == "assistant_message":
            yield from self._message(event.assistant_message)
        elif kind == "tool_call_completed":
            yield from self._result(event.tool_call_completed.result)
        elif kind == "executor_changed":
            yield from self._executor(event.executor_changed)
        elif kind is not None and kind in render.SIMPLE:
            text = render.SIMPLE[kind](event)
            if text is not None:
                yield Line(text)

    def _message(self, message: v1.AssistantMessage) -> Iterator[Piece]:
        self.writing = 0
        for voice, parts in ((Voice.REASONING, message.reasoning), (Voice.ANSWER, message.parts)):
            key = f"{message.message_id}/{voice.name}"
            yield from self._show(key, voice, _raw_text(parts))
            self._streamed.pop(key, None)

    def _result(self, result: v1.ToolResult) -> Iterator[Piece]:
        call = self.view.calls.get(result.call_id)
        if call is not None:
            seen = result.call_id in self._output
            text = render.completed(call, result, output_seen=seen)
            if text is not None:
                yield Line(text)
        self._output.discard(result.call_id)

    def _executor(self, change: v1.ExecutorChanged) -> Iterator[Piece]:
        if self.live and change.client_id and change.client_id != self._client_id:
            yield Line(Text("! another client runs this session's tools now", "yellow"))


def _raw_text(parts: Sequence[v1.Part]) -> str:
    """The text as it was streamed, so that both can be compared; printers clean it."""
    return "".join(part.text if part.WhichOneof("payload") == "text" else calls.parts_text([part]) for part in parts)
