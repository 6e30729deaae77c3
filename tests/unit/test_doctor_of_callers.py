"""What the doctor says of how callers come in."""

from pathlib import Path

import pytest

from agent_runtime_server.commands.examine import State, _callers
from agent_runtime_server.core.settings import AuthMode, Settings
from servicekit.certificates import Authority


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(**given: object) -> Settings:
    return Settings(**given)  # type: ignore[arg-type] # as a test names them


def test_without_tls_and_credentials() -> None:
    found = _callers(settings())
    assert (found.state, "nobody is asked" in found.detail, "no TLS" in found.detail) == (State.GOOD, True, True)


def test_a_good_certificate(tmp_path: Path) -> None:
    Authority().server().write(tmp_path / "chain.pem", tmp_path / "key.pem")
    files = {"tls_cert_file": tmp_path / "chain.pem", "tls_key_file": tmp_path / "key.pem"}
    found = _callers(settings(auth_mode=AuthMode.REQUIRED, **files))
    assert (found.state, "credentials are asked for" in found.detail) == (State.GOOD, True)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    Authority().server().write(chain, key)
    Authority().server().write(tmp_path / "other.pem", key)
    assert (
        _callers(settings(tls_cert_file=chain, tls_key_file=key)).detail == "the TLS key is not that of the certificate"
    )
    key.unlink()
    assert _callers(settings(tls_cert_file=chain, tls_key_file=key)).state is State.BAD
    assert _callers(settings(tls_cert_file=chain)).state is State.BAD
