"""Limits as operators write them."""

import pytest

from agent_runtime_server.core.buckets import Rate
from agent_runtime_server.core.quotas import Kind, Quota, Scope, parse


def test_a_limit_says_whose_what_and_how_much() -> None:
    assert parse("user.turn=10/m, tenant.token=200000/h:50000") == (
        Quota(Scope.USER, Kind.TURN, Rate(10, 60_000, 10)),
        Quota(Scope.TENANT, Kind.TOKEN, Rate(200_000, 3_600_000, 50_000)),
    )
    assert parse("") == ()


def test_each_scope_has_its_buckets() -> None:
    names = {quota.bucket("acme", "ann") for quota in parse("user.read=1/s,tenant.read=1/s,global.read=1/s")}
    assert names == {"user.read/1000:acme/ann", "tenant.read/1000:acme", "global.read/1000:"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("user.turn", "'user.turn' is no limit: write scope.kind=amount/period"),
        ("user.turn=10/week", "is no limit"),
        ("user.turn=0/m", "are at least 1"),
        ("user.turn=10/m:0", "are at least 1"),
        ("user.turn=99999999999/d", "too large"),
        ("nobody.turn=1/m", "scopes are user, tenant, global"),
        ("user.thing=1/m", "kinds are read, write, stream, request, turn, token"),
        ("user.turn=1/m,user.turn=2/h", "user.turn is limited twice"),
    ],
)
def test_what_is_no_limit_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse(text)
