"""What would not be safe does not start, and is told in one line what to set."""

from pathlib import Path

import pytest

from agent_runtime_server.commands.serve import serve

OUTSIDE = "0.0.0.0"
CERTIFICATE = {"TLS_CERT_FILE": "chain.pem", "TLS_KEY_FILE": "key.pem"}


@pytest.mark.parametrize(
    ("host", "settings", "told"),
    [
        (OUTSIDE, {}, "set AGENT_RUNTIME_TLS_CERT_FILE and AGENT_RUNTIME_TLS_KEY_FILE and AGENT_RUNTIME_AUTH_MODE=req"),
        (OUTSIDE, {"AUTH_MODE": "required"}, "set AGENT_RUNTIME_TLS_CERT_FILE and AGENT_RUNTIME_TLS_KEY_FILE, or say"),
        (OUTSIDE, CERTIFICATE, "set AGENT_RUNTIME_AUTH_MODE=required, or say --insecure"),
        ("::", {}, "--host :: is reachable from outside"),
        ("agents.example", {}, "--host agents.example is reachable from outside"),
        ("127.0.0.1", {"TLS_CERT_FILE": "chain.pem"}, "TLS needs both"),
        ("127.0.0.1", {"TLS_CLIENT_CA_FILE": "ca.pem"}, "TLS needs both"),
        ("127.0.0.1", {"AUTH_JWT_JWKS_URL": "http://issuer.example"}, "must begin with https://"),
        ("127.0.0.1", {"AUTH_MODE": "perhaps"}, "AUTH_MODE"),
        ("127.0.0.1", {"AUTH_CERTIFICATES": "{"}, "auth_certificates"),
        (
            "127.0.0.1",
            {"AUTH_CERTIFICATES": '{"x": {"tenant": "a/b", "subject": "s", "roles": ["user"]}}'},
            "AUTH_CERTIFICATES",
        ),
        ("127.0.0.1", {"AUTH_CERTIFICATES": '{"x": {"tenant": "a", "subject": "s", "roles": ["king"]}}'}, "'user', 'r"),
    ],
)
def test_what_would_not_be_safe_does_not_start(
    host: str, settings: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in settings.items():
        monkeypatch.setenv(f"AGENT_RUNTIME_{name}", value)
    with pytest.raises(SystemExit) as caught:
        serve(host=host, port=0, metrics_port=0)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
