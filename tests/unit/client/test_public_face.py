"""What the library exports, and what it costs to look at."""

import agent_runtime_client


def test_the_public_names_are_sorted_and_there() -> None:
    names = agent_runtime_client.__all__
    assert names == sorted(names)
    assert all(getattr(agent_runtime_client, name).__doc__ for name in names if name not in _UNIONS)


_UNIONS = {"ChatUpdate", "ReviewUpdate"}
