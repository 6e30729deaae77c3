"""What a log line of a fault must not tell."""

import json
import sys
from typing import Any

import pytest
import structlog

from agent_runtime_server.telemetry import logs


def test_a_traceback_shows_no_variables(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    before = structlog.get_config()
    try:
        logs.configure("INFO")
        structlog.configure(cache_logger_on_first_use=False)  # else who logs meanwhile keeps what is closed afterwards
        _fail()
    finally:
        structlog.configure(**before)
    line = capsys.readouterr().err
    assert json.loads(line)["exception"]
    assert "its value" not in line


def _fail() -> None:
    secret = "its" + " value"
    try:
        int(secret[:1])
    except ValueError:
        structlog.get_logger().exception("a fault")
