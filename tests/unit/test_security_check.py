"""What the security check finds; the secrets here are put together, so that it does not find them here."""

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "security-check"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    loader = SourceFileLoader("security_check", str(SCRIPT))
    spec = importlib.util.spec_from_loader("security_check", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "line",
    [
        "-----BEGIN " + "PRIVATE KEY-----",
        "ark_" + "0123456789ab_" + "0123456789abcdef" * 3,
        "key = " + "sk-" + "abcdefghij0123456789ABCDEFGHIJ",
        "aws AKIA" + "ABCDEFGHIJ234567",
        "ghp_" + "a1" * 18,
        "postgresql://agent:" + "x9Kq-27fLm2pQz@db/agents",
        "api_key = " + "'q8Zk3vN1xW7rT5yB2mC9sD4f'",
    ],
)
def test_a_secret_is_found(check: ModuleType, line: str) -> None:
    assert list(check.secrets_in(line)) != []


@pytest.mark.parametrize(
    "line",
    ["postgresql://user:password@host/db", "token = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaa'", "sk-secret", "Bearer {key}", ""],
)
def test_what_is_no_secret_is_left_alone(check: ModuleType, line: str) -> None:
    assert list(check.secrets_in(line)) == []


def test_a_version_with_a_known_hole_is_found(check: ModuleType) -> None:
    digest = "    --hash=sha256:00\n"
    assert list(check.holes_in(f"h11==0.14.0 \\\n{digest}httpx==0.28.1 \\\n{digest}")) == [
        "h11 0.14.0 has a known hole, 0.16.0 has not"
    ]
    assert list(check.holes_in("httpx==0.28.1\n")) == ["httpx==0.28.1 is locked without a digest"]


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ("`unit/test_security_check.py`, `scripts/fuzz`", []),
        ("`unit/test_nothing.py`", ["anybody: there is no unit/test_nothing.py"]),
        ("whoever looks", ["anybody: no test is named"]),
    ],
)
def test_a_threat_that_no_test_shows_to_be_met_is_found(check: ModuleType, shown: str, found: list[str]) -> None:
    text = (
        f"| who | wants to | is stopped by | shown by |\n| --- | --- | --- | --- |\n| anybody | x | `y` | {shown} |\n"
    )
    assert list(check.unshown(text)) == found
    assert list(check.unshown("nothing of the kind")) == ["there are no rows"]


@pytest.mark.parametrize(
    ("fields", "texts", "fits"),
    [
        (["MIT", "", ""], [], True),
        (["Apache-2.0 OR GPL-3.0", "", ""], [], True),
        (["", "License :: OSI Approved :: BSD License", ""], [], True),
        (["", "", "GPL-3.0"], [], False),
        (["AGPL-3.0-only", "", ""], [], False),
        (["", "", ""], ["Redistribution and use in source and binary forms"], True),
        (["", "", ""], [], False),
    ],
)
def test_a_licence_fits_or_does_not(check: ModuleType, fields: list[str], texts: list[str], fits: bool) -> None:
    assert (check.misfit(fields, texts) is None) == fits
