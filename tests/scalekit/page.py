"""The parts of docs/scaling.md that are made from figures: each stands between two marks, which stay."""

from collections.abc import Iterable, Mapping
from typing import Final

from scalekit.costs import Costs

_COSTS: Final = (
    ("CPU of a worker for a plain turn: 64 tokens, 5 ms apart, coalesced", "server_ms_a_turn", "ms"),
    ("the same when the answer comes at once", "server_ms_a_quick_turn", "ms"),
    ("for one tool call and the model step behind it", "server_ms_a_tool", "ms"),
    ("for an idle stream, a minute", "server_ms_a_stream_minute", "ms"),
    ("CPU of Postgres for a transaction", "postgres_ms_a_commit", "ms"),
    ("and for each append in it", "postgres_ms_an_append", "ms"),
    ("wait for the disk", "flush_ms", "ms"),
    ("CPU of Redis for a message to one other replica", "redis_ms_a_wakeup", "ms"),
    ("and for a turn, where there are others", "redis_ms_a_turn", "ms"),
    ("CPU of clients and mock model for a turn, where they share the machine", "load_ms_a_turn", "ms"),
    ("the same when the answer comes at once", "load_ms_a_quick_turn", "ms"),
    ("memory of an idle stream and its session", "stream_kb", "KB"),
    ("memory of a worker without one", "worker_mb", "MB"),
    ("written to Postgres's log for a turn", "postgres_kb_a_turn", "KB"),
)


def filled(page: str, parts: Mapping[str, str]) -> str:
    """Return the page with its parts made anew; raises LookupError when one has no place in it."""
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise LookupError(f"the page has no place for {name}")
        page = f"{before}{begin}{text}\n{end}{after}"
    return page


def costs_table(costs: Costs, origin: str) -> str:
    """Return the costs as a table, behind where they come from."""
    rows = [f"| {label} | {getattr(costs, name):.3g} {unit} |" for label, name, unit in _COSTS]
    return "\n".join([f"The costs are {origin}:", "", "| cost | |", "| --- | --- |", *rows])


def block(lines: Iterable[str]) -> str:
    """Return lines as they are printed."""
    return "\n".join(["```", *lines, "```"])
