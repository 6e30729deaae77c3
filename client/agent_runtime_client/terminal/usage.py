"""`agent-runtime usage`: what was spent on models."""

from typing import Annotated

from cyclopts import Parameter
from google.protobuf.json_format import MessageToJson
from rich.table import Table
from rich.text import Text

from agent_runtime import v1
from agent_runtime_client import Client
from agent_runtime_client.terminal.connect import ANYBODY, DEFAULT_TARGET, Access, Target, with_client
from agent_runtime_client.terminal.failures import CommandFailed, Exit
from agent_runtime_client.terminal.printer import stdout_console
from agent_runtime_client.terminal.text import shorten

_COLUMNS = ("DAY", "WHO", "MODEL CALLS", "INPUT", "CACHED", "OUTPUT", "COST", "TOOL CALLS", "SECONDS")
_NAMES = 2  # of the columns; the others are numbers

Row = tuple[str, str, v1.Usage]


def usage(
    *,
    first: Annotated[str, Parameter(name="--from", help="First day (UTC), such as 2026-01-31; else the last.")] = "",
    last: Annotated[str, Parameter(name="--to", help="Last day (UTC), at most 30 days later; else today.")] = "",
    session: Annotated[str, Parameter(help="Only what this session has spent, in all its days.")] = "",
    target: Target = DEFAULT_TARGET,
    access: Access = ANYBODY,
    json: Annotated[bool, Parameter(negative="", help="Print JSON lines.")] = False,
) -> int:
    """Tell what was spent on models, by day and by who gave the tasks: today, unless told otherwise.

    Operators and admins see everybody of their tenant, others themselves. On a terminal as a table with the total, else
    as one line a day and person: day, who, model calls, input tokens, those of them from a cache, output tokens, cost,
    tool calls, and the seconds in which turns worked or waited for tools.
    """
    if session and (first or last):
        raise CommandFailed("--session tells all its days: leave out --from and --to", Exit.USAGE)

    async def work(client: Client) -> int:
        told = await _of_session(client, session) if session else await client.usage(first_day=first, last_day=last)
        if json:
            for day in told.days:
                print(MessageToJson(day, preserving_proto_field_name=True, indent=None))
        else:
            _show(told)
        return Exit.OK

    return with_client(target, work, access)


async def _of_session(client: Client, session_id: str) -> v1.GetUsageResponse:
    found = await client.get_session(session_id)
    spent = v1.DayUsage(subject=found.owner.subject, usage=found.usage)
    return v1.GetUsageResponse(days=[spent], total=found.usage)


def _show(told: v1.GetUsageResponse) -> None:
    console = stdout_console()
    rows = [_cells(day.day, day.subject, day.usage) for day in told.days]
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
    elif rows:
        console.print(_table([*rows, _cells("", "total", told.total)] if len(rows) > 1 else rows))
    else:
        console.print("nothing was spent")


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(_COLUMNS):
        table.add_column(name, no_wrap=True, justify="left" if place < _NAMES else "right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _cells(day: str, subject: str, spent: v1.Usage) -> tuple[str, ...]:
    counts = (spent.model_calls, spent.input_tokens, spent.cached_input_tokens, spent.output_tokens)
    work = (str(spent.tool_calls), f"{spent.worked_millis / 1000:.1f}")
    return (day, shorten(subject, 64), *map(str, counts), f"{spent.cost_micros / 1e6:.6f}", *work)
