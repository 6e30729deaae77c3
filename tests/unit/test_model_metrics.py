"""Metrics of models and tenants do not grow with the names that others think up."""

import pytest
from prometheus_client import CollectorRegistry

from agent_runtime import v1
from agent_runtime_server.telemetry.models import ModelMetrics


def test_names_that_come_too_late_are_counted_together() -> None:
    registry = CollectorRegistry()
    metrics = ModelMetrics(registry)
    usage = v1.Usage(input_tokens=2, output_tokens=1, model_calls=1, cost_micros=5)
    for number in range(1500):
        metrics.tokens_used(f"model-{number}", usage, f"tenant-{number}")
    metrics.tokens_used("model-0", usage, "tenant-0")

    def tokens(tenant: str) -> float | None:
        return registry.get_sample_value("agent_runtime_tenant_llm_tokens_total", {"tenant": tenant})

    assert (tokens("tenant-0"), tokens("tenant-999"), tokens("tenant-1000")) == (6, 3, None)
    assert tokens("other") == 1500
    cost = registry.get_sample_value("agent_runtime_llm_cost_total", {"model": "other"})
    assert cost == pytest.approx(1400 * 5 / 1e6)
