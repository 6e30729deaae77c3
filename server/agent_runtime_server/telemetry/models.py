"""Metrics of the calls to models."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from agent_runtime import v1
from agent_runtime_server.core.circuit import Phase

_CALL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_PARKED_SECONDS = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_KINDS = ("input", "output", "cached_input", "reasoning")
_PHASES = {Phase.CLOSED: 0, Phase.HALF_OPEN: 1, Phase.OPEN: 2}
_MOST_MODELS, _MOST_TENANTS = 100, 1000
_LONGEST_NAME = 64


class Names:
    """Values of a label that others think up, bounded in number: those that come later are counted as `other`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: set[str] = set()

    def known(self, name: str) -> str:
        """Return what a name is counted as."""
        name = name[:_LONGEST_NAME]
        if name not in self._names:
            if len(self._names) == self._most:
                return "other"
            self._names.add(name)
        return name


class ModelMetrics:
    """Implements core.observe.ModelObserver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ours = "agent_runtime_"
        self._calls = Counter(f"{ours}llm_requests", "Calls to models.", ["model", "status"], registry=registry)
        self._call_seconds = Histogram(
            f"{ours}llm_request_duration_seconds",
            "Time of a call.",
            ["model"],
            buckets=_CALL_SECONDS,
            registry=registry,
        )
        self._retries = Counter(f"{ours}llm_retries", "Calls made once more.", ["model", "reason"], registry=registry)
        self._tokens = Counter(
            f"{ours}llm_tokens",
            "Tokens of answers; cached and reasoning ones stand in input and output too.",
            ["model", "kind"],
            registry=registry,
        )
        self._cost = Counter(f"{ours}llm_cost", "Cost of answers, by the price table.", ["model"], registry=registry)
        self._tenant_tokens = Counter(
            f"{ours}tenant_llm_tokens", "Input and output tokens of answers.", ["tenant"], registry=registry
        )
        self._tenant_cost = Counter(
            f"{ours}tenant_llm_cost", "Cost of answers, by the price table.", ["tenant"], registry=registry
        )
        self._tenant_tool_calls = Counter(
            f"{ours}tenant_tool_calls", "Tool calls that models asked for.", ["tenant"], registry=registry
        )
        self._tenant_seconds = Counter(
            f"{ours}tenant_turn_seconds",
            "Time in which turns worked or waited for tools.",
            ["tenant"],
            registry=registry,
        )
        self._models, self._tenants = Names(_MOST_MODELS), Names(_MOST_TENANTS)
        self._fallbacks = Counter(
            f"{ours}llm_fallbacks", "Steps for which another model was asked.", ["model", "by"], registry=registry
        )
        self._circuit = Gauge(
            f"{ours}llm_circuit_state", "0 closed, 1 half open, 2 open.", ["endpoint", "model"], registry=registry
        )
        self._circuit_changes = Counter(
            f"{ours}llm_circuit_changes", "Changes of a circuit.", ["endpoint", "model", "to"], registry=registry
        )
        self._parked = Counter(f"{ours}turns_parked", "Turns that began to wait for a model.", registry=registry)
        self._resumed = Histogram(
            f"{ours}turn_parked_seconds",
            "How long turns waited for a model.",
            buckets=_PARKED_SECONDS,
            registry=registry,
        )

    def model_called(self, model: str, status: str, seconds: float) -> None:
        """Count a call to a model."""
        self._calls.labels(model, status).inc()
        self._call_seconds.labels(model).observe(seconds)

    def model_retried(self, model: str, why: str) -> None:
        """Count a call that is made once more."""
        self._retries.labels(model, why).inc()

    def tokens_used(self, model: str, usage: v1.Usage, tenant: str) -> None:
        """Count the tokens and the cost of an answer."""
        model, tenant = self._models.known(model), self._tenants.known(tenant)
        for kind in _KINDS:
            if number := getattr(usage, f"{kind}_tokens"):
                self._tokens.labels(model, kind).inc(number)
        self._tenant_tokens.labels(tenant).inc(usage.input_tokens + usage.output_tokens)
        if usage.cost_micros:
            self._cost.labels(model).inc(usage.cost_micros / 1e6)
            self._tenant_cost.labels(tenant).inc(usage.cost_micros / 1e6)

    def turns_worked(self, tenant: str, usage: v1.Usage) -> None:
        """Count what turns took beside models."""
        tenant = self._tenants.known(tenant)
        if usage.tool_calls:
            self._tenant_tool_calls.labels(tenant).inc(usage.tool_calls)
        self._tenant_seconds.labels(tenant).inc(usage.worked_millis / 1000)

    def model_replaced(self, model: str, by: str) -> None:
        """Count that another model is asked instead."""
        self._fallbacks.labels(model, by).inc()

    def circuit_changed(self, endpoint: str, model: str, phase: Phase) -> None:
        """Show the phase of a circuit, and count its changes."""
        self._circuit.labels(endpoint, model).set(_PHASES[phase])
        self._circuit_changes.labels(endpoint, model, phase.value).inc()

    def turn_parked(self) -> None:
        """Count a turn that waits for a model."""
        self._parked.inc()

    def turn_resumed(self, seconds: float) -> None:
        """Count a turn that waits no longer."""
        self._resumed.observe(seconds)
