"""The models to fall back on, as an operator writes them.

    small, other@https://other.example/v1;key=OTHER_KEY;context=128000, local@http://127.0.0.1:8000/v1;tools=no

Entries in order of preference: a model of the endpoint in use, or of another one behind `@`. `key` names the
environment variable that holds the other endpoint's key; it never gets that of the endpoint in use. The rest is a
profile.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent_runtime_server.core.errors import invalid
from agent_runtime_server.llm.profile import Profile, profile

SETTING: Final = "llm_fallback_models"
_OTHER_ENDPOINT: Final = re.compile(r"@(?=https?://)")  # other @ may stand in a model's name


@dataclass(frozen=True, slots=True)
class Fallback:
    """One entry; without a base URL it is a model of the endpoint in use."""

    model: str
    base_url: str
    api_key: str | None
    profile: Profile


def fallbacks(text: str, environment: Mapping[str, str]) -> list[Fallback]:
    """Return the entries of a setting; raise ValidationFailed where one cannot be used."""
    return [_fallback(entry.strip(), environment) for entry in text.split(",") if entry.strip()]


def _fallback(entry: str, environment: Mapping[str, str]) -> Fallback:
    name, *options = (part.strip() for part in entry.split(";"))
    model, *url = _OTHER_ENDPOINT.split(name, maxsplit=1)
    if not model:
        raise invalid(SETTING, "entry", f"{entry!r} names no model")
    keys = [option.partition("=")[2].strip() for option in options if option.startswith("key=")]
    if keys and not url:
        raise invalid(SETTING, "entry", f"{model} is a model of the endpoint in use, whose key is LLM_API_KEY")
    if keys and keys[0] not in environment:
        raise invalid(SETTING, "entry", f"{model} takes its key from the variable {keys[0]}, which is not set")
    rest = ";".join(option for option in options if not option.startswith("key="))
    return Fallback(model, url[0] if url else "", environment[keys[0]] if keys else None, profile(SETTING, rest))
