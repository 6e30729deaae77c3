"""Tokens come back from callers, who may put anything into them; pages fit into a response."""

import pytest

from agent_runtime import v1
from agent_runtime_server.rpc.pages import fitting, make_token, read_place, read_token
from enginekit.refusals import refused


@pytest.mark.parametrize("value", [1 << 63, -1, 10**300])
def test_a_number_no_query_takes_makes_a_token_invalid(value: int) -> None:
    with refused("RESUME_TOKEN_INVALID"):
        read_token(make_token("b", (value,)), "b", (int,))


@pytest.mark.parametrize("value", ["a\0b", "ä"])
def test_a_text_no_id_has_makes_a_token_invalid(value: str) -> None:
    with refused("RESUME_TOKEN_INVALID"):
        read_token(make_token("b", (value,)), "b", (str,))


def test_a_moment_without_a_time_zone_makes_a_token_invalid() -> None:
    with refused("RESUME_TOKEN_INVALID"):
        read_place(make_token("b", ("2026-01-01T00:00:00", "s1")), "b")


def test_a_page_is_cut_to_what_a_client_can_receive() -> None:
    big = v1.Approval(tool_call=v1.ToolCall(arguments_json="x" * (1 << 20)))
    assert len(fitting([big] * 10)) == 2
    assert len(fitting([big])) == 1
    assert fitting([]) == []
