"""`agent-runtime replay`: why a session did what it did, and whether it would do so again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Annotated, Final

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table
from rich.text import Text

from agent_runtime import v1
from agent_runtime_client import Client
from agent_runtime_client.terminal.connect import DEFAULT_TARGET, Target, with_client
from agent_runtime_client.terminal.events import gist
from agent_runtime_client.terminal.failures import CommandFailed, Exit
from agent_runtime_client.terminal.printer import stdout_console
from agent_runtime_client.terminal.sessions import local_time
from agent_runtime_client.terminal.text import count, shorten
from agent_runtime_server.agents.registry import builtin
from agent_runtime_server.engine.reasons import why
from agent_runtime_server.engine.replay import Difference, Replay, Step

_GIST, _REASON, _VALUE = 70, 200, 300  # characters shown of each


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of what is told."""

    seq: str
    time: str
    kind: str
    gist: str
    reason: str
    style: str = ""


def replay(
    session: Annotated[str, Parameter(help="Session to replay.")],
    *,
    to: Annotated[int, Parameter(help="Last event to replay; 0 replays all.", validator=Number(gte=0))] = 0,
    target: Target = DEFAULT_TARGET,
) -> int:
    """Tell why a session did what it did, and check that it would do so again.

    Users, clients, reviewers and the model are taken from the recorded log; whatever the engine decided upon them is
    decided anew, by this installation's agents and policy. Ends with 1 when any of it comes out differently.
    """
    return with_client(target, partial(_replay, session=session, to=to))


async def _replay(client: Client, *, session: str, to: int) -> int:
    row = await client.get_session(session)
    if row.oldest_seq > 1:
        raise CommandFailed(f"the log of {session} begins at {row.oldest_seq}; only a whole one can be replayed")
    if to > row.head_seq:
        raise CommandFailed(f"--to: the log of {session} ends at {row.head_seq}", Exit.USAGE)
    return tell([event async for event in client.events(session)], to or row.head_seq)


def tell(log: Sequence[v1.SessionEvent], to: int) -> int:
    """Replay a log, print what begins at or before an event, and return the exit status."""
    replayed = Replay(log, builtin())
    console, differences = stdout_console(), 0
    steps: list[Step] = []
    rows: list[_Row] = []
    for step in takewhile(lambda step: step.events[0].seq <= to, replayed):
        steps.append(step)
        differences += step.difference is not None
        rows += _rows(step, replayed)
    if console.is_terminal:
        console.print(_table(rows))
    else:
        _print_plain(rows)
    events = count(sum(len(step.events) for step in steps), "event")
    found = count(differences, "difference") if differences else "no difference"
    told = f"{events} in {count(len(steps), 'transaction')}: {found}"
    console.print(Text(told, "bold red" if differences else "bold green"))
    return Exit.FAILED if differences else Exit.OK


def _rows(step: Step, replayed: Replay) -> Iterator[_Row]:
    yield _Row("", "", "", f"─ {step.cause or 'what follows'}", "", "bold")
    difference = step.difference
    for event in step.events:
        if difference is not None and event.seq == difference.seq:
            yield from _difference(difference)
            difference = None
        else:
            kind = event.WhichOneof("payload") or "unknown"
            reason = shorten(why(event, replayed.state, replayed.agents), _REASON)
            moment = local_time(event.create_time)[11:]
            yield _Row(str(event.seq), moment, kind, shorten(gist(event), _GIST), reason)
    if difference is not None:
        yield from _difference(difference)


def _difference(difference: Difference) -> Iterator[_Row]:
    seq = str(difference.seq)
    for side, event in (("recorded", difference.recorded), ("replayed", difference.replayed)):
        kind = (event.WhichOneof("payload") or "unknown") if event is not None else "nothing"
        told = shorten(gist(event), _GIST) if event is not None else ""
        yield _Row(seq, side, kind, told, difference.why if side == "replayed" else "", _DIFFERS)
    for path, recorded, again in difference.fields:
        told = f"recorded {shorten(recorded, _VALUE)}, replayed {shorten(again, _VALUE)}"
        yield _Row("", "", "", path, told, _DIFFERS)


_DIFFERS: Final = "red"


def _print_plain(rows: Sequence[_Row]) -> None:
    for row in rows:
        mark = "!" if row.style == _DIFFERS else " "
        place = f"{row.seq:>5} {row.time:8} {row.kind:22} " if row.seq else "      "
        reason = f"  ({row.reason})" if row.reason else ""
        print(f"{mark}{place}{row.gist}{reason}".rstrip())  # noqa: T201


def _table(rows: Sequence[_Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, style in (("event", "bold"), ("time", "dim"), ("kind", "cyan")):
        table.add_column(name, style=style, no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("why", style="dim", overflow="fold")
    for row in rows:
        table.add_row(row.seq, row.time, row.kind, Text(row.gist), Text(row.reason), style=row.style)
    return table
