"""Settings: environment variables `AGENT_RUNTIME_*`, and a `.env` in the current directory."""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class TimeoutAction(StrEnum):
    """What becomes of an approval that nobody decides in time."""

    REJECT = "reject"
    APPROVE = "approve"
    WAIT = "wait"


class Settings(BaseSettings):
    """Everything an operator can set; each field is the variable `AGENT_RUNTIME_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="AGENT_RUNTIME_", env_file=".env", extra="ignore")

    database_url: str | None = Field(None, description="Postgres >= 14; unset starts the embedded one")
    database_connections: int = Field(10, ge=3, le=1000, description="most connections of a process to it")
    redis_url: str | None = Field(None, description="Redis >= 7 or Valkey; unset starts the embedded one")
    state_dir: Path | None = Field(None, description="where the embedded servers keep their data")

    llm_base_url: str | None = Field(None, description="an OpenAI-compatible endpoint, ending in /v1")
    llm_api_key: SecretStr | None = Field(None, description="sent to it as a bearer token")
    llm_model: str = Field("default", description="model of agents that name none")
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
    turn_handoffs: int = Field(5, ge=0, description="most changes of agent in a turn")

    drain_seconds: float = Field(2, ge=0, le=30, description="time streams have to leave at shutdown")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="what is logged")
