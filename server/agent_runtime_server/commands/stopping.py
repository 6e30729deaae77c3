"""When a server is asked to stop: by a signal, by a second one to hurry, or by the end of its standard input."""

import asyncio
import os
import signal
import sys

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """The wish to stop (`asked`), and to do so at once (`hurry`)."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()

    def listen(self, *, to_stdin: bool) -> None:
        """Begin to take signals and, where wanted, the end of standard input."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        if to_stdin:
            self._watch_stdin(loop)

    def _signalled(self) -> None:
        if self.asked.is_set():
            self.hurry.set()
            for number in _SIGNALS:  # a third one needs nobody's consent
                asyncio.get_running_loop().remove_signal_handler(number)
        self.asked.set()

    def _watch_stdin(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.add_reader(sys.stdin.fileno(), self._on_stdin, loop)
        except PermissionError as error:  # files and /dev/null cannot be waited for
            raise ValueError("--stop-on-stdin-close needs a pipe or a terminal on standard input") from error

    def _on_stdin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read what came; at the end of input whoever started this is gone, or has seen enough."""
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            self.asked.set()
            self.hurry.set()
