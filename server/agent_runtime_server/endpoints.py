"""The model endpoints that the settings name, as one model."""

import os
from collections.abc import Callable
from contextlib import AsyncExitStack

from agent_runtime_server.core.circuit import Rules
from agent_runtime_server.core.observe import ModelObserver
from agent_runtime_server.core.settings import Settings
from agent_runtime_server.llm.fallbacks import Fallback, fallbacks
from agent_runtime_server.llm.openai import OpenAiModel
from agent_runtime_server.llm.profile import profile
from agent_runtime_server.llm.resilient import Choice, Patience, Resilient
from agent_runtime_server.llm.turnstile import Turnstile
from agent_runtime_server.stores.shared import Circuits


def open_model(
    stack: AsyncExitStack,
    settings: Settings,
    base_url: str,
    circuits: Callable[[Rules], Circuits],
    observer: ModelObserver,
) -> Resilient:
    """Return the model at a base URL and what it falls back on; connections close with the stack."""
    rules = Rules(failures=settings.breaker_failures, open_ms=int(settings.breaker_open_seconds * 1000))
    others = fallbacks(settings.llm_fallback_models, os.environ)
    choices = [_preferred(stack, settings, base_url), *(_other(stack, settings, base_url, one) for one in others)]
    patience = Patience(settings.llm_calls, settings.llm_retry_seconds)
    turnstile = Turnstile(settings.llm_concurrent_calls, settings.tenant_weights)
    return Resilient(
        choices, rules=rules, circuits=circuits(rules), observer=observer, patience=patience, turnstile=turnstile
    )


def _preferred(stack: AsyncExitStack, settings: Settings, base_url: str) -> Choice:
    declared = profile("llm_profile", settings.llm_profile)
    return _choice(stack, settings, Fallback("", base_url, _key(settings), declared))


def _other(stack: AsyncExitStack, settings: Settings, base_url: str, fallback: Fallback) -> Choice:
    if fallback.base_url:
        return _choice(stack, settings, fallback)
    return _choice(stack, settings, Fallback(fallback.model, base_url, _key(settings), fallback.profile))


def _key(settings: Settings) -> str | None:
    return settings.llm_api_key.get_secret_value() if settings.llm_api_key is not None else None


def _choice(stack: AsyncExitStack, settings: Settings, wanted: Fallback) -> Choice:
    endpoint = OpenAiModel(
        wanted.base_url,
        wanted.api_key,
        first_token_seconds=settings.llm_first_token_seconds,
        idle_seconds=settings.llm_idle_seconds,
        window_seconds=settings.stream_window_ms / 1000,
        profile=wanted.profile,
    )
    stack.push_async_callback(endpoint.aclose)
    return Choice(endpoint, wanted.profile, wanted.model)
