"""What an endpoint declares of itself, and a request as it wants it; pure.

A profile is written as options behind a model's name, such as `context=128000;tools=no`.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

from agent_runtime_server.core.errors import ValidationFailed, invalid
from agent_runtime_server.llm.base import ModelRequest
from agent_runtime_server.llm.messages import size

_CHARACTERS_A_TOKEN: Final = 3  # fewer than most texts have, so that what just fits is not tried in vain
_ANSWER_TOKENS: Final = 1024  # that must be left for an answer
_YES_NO: Final = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Profile:
    """How one model at one endpoint wants its requests."""

    context: int = 0  # tokens that request and answer may have together, 0 when not known
    tools: bool = True  # whether it can call tools
    tool_choice: bool = False  # whether `tool_choice` must be said
    usage: bool = True  # whether it bears `stream_options`
    temperature: bool = True  # whether it bears a temperature
    max_tokens: str = "max_tokens"  # the name of the bound of an answer

    def takes(self, request: ModelRequest) -> bool:
        """Tell whether a model of this profile can answer the request, as far as is declared."""
        if request.tools and not self.tools:
            return False
        return not self.context or _tokens(request) + _ANSWER_TOKENS <= self.context

    def payload(self, request: ModelRequest) -> dict[str, object]:
        """Return the body of a chat completion."""
        payload: dict[str, object] = {"model": request.model, "messages": request.messages, "stream": True}
        if self.usage:
            payload["stream_options"] = {"include_usage": True}
        if request.tools:
            payload["tools"] = request.tools
            if self.tool_choice:
                payload["tool_choice"] = "auto"
        if request.temperature is not None and self.temperature:
            payload["temperature"] = request.temperature
        if request.max_output_tokens is not None:
            payload[self.max_tokens] = request.max_output_tokens
        return payload


def profile(setting: str, options: str) -> Profile:
    """Return the profile that options such as `context=128000;tools=no` declare; `setting` is where they stand."""
    made = Profile()
    for option in filter(None, (part.strip() for part in options.split(";"))):
        name, _, value = (part.strip() for part in option.partition("="))
        made = replace(made, **{name: _value(setting, name, value)})  # type: ignore[arg-type]
    return made


def _value(setting: str, name: str, value: str) -> bool | int | str:
    default = {field.name: field.default for field in fields(Profile)}.get(name)
    if default is None:
        raise _bad(setting, f"there is no option {name!r}; there are {', '.join(one.name for one in fields(Profile))}")
    if isinstance(default, bool):
        if value not in _YES_NO:
            raise _bad(setting, f"{name} must be yes or no")
        return _YES_NO[value]
    if isinstance(default, int):
        if not value.isdecimal():
            raise _bad(setting, f"{name} must be a number of tokens")
        return int(value)
    if value not in ("max_tokens", "max_completion_tokens"):
        raise _bad(setting, "max_tokens must be max_tokens or max_completion_tokens")
    return value


def _bad(setting: str, text: str) -> ValidationFailed:
    return invalid(setting, "profile", text)


def _tokens(request: ModelRequest) -> int:
    """Return about how many tokens a request has, rather too many than too few."""
    return (size(request.messages) + size(request.tools)) // _CHARACTERS_A_TOKEN
