"""The line a person types, below output that goes on."""

from collections.abc import Callable
from io import StringIO

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style
from rich.console import Console
from rich.text import Text

_STYLE = Style.from_dict({"bottom-toolbar": "noreverse fg:ansibrightblack"})
_TWICE_SECONDS = 2.0


class Interrupts:
    """What Ctrl-C means: cancel what runs; leave when pressed twice, or when nothing runs."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def leaves(self, now: float, *, busy: bool) -> bool:
        """Whether this press leaves the program."""
        twice = now - self._last <= _TWICE_SECONDS
        self._last = now
        return twice or not busy


class Prompt:
    """Reads lines; its prompt, status line and Ctrl-C are asked for anew at each redraw."""

    def __init__(
        self,
        message: Callable[[], Text],
        status: Callable[[], str],
        on_interrupt: Callable[[], None],
    ) -> None:
        self._message = message
        self._status = status
        self._on_interrupt = on_interrupt
        self._session: PromptSession[str] = PromptSession(
            message=self._formatted,
            bottom_toolbar=self._toolbar,
            key_bindings=self._keys(),
            style=_STYLE,
            history=InMemoryHistory(),
            erase_when_done=True,
        )
        self._stash = ""

    async def read(self) -> str:
        """Wait for a line; raises EOFError at Ctrl-D."""
        default, self._stash = self._stash, ""
        return await self._session.prompt_async(default=default)

    async def read_about(self, label: str, default: str) -> str | None:
        """Wait for one more line with a prompt of its own; None when it is abandoned."""
        asking: PromptSession[str] = PromptSession(erase_when_done=True)
        try:
            return await asking.prompt_async(label, default=default)
        except (KeyboardInterrupt, EOFError):
            return None

    def redraw(self) -> None:
        """Show what changed."""
        self._session.app.invalidate()

    def set_aside(self) -> None:
        """Put away what is being typed, as the prompt changes its meaning; `bring_back` returns it."""
        buffer = self._session.default_buffer
        if buffer.text and self._session.app.is_running:
            self._stash = buffer.text
            buffer.reset()

    def bring_back(self) -> None:
        """Return what was set aside."""
        if self._stash and self._session.app.is_running and not self._session.default_buffer.text:
            self._session.default_buffer.insert_text(self._stash)
            self._stash = ""

    def leave(self) -> None:
        """End the reading."""
        if self._session.app.is_running:
            self._session.app.exit(exception=EOFError)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c")
        def _interrupt(_: KeyPressEvent) -> None:
            self._on_interrupt()

        return keys

    def _formatted(self) -> AnyFormattedText:
        return ANSI(as_ansi(self._message(), self._session.app.output.get_size().columns))

    def _toolbar(self) -> AnyFormattedText:
        return self._status()


async def in_terminal(work: Callable[[], str]) -> str:
    """Run something that needs the terminal for itself, such as an editor."""
    return await run_in_terminal(work, in_executor=True)


def as_ansi(text: Text, width: int) -> str:
    """Text with its styles as escape sequences."""
    console = Console(file=StringIO(), force_terminal=True, width=max(width, 10), highlight=False)
    with console.capture() as captured:
        console.print(text, end="", soft_wrap=True)
    return captured.get()
