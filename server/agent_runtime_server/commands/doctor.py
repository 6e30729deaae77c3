"""`agent-runtime doctor`: look at this machine before the server has to."""

import asyncio
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_runtime_server.commands.examine import Finding, State, examine

_SIGNS = {State.GOOD: ("ok", "green"), State.REMARK: ("note", "yellow"), State.BAD: ("BAD", "bold red")}


def doctor() -> int:
    """Check this installation: Python, packages, embedded servers, settings, and the URLs they name.

    Nothing is started or changed. Ends with 1 when something would keep the server from working.
    """
    findings = asyncio.run(examine())
    _print(findings)
    bad = sum(finding.state is State.BAD for finding in findings)
    if bad:
        print(f"agent-runtime doctor: {bad} of {len(findings)} checks failed", file=sys.stderr)  # noqa: T201
    return 1 if bad else 0


def _print(findings: Sequence[Finding]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        for finding in findings:
            print(f"{_SIGNS[finding.state][0]:5}{finding.subject:10}{finding.detail}")  # noqa: T201
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        word, style = _SIGNS[finding.state]
        table.add_row(Text(word, style), Text(finding.subject), Text(finding.detail))
    console.print(table)
