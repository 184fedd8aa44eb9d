"""The one reader of the environment."""

import re
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent

Seconds = Annotated[float, Field(gt=0)]
ServerTimeout = Annotated[float, Field(ge=0.001, le=86_400)]
"""In seconds; PostgreSQL counts in milliseconds, and 0 would mean no timeout."""

# a variable that is set to nothing, as a compose file does, is not set
_UNSET_IF_EMPTY = BeforeValidator(lambda value: None if value == "" else value)
Password = Annotated[SecretStr | None, Field(min_length=8), _UNSET_IF_EMPTY]
Key = Annotated[SecretStr | None, Field(min_length=16), _UNSET_IF_EMPTY]

REDIS = ("redis://", "rediss://")

SECRETS = ("operator_password", "operator_token", "secret_key")
"""The settings whose values are never shown, not even when they cannot be used."""


class LogFormat(StrEnum):
    """How log lines are written."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """For machines: one object a line."""


class Settings(BaseSettings):
    """Everything that may differ between two installations; frozen once read.

    Without any variable set the embedded default runs: SQLite under ``var/`` and a broker in memory.
    Raises ``pydantic.ValidationError``, naming the variable, when a value is not usable.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: str = f"sqlite:///{ROOT / 'var' / 'cloudmart.db'}"
    broker_url: str = "memory://"
    redis_url: Annotated[str | None, _UNSET_IF_EMPTY] = None
    """Where web processes count together and hear of changes at once. Unset: the broker, if that is Redis."""

    database_lock_timeout_seconds: ServerTimeout = 5
    """How long a statement on PostgreSQL may wait for a lock."""

    database_statement_timeout_seconds: ServerTimeout = 30
    """How long a statement on PostgreSQL may take."""

    database_idle_transaction_seconds: ServerTimeout = 10
    """How long a transaction on PostgreSQL may wait for its process, which holds its locks meanwhile."""

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

    gateway_latency_seconds: Annotated[float, Field(ge=0)] = 0
    """How long the simulated payment provider and carrier take to answer."""

    sweep_seconds: Annotated[Seconds, Field(le=30)] = 1
    """How often the scheduler runs the sweep; half of what ``LATE_SECONDS`` and the alert take for late, at most."""

    worker_concurrency: Annotated[int, Field(ge=1, le=100)] = 2
    """How many steps ``python -m app worker`` runs at the same time."""

    worker_niceness: Annotated[int, Field(ge=0, le=19)] = 10
    """How far ``python -m app worker`` gives way to whoever wants the same processor: somebody waits for the web."""

    heartbeat_file: Annotated[str | None, _UNSET_IF_EMPTY] = None
    """Where a worker, or beat, keeps its sign of life."""

    flower_url: str | None = None
    """Where Flower shows Celery's tasks, a path if behind the same proxy; the pages link to it if it is known."""

    jaeger_url: str | None = None
    """Where Jaeger shows traces, a path if behind the same proxy; the pages link to it if it is known."""

    otel_exporter_otlp_endpoint: Annotated[str | None, _UNSET_IF_EMPTY] = None
    """Where a collector takes traces by OTLP over HTTP. Unset: none are made."""

    operator_password: Password = None
    """What an operator logs in with. Unset: one that ``python -m app`` made, if it did; else nobody gets in."""

    operator_token: Key = None
    """The bearer token of the API's operator calls. Unset: they are open to this machine in the embedded default."""

    secret_key: Key = None
    """What sessions and forms are signed with. Unset: one that is made once and kept in the database."""

    proxies: Annotated[int, Field(ge=0, le=10)] = 0
    """How many proxies of our own a request passes: so many addresses of X-Forwarded-For are believed."""

    allowed_hosts: str = ""
    """Host names that requests may ask for, separated by commas, besides this machine's own names and HOST."""

    metrics_port: Annotated[int | None, Field(ge=1, le=65535), _UNSET_IF_EMPTY] = None
    """Where a worker serves its ``/metrics``. Unset: nowhere."""

    metrics_host: str = "0.0.0.0"  # noqa: S104  (who sets a port wants it scraped, and that is done from elsewhere)
    """The address that a worker serves its ``/metrics`` on."""

    prometheus_multiproc_dir: Annotated[Path | None, _UNSET_IF_EMPTY] = None
    """The folder in which the processes of a machine count together. Unset: each worker and web server makes one."""

    log_level: str = "INFO"
    log_format: LogFormat = LogFormat.TEXT

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url.startswith("postgres://"):  # as seed 003 and many hosting services write it; SQLAlchemy refuses it
            url = url.replace("postgres://", "postgresql://", 1)
        if not url.startswith(("sqlite://", "postgresql+psycopg2://", "postgresql://")):
            raise ValueError("must start with sqlite:// or postgresql+psycopg2://")
        return url

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, url: str) -> str:
        if not url.startswith(("memory://", "amqp://", "amqps://", "redis://", "rediss://")):
            raise ValueError("must start with amqp://, redis:// or memory://")
        return url

    @field_validator("redis_url")
    @classmethod
    def _known_redis(cls, url: str | None) -> str | None:
        if url and not url.startswith(REDIS):
            raise ValueError("must start with redis:// or rediss://")
        return url

    @field_validator("flower_url", "jaeger_url")
    @classmethod
    def _link(cls, url: str | None) -> str | None:
        # two slashes would lead to another host
        if url and not re.match(r"https?://|/[A-Za-z0-9]", url):
            raise ValueError("must start with http:// or https://, or be a path such as /flower")
        return url.rstrip("/") if url else None

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _collector(cls, url: str | None) -> str | None:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url.rstrip("/") if url else None

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, names: str) -> str:
        read = [name.strip().lower().strip("[]") for name in names.split(",") if name.strip()]
        for name in read:
            if not (is_address(name) or re.fullmatch(r"\.?[\w-]+(\.[\w-]+)*", name, re.ASCII)):
                raise ValueError("must be host names without scheme, port and path, separated by commas")
        return ",".join(read)

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
    def shared_redis(self) -> str | None:
        """Where the Redis is that the processes share; None if they share none."""
        return self.redis_url or (self.broker_url if self.broker_url.startswith(REDIS) else None)

    @property
    def faults_allowed(self) -> bool:
        """Tell whether ``simulate`` is accepted in a request."""
        return self.embedded if self.fault_injection is None else self.fault_injection

    @property
    def private(self) -> bool:
        """Return whether all of it runs in one process that only this machine can reach, by its own names."""
        return self.embedded and not self.proxies and not self.allowed_hosts and is_loopback(self.host)

    def knows_host(self, name: str) -> bool:
        """Return whether a request may ask for a host of this name, which is in lower case and without a port."""
        if is_loopback(name) or name == self.host.lower():
            return True
        # a name can be pointed here by its owner; an address is the one that the client connected to
        if is_address(name) and is_address(self.host) and ip_address(self.host).is_unspecified:
            return True
        known = self.allowed_hosts.split(",") if self.allowed_hosts else []
        return any(name == one or (one.startswith(".") and f".{name}".endswith(one)) for one in known)

    def but(self, **changes: object) -> Self:
        """Return a copy with some values changed, validated like the original."""
        return type(self)(**{**self.model_dump(), **changes})


def is_loopback(host: str) -> bool:
    """Tell whether an address, or a name, is the machine's own."""
    return ip_address(host).is_loopback if is_address(host) else host == "localhost"


def is_address(host: str) -> bool:
    """Return whether a host is given by its IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
