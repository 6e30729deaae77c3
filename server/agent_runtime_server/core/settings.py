"""Settings: environment variables `AGENT_RUNTIME_*`, and a `.env` in the current directory."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from agent_runtime_server.core.prices import Price
from agent_runtime_server.core.principal import Role
from agent_runtime_server.core.quotas import Quota, parse


class TimeoutAction(StrEnum):
    """What becomes of an approval that nobody decides in time."""

    REJECT = "reject"
    APPROVE = "approve"
    WAIT = "wait"


class AuthMode(StrEnum):
    """Whether callers have to say who they are."""

    OFF = "off"
    REQUIRED = "required"


class Identity(BaseModel):
    """Whose a client certificate is."""

    tenant: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    subject: str = Field(min_length=1, max_length=256)
    roles: frozenset[Role]


class Settings(BaseSettings):
    """Everything an operator can set; each field is the variable `AGENT_RUNTIME_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="AGENT_RUNTIME_", env_file=".env", extra="ignore")

    database_url: str | None = Field(None, description="Postgres >= 14; unset starts the embedded one")
    database_connections: int = Field(10, ge=3, le=1000, description="most connections of a process to it")
    database_replica_urls: str = Field("", description="read replicas of it, with commas between")
    database_replica_connections: int = Field(4, ge=1, le=1000, description="most connections of a process to each")
    database_replica_lag_seconds: float = Field(3, gt=0, le=4, description="lag beyond which a replica is left out")
    redis_url: str | None = Field(None, description="Redis >= 7 or Valkey; unset starts the embedded one")
    state_dir: Path | None = Field(None, description="where the embedded servers keep their data")

    llm_base_url: str | None = Field(None, description="an OpenAI-compatible endpoint, ending in /v1")
    llm_api_key: SecretStr | None = Field(None, description="sent to it as a bearer token")
    llm_model: str = Field("default", description="model of agents that name none")
    llm_profile: str = Field("", description="what the endpoint declares of itself, as in llm_fallback_models")
    llm_fallback_models: str = Field(
        "", description="models to ask in order when it fails: model[@url][;option=value…]"
    )
    llm_calls: int = Field(5, gt=0, description="most calls of one model in a step")
    llm_retry_seconds: float = Field(120, ge=0, description="how long a step goes on calling one model")
    llm_park_seconds: float = Field(1800, ge=0, description="how long a turn waits for models in all; 0 fails at once")
    llm_concurrent_calls: int = Field(0, ge=0, description="most calls of models at a time; 0 is no limit")
    tenant_weights: Mapping[str, Annotated[int, Field(ge=1, le=1000)]] = Field(
        {}, description="JSON: a tenant to its share of calls while others wait too; 1 for those not named"
    )
    breaker_failures: int = Field(5, gt=0, description="failed calls in a row after which a model is left alone")
    breaker_open_seconds: float = Field(60, gt=0, description="and for how long at most")
    llm_first_token_seconds: float = Field(60, gt=0, description="longest wait for the first token")
    llm_idle_seconds: float = Field(60, gt=0, description="longest silence after it")

    hitl_timeout: float = Field(300, gt=0, description="seconds until an approval expires")
    hitl_timeout_action: TimeoutAction = Field(TimeoutAction.REJECT, description="what happens then")

    lease_seconds: float = Field(10, gt=0, description="how long a stalled owner keeps a running step")
    heartbeat_seconds: float = Field(15, gt=0, le=15, description="longest silence of a server stream")
    client_idle_seconds: float = Field(90, gt=0, description="longest silence accepted from a client")
    stream_seconds: float = Field(3300, gt=0, description="greatest age of a stream; clients attach again")
    stream_window_ms: float = Field(20, ge=0, description="how long text gathers before it is sent")
    turn_seconds: float = Field(1800, gt=0, description="longest turn")
    turn_steps: int = Field(50, gt=0, description="most model calls of a turn")
    turn_bytes: int = Field(
        8 << 20, ge=1 << 20, description="most bytes of what is said, answered, called and returned in a turn"
    )
    turn_tokens: int = Field(0, ge=0, description="most tokens of a turn; 0 is no limit, here and below")
    turn_cost: float = Field(0, ge=0, description="most a turn may cost, by llm_prices")
    turn_tool_calls: int = Field(0, ge=0, le=1_000_000, description="most tool calls of a turn")
    session_tokens: int = Field(0, ge=0, description="most tokens of a session")
    session_cost: float = Field(0, ge=0, description="most a session may cost")
    session_steps: int = Field(0, ge=0, description="most model calls of a session")
    session_tool_calls: int = Field(0, ge=0, description="most tool calls of a session")
    session_seconds: int = Field(0, ge=0, description="longest time of a session's turns in all, as of turn_seconds")
    user_day_tokens: int = Field(0, ge=0, description="most tokens of a user in a day (UTC)")
    user_day_cost: float = Field(0, ge=0, description="most a user may cost in a day")
    user_day_steps: int = Field(0, ge=0, description="most model calls of a user in a day")
    user_day_tool_calls: int = Field(0, ge=0, description="most tool calls of a user in a day")
    user_day_seconds: int = Field(0, ge=0, description="longest time of a user's turns in a day, as of turn_seconds")
    tenant_day_tokens: int = Field(0, ge=0, description="most tokens of a tenant in a day")
    tenant_day_cost: float = Field(0, ge=0, description="most a tenant may cost in a day")
    tenant_day_steps: int = Field(0, ge=0, description="most model calls of a tenant in a day")
    tenant_day_tool_calls: int = Field(0, ge=0, description="most tool calls of a tenant in a day")
    tenant_day_seconds: int = Field(
        0, ge=0, description="longest time of a tenant's turns in a day, as of turn_seconds"
    )
    budget_ask_percent: int = Field(
        0,
        ge=0,
        le=99,
        description="ask the user whenever so many more hundredths of a turn's or session's budget are used",
    )
    llm_prices: Mapping[str, Price] = Field(
        {}, description='JSON: a model, or how its name begins, or "*", to {"input", "output"} a million tokens'
    )
    turn_handoffs: int = Field(5, ge=0, description="most changes of agent in a turn")

    retain_events: int = Field(10_000, ge=0, description="events kept of a session; 0 keeps all")
    session_ttl_days: float | None = Field(None, gt=0, description="a session unused for so long expires; unset never")
    session_grace_seconds: float = Field(60, ge=0, description="how long an expired session can still be read")

    drain_seconds: float = Field(25, ge=0, le=25, description="longest time streams and steps have at shutdown")

    auth_mode: AuthMode = Field(AuthMode.OFF, description="whether callers need credentials")
    auth_forbid_self_approval: bool = Field(False, description="nobody approves calls of their own session or turn")
    auth_jwt_jwks_url: str | None = Field(None, description="where the keys of the token issuer are; allows tokens")
    auth_jwt_issuer: str = Field("", description="what the claim iss of a token must be")
    auth_jwt_audience: str = Field("", description="what the claim aud of a token must be or hold")
    auth_jwt_tenant_claim: str = Field("tenant", description="claim that names the tenant; dots lead into nested ones")
    auth_jwt_subject_claim: str = Field("sub", description="claim that names the subject")
    auth_jwt_roles_claim: str = Field("roles", description="claim that lists the roles")
    auth_jwt_tenant: str = Field("", description="tenant of tokens that name none", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    auth_certificates: Mapping[str, Identity] = Field(
        {}, description='JSON: a name in a client certificate to {"tenant", "subject", "roles"}'
    )

    tls_cert_file: Path | None = Field(None, description="certificate chain, PEM; read anew when it changes")
    tls_key_file: Path | None = Field(None, description="its key, PEM")
    tls_client_ca_file: Path | None = Field(None, description="authorities of client certificates, then needed by all")

    max_connections: int = Field(20_000, gt=0, description="most connections at a time")
    connection_idle_seconds: float = Field(300, ge=1, description="how long a connection without a call is kept")
    max_streams: int = Field(20_000, ge=0, description="most streams at a time; 0 is no limit")
    max_streams_per_caller: int | None = Field(
        None, ge=0, description="most streams of one subject; 0 is no limit, unset 1000 where there is auth"
    )
    max_streams_per_connection: int = Field(0, ge=0, description="most streams of one connection; 0 is no limit")

    max_running_turns: int = Field(0, ge=0, description="running turns of a process that let no more begin; 0 never")
    max_queued_commits: int = Field(0, ge=0, description="commits waiting in a process that let no turn begin; 0 never")
    max_lag_ms: float = Field(0, ge=0, description="lag of the event loop that lets no turn begin; 0 never")
    rate_limits: str = Field(
        "",
        description="scope.kind=amount/period[:burst], with commas between; scopes user, tenant, global; kinds read, "
        "write, stream, request, turn, token; periods s, m, h, d",
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="what is logged")

    @property
    def replica_urls(self) -> list[str]:
        """The URLs of the database's read replicas, each once."""
        return [*dict.fromkeys(url for one in self.database_replica_urls.split(",") if (url := one.strip()))]

    @field_validator("database_replica_urls")
    @classmethod
    def _are_postgres(cls, urls: str) -> str:
        for number, url in enumerate(urls.split(","), start=1):
            if url.strip() and not url.strip().startswith(("postgres://", "postgresql://")):
                raise ValueError(f"number {number} of the URLs does not begin with postgresql://")
        return urls

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """What `rate_limits` says."""
        return parse(self.rate_limits)

    @field_validator("rate_limits")
    @classmethod
    def _are_quotas(cls, text: str) -> str:
        parse(text)
        return text

    @field_validator("auth_jwt_jwks_url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        """Keys that anybody on the way could replace would let anybody in."""
        parts = urlsplit(url or "https://")
        if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("must begin with https:// (http:// is for this machine only)")
        return url
