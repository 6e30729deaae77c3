"""A client in another language, generated from the protos."""

import json
from pathlib import Path

import pytest

from agent_runtime_server.mockllm.server import MockServer
from servicekit import typescript
from servicekit.model import calls, messages, says
from servicekit.service import Service


async def test_a_typescript_client_holds_a_whole_turn(service: Service, model: MockServer, tmp_path: Path) -> None:
    if why := await typescript.missing():
        pytest.skip(why)
    programs = await typescript.build()
    (tmp_path / "notes.txt").write_text("buy milk")
    model.use(
        [
            calls(("read_file", {"path": "notes.txt"})),
            calls(("write_file", {"path": "done.txt", "content": "milk bought"})),
            says("I bought milk. \u2713"),
        ]
    )
    out = await typescript.run(programs / "turn.js", service.target, str(tmp_path), "Do what my notes say.")
    seen = json.loads(out)
    assert seen["state"] == "COMPLETED"
    assert seen["text"] == "I bought milk. \u2713"
    assert seen["deltas"].endswith("I bought milk. \u2713")
    assert seen["seqs"] == [*range(1, len(seen["seqs"]) + 1)]
    assert (tmp_path / "done.txt").read_text() == "milk bought"
    assert [m["content"] for m in messages(model) if m["role"] == "tool"] == ["buy milk", "written"]
