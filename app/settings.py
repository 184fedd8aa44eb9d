"""The one reader of the environment."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent

Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """Everything that may differ between two installations; frozen once read.

    Without any variable set the embedded default runs: SQLite under ``var/`` and a broker in memory.
    Raises ``pydantic.ValidationError``, naming the variable, when a value is not usable.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: str = f"sqlite:///{ROOT / 'var' / 'cloudmart.db'}"
    broker_url: str = "memory://"
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    web_threads: Annotated[int, Field(ge=1, le=1000)] = 16
    """How many requests a web process serves at the same time; at most half of them are live pages."""

    fault_injection: bool | None = None
    """Whether an order may ask for a fault. Unset: yes in the embedded default, no on real servers."""

    stall_seconds: Seconds = 15
    """How long a saga may make no progress before the sweep drives it on again."""

    step_timeout_seconds: Seconds = 30
    """The deadline of a step that declares none of its own."""

    order_timeout_seconds: Seconds = 60
    """The deadline of a whole choreographed order, kept by the orders service."""

    gateway_timeout_seconds: Seconds = 5
    """How long a call to the payment provider or the carrier may take."""

    sweep_seconds: Seconds = 1
    """How often the scheduler runs the sweep."""

    flower_url: str | None = None
    """Where Flower shows Celery's tasks; the pages link to it if it is known."""

    jaeger_url: str | None = None
    """Where Jaeger shows traces; the pages link to it if it is known."""

    log_level: str = "INFO"

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if not url.startswith(("sqlite://", "postgresql+psycopg2://", "postgresql://")):
            raise ValueError("must start with sqlite:// or postgresql+psycopg2://")
        return url

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, url: str) -> str:
        if not url.startswith(("memory://", "amqp://", "amqps://", "redis://", "rediss://")):
            raise ValueError("must start with amqp://, redis:// or memory://")
        return url

    @field_validator("flower_url", "jaeger_url")
    @classmethod
    def _web_address(cls, url: str | None) -> str | None:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url.rstrip("/") if url else None

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return level.upper()

    @property
    def embedded(self) -> bool:
        """Tell whether messages live in this process only, so that web, worker and scheduler must share it."""
        return self.broker_url.startswith("memory://")

    @property
    def faults_allowed(self) -> bool:
        """Tell whether ``simulate`` is accepted in a request."""
        return self.embedded if self.fault_injection is None else self.fault_injection

    def but(self, **changes: object) -> Self:
        """Return a copy with some values changed, validated like the original."""
        return type(self)(**{**self.model_dump(), **changes})
