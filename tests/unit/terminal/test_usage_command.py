"""What was spent, as a terminal shows it."""

import pytest
from rich.console import Console

from agent_runtime import v1
from agent_runtime_client.terminal import usage

ANN = v1.DayUsage(
    day="2026-01-31",
    subject="ann\x1b[2J",
    usage=v1.Usage(
        input_tokens=1200,
        cached_input_tokens=200,
        output_tokens=34,
        model_calls=2,
        cost_micros=1500,
        tool_calls=5,
        worked_millis=61_250,
    ),
)
BOB = v1.DayUsage(day="2026-01-30", subject="bob", usage=v1.Usage(input_tokens=1, model_calls=1))


def shown(told: v1.GetUsageResponse, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    console = Console(force_terminal=terminal, width=120, color_system=None)
    monkeypatch.setattr(usage, "stdout_console", lambda: console)
    usage._show(told)


def test_a_terminal_gets_a_table_with_the_total(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    total = v1.Usage(input_tokens=1201, output_tokens=34, model_calls=3, cost_micros=1500)
    shown(v1.GetUsageResponse(days=[ANN, BOB], total=total), monkeypatch, terminal=True)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["DAY", "WHO", "MODEL", "CALLS", "INPUT", "CACHED", "OUTPUT", "COST", "TOOL", "CALLS", "SECONDS"]
    assert lines[1] == ["2026-01-31", "ann", "2", "1200", "200", "34", "0.001500", "5", "61.2"]
    assert lines[-1] == ["total", "3", "1201", "0", "34", "0.001500", "0", "0.0"]


def test_one_row_needs_no_total_and_none_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown(v1.GetUsageResponse(days=[BOB], total=BOB.usage), monkeypatch, terminal=True)
    assert "total" not in capsys.readouterr().out
    shown(v1.GetUsageResponse(), monkeypatch, terminal=True)
    assert capsys.readouterr().out == "nothing was spent\n"


def test_a_pipe_gets_a_line_a_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown(v1.GetUsageResponse(days=[ANN, BOB]), monkeypatch, terminal=False)
    assert capsys.readouterr().out == (
        "2026-01-31\tann\t2\t1200\t200\t34\t0.001500\t5\t61.2\n2026-01-30\tbob\t1\t1\t0\t0\t0.000000\t0\t0.0\n"
    )
