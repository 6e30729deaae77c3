"""What was measured, for people: tables, a picture, and the difference to another run."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

from benchkit.figures import Cells, Figure

_COLUMNS: Final = (
    "turns/s", "tokens/s", "cpu ms/turn", "turn p50 ms", "turn p99 ms", "first p50 ms", "token p50 ms", "ack p99 ms",
    "commit p99 ms", "frames/turn", "resident MB",
)  # fmt: skip
_COLOURS: Final = {"service": "#2a6f97", "per token": "#89c2d9", "bare": "#adb5bd"}
_ROW: Final = 18
_LABELS: Final = 190
_WIDTH: Final = 640


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(cells: Cells, extra: Cells, figures: Sequence[Figure]) -> str:
    """Return everything as tables."""
    loads = [
        [name, *(_number(cell.get(column)) for column in _COLUMNS)] for name, cell in sorted(cells.items(), key=_order)
    ]
    more = [[name, key, _number(value)] for name, found in extra.items() for key, value in found.items()]
    told = [[one.name, _number(one.value), _number(one.must), _number(one.aim), one.verdict] for one in figures]
    return "\n\n".join(
        [
            table(["streams/ms a token", *_COLUMNS], loads),
            table(["measured", "what", "value"], more),
            table(["figure", "value", "must", "aim", ""], told),
        ]
    )


def compared(old: Mapping[str, Any], figures: Sequence[Figure], cells: Cells) -> str:
    """Return what has changed since an older run."""
    before = {one["name"]: one["value"] for one in old["figures"]}
    told = [_change(one.name, before.get(one.name), one.value) for one in figures]
    costs = [
        _change(f"{name}, CPU ms/turn", old["cells"].get(name, {}).get("cpu ms/turn"), cell["cpu ms/turn"])
        for name, cell in sorted(cells.items(), key=_order)
        if cell["cpu ms/turn"]
    ]
    return table(["", "before", "now", "change"], [*told, *costs])


def _change(name: str, before: float | None, now: float) -> list[str]:
    share = f"{now / before - 1:+.0%}" if before else ""
    return [name, _number(before), _number(now), share]


def picture(cells: Cells) -> str:
    """Return the CPU time of turns as an SVG."""
    shown = [(name, cell["cpu ms/turn"]) for name, cell in sorted(cells.items(), key=_order) if cell["cpu ms/turn"]]
    scale = (_WIDTH - _LABELS - 60) / max(cost for _, cost in shown)
    bars = [_bar(row, name, cost, scale) for row, (name, cost) in enumerate(shown)]
    height = _ROW * (len(shown) + 2)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" '
        f'font-size="11">\n<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="8" y="14">Server CPU time of a turn, ms (streams / ms a token)</text>\n{"".join(bars)}</svg>\n'
    )


def _bar(row: int, name: str, cost: float, scale: float) -> str:
    top = _ROW * (row + 1) + 8
    colour = _COLOURS.get(name.rpartition(" ")[0], "#e07a5f")
    return (
        f'<text x="{_LABELS - 6}" y="{top + 10}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="{_LABELS}" y="{top}" width="{cost * scale:.1f}" height="{_ROW - 5}" fill="{colour}"/>'
        f'<text x="{_LABELS + cost * scale + 4:.1f}" y="{top + 10}">{cost:.2f}</text>\n'
    )


def _order(named: tuple[str, Mapping[str, float]]) -> tuple[int, int, str]:
    system, _, load = named[0].rpartition(" ")
    streams, delay = load.split("/")
    return int(delay), int(streams), system


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}"
