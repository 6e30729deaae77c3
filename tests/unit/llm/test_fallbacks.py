"""What operators write of their models, and how requests are put for them."""

import pytest

from agent_runtime_server.core.errors import ValidationFailed
from agent_runtime_server.llm.allowance import Allowance
from agent_runtime_server.llm.base import ModelRequest
from agent_runtime_server.llm.fallbacks import Fallback, fallbacks
from agent_runtime_server.llm.profile import Profile, profile

KEYS = {"OTHER_KEY": "sk-other"}


def test_nothing_is_no_fallback() -> None:
    assert fallbacks(" , ", {}) == []


def test_models_stand_in_order_with_their_endpoints_keys_and_profiles() -> None:
    text = "small, big@https://other.example/v1;key=OTHER_KEY;context=128000, claude@2024@http://h/v1;tools=no"
    assert fallbacks(text, KEYS) == [
        Fallback("small", "", None, Profile()),
        Fallback("big", "https://other.example/v1", "sk-other", Profile(context=128_000)),
        Fallback("claude@2024", "http://h/v1", None, Profile(tools=False)),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@https://h/v1", "names no model"),
        ("m;key=OTHER_KEY", "model of the endpoint in use"),
        ("m@https://h/v1;key=NO_SUCH", "NO_SUCH, which is not set"),
        ("m;colour=red", "there is no option 'colour'"),
        ("m;tools=maybe", "tools must be yes or no"),
        ("m;context=large", "number of tokens"),
        ("m;max_tokens=limit", "max_completion_tokens"),
    ],
)
def test_what_cannot_be_used_is_said(text: str, said: str) -> None:
    with pytest.raises(ValidationFailed, match=said) as caught:
        fallbacks(text, KEYS)
    assert caught.value.violations[0].field == "llm_fallback_models"
    assert "sk-other" not in str(caught.value)


ASKED = ModelRequest("m", ({"role": "user", "content": "x" * 300},), ({"type": "function"},), 0.0, 50)


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ("", {}),
        ("usage=no", {"stream_options": None}),
        ("temperature=no", {"temperature": None}),
        ("tool_choice=yes", {"tool_choice": "auto"}),
        ("max_tokens=max_completion_tokens", {"max_tokens": None, "max_completion_tokens": 50}),
    ],
)
def test_a_request_is_put_as_the_profile_says(options: str, differs: dict[str, object]) -> None:
    plain = {
        "model": "m", "messages": ASKED.messages, "stream": True, "stream_options": {"include_usage": True},
        "tools": ASKED.tools, "temperature": 0.0, "max_tokens": 50,
    }  # fmt: skip
    expected = {key: value for key, value in (plain | differs).items() if value is not None}
    assert profile("llm_profile", options).payload(ASKED) == expected


def test_a_profile_takes_what_fits() -> None:
    assert Profile().takes(ASKED)
    assert not Profile(tools=False).takes(ASKED)
    assert Profile(context=1200).takes(ASKED)
    assert not Profile(context=1100).takes(ASKED)


def test_retries_are_earned_by_calls_and_come_back_with_time() -> None:
    moment = 0.0
    allowance = Allowance(lambda: moment)
    assert [allowance.spend() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(5):
        allowance.earn()
    assert [allowance.spend(), allowance.spend()] == [True, False]
    moment = 600
    assert [allowance.spend() for _ in range(11)] == [True] * 10 + [False]
