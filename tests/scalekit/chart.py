"""Lines over two axes as SVG, plain enough to be read as text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from typing import Final

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 48, 56
_COLOURS: Final = ("#1b6ca8", "#d1495b", "#3a8f5c", "#a5682a", "#6f58a8", "#555555")
_TICKS: Final = 6

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """Named lines; both axes begin at 0."""

    title: str
    across: str
    up: str
    lines: Mapping[str, Points]

    def svg(self) -> str:
        """Return the picture."""
        right = max((x for points in self.lines.values() for x, _ in points), default=1)
        top = max((y for points in self.lines.values() for _, y in points), default=1)
        frame = _Frame(right or 1, (top or 1) * 1.05)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            _text(_LEFT, 24, self.title, size=15),
            *frame.grid(),
            _text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 14, self.across, anchor="middle"),
            _text(_LEFT, _TOP - 8, self.up),
        ]
        for number, (name, points) in enumerate(self.lines.items()):
            parts += frame.line(name, points, number)
        return "\n".join([*parts, "</svg>", ""])


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values stand in the picture."""

    right: float
    top: float

    def x(self, value: float) -> float:
        return round(_LEFT + value / self.right * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _TOP - _BOTTOM), 1)

    def grid(self) -> list[str]:
        parts = []
        for value in _ticks(self.top):
            y = self.y(value)
            parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
            parts.append(_text(_LEFT - 6, y + 4, f"{value:,g}", anchor="end"))
        below = _HEIGHT - _BOTTOM + 18
        return parts + [_text(self.x(value), below, f"{value:,g}", anchor="middle") for value in _ticks(self.right)]

    def line(self, name: str, points: Points, number: int) -> list[str]:
        colour = _COLOURS[number % len(_COLOURS)]
        way = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)
        dots = [f'<circle cx="{self.x(x)}" cy="{self.y(y)}" r="3" fill="{colour}"/>' for x, y in points]
        label_y = _TOP + 14 + 20 * number
        return [
            f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>',
            *dots,
            f'<rect x="{_WIDTH - _RIGHT + 16}" y="{label_y - 9}" width="10" height="10" fill="{colour}"/>',
            _text(_WIDTH - _RIGHT + 32, label_y, name),
        ]


def _ticks(most: float) -> list[float]:
    """Return round values from 0 up to `most`."""
    rough = most / _TICKS
    unit: float = 10 ** floor(log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * number for number in range(int(most / step) + 1)]


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'
