"""Read all settings from the environment."""

import re
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent

Seconds = Annotated[float, Field(gt=0)]
ServerTimeout = Annotated[float, Field(ge=0.001, le=86_400)]
"""In seconds; PostgreSQL counts in milliseconds, and 0 would mean no timeout."""

# an empty variable, as set by a compose file, counts as unset
_UNSET_IF_EMPTY = BeforeValidator(lambda value: None if value == "" else value)
Password = Annotated[SecretStr | None, Field(min_length=8), _UNSET_IF_EMPTY]
Key = Annotated[SecretStr | None, Field(min_length=16), _UNSET_IF_EMPTY]

REDIS = ("redis://", "rediss://")


def _starts_with(shown: str, *schemes: str) -> AfterValidator:
    def check(url: str | None) -> str | None:
        if url is not None and not url.startswith(schemes):
            raise ValueError(f"must start with {shown}")
        return url

    return AfterValidator(check)


SECRETS = ("operator_password", "operator_token", "secret_key")
"""The settings whose values are never shown, not even in validation errors."""


class LogFormat(StrEnum):
    """The format of log lines."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """For machines: one JSON object per line."""


class Settings(BaseSettings):
    """Everything that may differ between two installations; frozen once read.

    Without any variable set the embedded default runs: SQLite under ``var/`` and an in-memory broker.

    Raises ``pydantic.ValidationError``, naming the variable, for an unusable value.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    database_url: str = f"sqlite:///{ROOT / 'var' / 'cloudmart.db'}"
    broker_url: Annotated[
        str, _starts_with("amqp://, redis:// or memory://", "amqp://", "amqps://", "memory://", *REDIS)
    ] = "memory://"

    redis_url: Annotated[str | None, _starts_with("redis:// or rediss://", *REDIS), _UNSET_IF_EMPTY] = None
    """The Redis where web processes share rate limits and receive changes. Unset: the broker, if that is Redis."""

    database_lock_timeout_seconds: ServerTimeout = 5
    """How long a statement on PostgreSQL may wait for a lock."""

    database_statement_timeout_seconds: ServerTimeout = 30
    """How long a statement on PostgreSQL may take."""

    database_idle_transaction_seconds: ServerTimeout = 10
    """How long a transaction on PostgreSQL, which holds locks, may be idle."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    web_threads: Annotated[int, Field(ge=1, le=1000)] = 16
    """How many requests a web process serves concurrently; at most half of them are live pages."""

    fault_injection: bool | None = None
    """Whether an order may request a fault. Unset: yes in the embedded default, no on real servers."""

    stall_seconds: Seconds = 15
    """How long a saga may make no progress before the sweep re-drives it."""

    step_timeout_seconds: Seconds = 30
    """The deadline of a step that declares none."""

    order_timeout_seconds: Seconds = 60
    """The deadline of a whole choreographed order, enforced by the orders service."""

    gateway_timeout_seconds: Seconds = 5
    """How long a call to the payment provider or the carrier may take."""

    gateway_latency_seconds: Annotated[float, Field(ge=0)] = 0
    """How long the simulated payment provider and carrier take to answer."""

    sweep_seconds: Annotated[Seconds, Field(le=30)] = 1
    """The interval between sweeps; at most half of what ``LATE_SECONDS`` and the alert consider late."""

    acceptable_wait_seconds: Seconds = 30
    """How long an accepted order may wait for those before it; more orders than that are rejected."""

    max_unfinished: Annotated[int | None, Field(ge=1), _UNSET_IF_EMPTY] = None
    """The maximum number of unfinished sagas beyond which orders are rejected. Unset: only the wait counts."""

    worker_concurrency: Annotated[int, Field(ge=1, le=100)] = 2
    """How many steps ``python -m app worker`` runs concurrently."""

    worker_niceness: Annotated[int, Field(ge=0, le=19)] = 10
    """The niceness of ``python -m app worker``, so that web requests get the processor first."""

    heartbeat_file: Annotated[str | None, _UNSET_IF_EMPTY] = None
    """The heartbeat file of a worker or of beat."""

    flower_url: str | None = None
    """The URL of Flower, or a path behind the same proxy; the pages link to it if set."""

    jaeger_url: str | None = None
    """The URL of Jaeger, or a path behind the same proxy; the pages link to it if set."""

    otel_exporter_otlp_endpoint: Annotated[
        str | None, _starts_with("http:// or https://", "http://", "https://"), _UNSET_IF_EMPTY
    ] = None
    """The endpoint of a collector for traces by OTLP over HTTP. Unset: no traces."""

    operator_password: Password = None
    """The operators' password. Unset: the one generated by ``python -m app``, if any; else login is disabled."""

    operator_token: Key = None
    """The bearer token of the API's operator calls. Unset: in the embedded default they are open to this machine."""

    secret_key: Key = None
    """The key that signs sessions and forms. Unset: one that is generated once and stored in the database."""

    proxies: Annotated[int, Field(ge=0, le=10)] = 0
    """How many trusted proxies a request passes: this many addresses of X-Forwarded-For are trusted."""

    allowed_hosts: str = ""
    """Accepted host names of requests, separated by commas, besides this machine's own names and HOST."""

    metrics_port: Annotated[int | None, Field(ge=1, le=65535), _UNSET_IF_EMPTY] = None
    """The port on which a worker serves ``/metrics``. Unset: none."""

    metrics_host: str = "0.0.0.0"  # noqa: S104  (metrics are scraped from other hosts)
    """The address on which a worker serves ``/metrics``."""

    prometheus_multiproc_dir: Annotated[Path | None, _UNSET_IF_EMPTY] = None
    """The folder for the metrics of a machine's processes. Unset: each worker and web server creates one."""

    log_level: str = "INFO"
    log_format: LogFormat = LogFormat.TEXT

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        if url.startswith("postgres://"):  # as in seed 003 and at many hosting services; SQLAlchemy does not accept it
            url = url.replace("postgres://", "postgresql://", 1)
        if not url.startswith(("sqlite://", "postgresql+psycopg2://", "postgresql://")):
            raise ValueError("must start with sqlite:// or postgresql+psycopg2://")
        return url

    @field_validator("flower_url", "jaeger_url")
    @classmethod
    def _link(cls, url: str | None) -> str | None:
        # a path with two leading slashes would lead to another host
        if url and not re.match(r"https?://|/[A-Za-z0-9]", url):
            raise ValueError("must start with http:// or https://, or be a path such as /flower")
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
        """Return whether the broker is in this process's memory, so that web, worker and scheduler must share it."""
        return self.broker_url.startswith("memory://")

    @property
    def shared_redis(self) -> str | None:
        """The URL of the Redis shared by the processes; None without one."""
        return self.redis_url or (self.broker_url if self.broker_url.startswith(REDIS) else None)

    @property
    def faults_allowed(self) -> bool:
        """Return whether ``simulate`` is accepted in a request."""
        return self.embedded if self.fault_injection is None else self.fault_injection

    @property
    def private(self) -> bool:
        """Return whether everything runs in one process that is reachable only from this machine, by its own names."""
        return self.embedded and not self.proxies and not self.allowed_hosts and is_loopback(self.host)

    def knows_host(self, name: str) -> bool:
        """Return whether a request for this host name is accepted; ``name`` is in lower case, without a port."""
        if is_loopback(name) or name == self.host.lower():
            return True
        # anyone can point a name of theirs at this machine; an address is what the client connected to
        if is_address(name) and is_address(self.host) and ip_address(self.host).is_unspecified:
            return True
        known = self.allowed_hosts.split(",") if self.allowed_hosts else []
        return any(name == one or (one.startswith(".") and f".{name}".endswith(one)) for one in known)

    def but(self, **changes: object) -> Self:
        """Return a copy with some values changed, validated like the original."""
        return type(self)(**{**self.model_dump(), **changes})


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback address or ``localhost``."""
    return ip_address(host).is_loopback if is_address(host) else host == "localhost"


def is_address(host: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
