"""A bus between replicas of one test: what one publishes all others hear at once."""

from collections.abc import Callable


class Wire:
    """What joins the lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def line(self) -> "Line":
        """Return one more replica's end."""
        self.lines.append(Line(self))
        return self.lines[-1]


class Line:
    """One replica's end: a Bus."""

    def __init__(self, wire: Wire) -> None:
        self.connected = True
        self.sent: list[tuple[str, bytes]] = []
        self.listening: dict[str, Callable[[bytes], None]] = {}
        self._wire = wire

    def publish(self, topic: str, message: bytes) -> None:
        """Let all others hear it."""
        self.sent.append((topic, message))
        for line in self._wire.lines:
            if line is not self and line.connected and topic in line.listening:
                line.listening[topic](message)

    def listen(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Hear what others publish."""
        assert topic not in self.listening, "one listens once"
        self.listening[topic] = heard

    def unlisten(self, topic: str) -> None:
        """Hear it no more."""
        del self.listening[topic]
