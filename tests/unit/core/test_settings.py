"""What operators can set."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from agent_runtime_server.core.settings import Settings, TimeoutAction


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(f"AGENT_RUNTIME_{field.upper()}", raising=False)


def test_everything_has_a_default() -> None:
    settings = Settings()
    assert settings.database_url is None
    assert settings.hitl_timeout_action is TimeoutAction.REJECT


def test_variables_of_the_environment_count_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("AGENT_RUNTIME_TURN_STEPS=7\nAGENT_RUNTIME_LLM_MODEL=of-the-file\nOTHER=1\n", "utf-8")
    monkeypatch.setenv("AGENT_RUNTIME_TURN_STEPS", "8")
    settings = Settings()
    assert (settings.turn_steps, settings.llm_model) == (8, "of-the-file")


def test_a_key_is_not_shown() -> None:
    settings = Settings(llm_api_key=SecretStr("sk-secret"))
    assert "sk-secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [("HITL_TIMEOUT_ACTION", "shrug"), ("LEASE_SECONDS", "0"), ("HEARTBEAT_SECONDS", "16"), ("LOG_LEVEL", "LOUD")],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"AGENT_RUNTIME_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_read_replicas_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RUNTIME_DATABASE_REPLICA_URLS", "postgresql://a/db, postgres://b/db,postgresql://a/db,")
    assert Settings().replica_urls == ["postgresql://a/db", "postgres://b/db"]
    monkeypatch.setenv("AGENT_RUNTIME_DATABASE_REPLICA_URLS", "")
    assert Settings().replica_urls == []


def test_a_read_replica_that_is_none_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RUNTIME_DATABASE_REPLICA_URLS", "postgresql://a/db,mysql://user:secret@b/db")
    with pytest.raises(ValidationError, match="number 2 of the URLs does not begin with postgresql://"):
        Settings()
