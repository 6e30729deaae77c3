"""`agent-runtime sessions`: the sessions there are."""

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table
from rich.text import Text

from agent_runtime import v1
from agent_runtime_client import Client
from agent_runtime_client.terminal import names
from agent_runtime_client.terminal.connect import ANYBODY, DEFAULT_TARGET, Access, Target, with_client
from agent_runtime_client.terminal.printer import stdout_console
from agent_runtime_client.terminal.text import shorten


def sessions(*, target: Target = DEFAULT_TARGET, access: Access = ANYBODY) -> int:
    """List the sessions on the server, newest first.

    On a terminal as a table, else as one line a session: id, state, agent, events, last change, title.
    """
    return with_client(target, _list, access)


async def _list(client: Client) -> int:
    console = stdout_console()
    found = [session async for session in client.list_sessions()]
    if not console.is_terminal:
        for session in found:
            print("\t".join(_cells(session)))
    elif found:
        console.print(_table(found))
    else:
        console.print("no sessions yet; begin one with `agent-runtime chat`")
    return 0


def _table(found: list[v1.Session]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("SESSION", "STATE", "AGENT", "EVENTS", "LAST CHANGE", "TITLE"):
        table.add_column(name, no_wrap=name != "TITLE", justify="right" if name == "EVENTS" else "left")
    for session in found:
        table.add_row(*(Text(cell) for cell in _cells(session)))
    return table


def _cells(session: v1.Session) -> tuple[str, ...]:
    return (
        shorten(session.session_id, 64),
        session_words(session),
        shorten(session.agent_id, 64),
        str(session.head_seq),
        local_time(session.update_time),
        shorten(session.title, 80),
    )


def session_words(session: v1.Session) -> str:
    """The state of a session, and of its turn while one is active."""
    if session.state == v1.SESSION_STATE_ACTIVE and session.HasField("current_turn"):
        return names.turn_state(session.current_turn.state)
    return names.session_state(session.state)


def session_line(session: v1.Session) -> str:
    """A session in one line."""
    return "  ".join(cell for cell in _cells(session) if cell)


def local_time(stamp: Timestamp) -> str:
    """A time of the server on this machine's clock."""
    return datetime.fromtimestamp(stamp.seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
