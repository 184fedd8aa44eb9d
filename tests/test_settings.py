"""The environment is read in one place, and checked there."""

import os
import ssl
import subprocess
import sys
from typing import Any

import pytest
from celery import Celery
from pydantic import ValidationError

from app.celery import configuration
from app.database import Database
from app.settings import ROOT, Settings
from durable_sagas.messaging.transports import redis
from tests.testkit.client import Typed


def test_without_variables_the_embedded_default_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "FAULT_INJECTION"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings()

    assert settings.embedded
    assert settings.faults_allowed
    assert settings.database_url.startswith("sqlite:///")


def test_on_a_real_broker_faults_are_off_unless_asked_for() -> None:
    assert not Settings(broker_url="redis://127.0.0.1").faults_allowed
    assert Settings(broker_url="redis://127.0.0.1", fault_injection=True).faults_allowed


UNUSABLE = {
    "DATABASE_URL": ["mysql://localhost"],
    "BROKER_URL": ["", "sqs://"],
    "REDIS_URL": ["localhost:6379"],
    "PORT": ["0", "http"],
    "STALL_SECONDS": ["-1"],
    "SWEEP_SECONDS": ["30.1"],
    "DATABASE_LOCK_TIMEOUT_SECONDS": ["0"],
    "DATABASE_STATEMENT_TIMEOUT_SECONDS": ["inf"],
    "GATEWAY_LATENCY_SECONDS": ["-0.1", "nan"],
    "FAULT_INJECTION": ["maybe"],
    "FLOWER_URL": ["javascript:alert(1)", "//elsewhere.example", "/\\elsewhere.example"],
    "WORKER_CONCURRENCY": ["0"],
    "JAEGER_URL": ["localhost:16686"],
    "OTEL_EXPORTER_OTLP_ENDPOINT": ["localhost:4318", "/jaeger"],
    "OPERATOR_PASSWORD": ["short"],
    "OPERATOR_TOKEN": ["not so long"],
    "SECRET_KEY": ["not so long"],
    "PROXIES": ["-1"],
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_value_that_is_not_usable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for value in UNUSABLE[name]:
        monkeypatch.setenv(name, value)
        with pytest.raises(ValidationError):
            Settings()


def test_the_database_may_be_named_as_seed_003_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://postgres:postgres@localhost:5432/saga_order?sslmode=disable")

    engine = Database(Settings().database_url).engine

    assert (engine.dialect.name, engine.url.database, engine.url.query) == (
        "postgresql",
        "saga_order",
        {"sslmode": "disable"},
    )


@pytest.mark.parametrize("url", ["/flower", "/flower/", "/tools/flower"])
def test_what_is_behind_the_same_proxy_may_be_named_by_its_path(url: str) -> None:
    assert Settings(flower_url=url, jaeger_url=url).flower_url == url.rstrip("/")


def test_a_secret_that_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPERATOR_PASSWORD", "OPERATOR_TOKEN", "SECRET_KEY"):
        monkeypatch.setenv(name, "")

    assert (Settings().operator_password, Settings().operator_token, Settings().secret_key) == (None, None, None)


def test_the_broker_is_the_shared_redis_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for redis_url, broker_url, shared in (
        ("", "amqp://127.0.0.1", None),
        ("", "redis://127.0.0.1/1", "redis://127.0.0.1/1"),
        ("rediss://127.0.0.1/2", "redis://127.0.0.1/1", "rediss://127.0.0.1/2"),
        ("redis://127.0.0.1/2", "amqp://127.0.0.1", "redis://127.0.0.1/2"),
    ):
        monkeypatch.setenv("REDIS_URL", redis_url)
        assert Settings(broker_url=broker_url).shared_redis == shared


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("BROKER_URL", "sqs://", "BROKER_URL='sqs://'"),
        ("BROKER_URL", "ampq://user:swordfish@host//", "BROKER_URL=(not shown): "),
        ("OPERATOR_TOKEN", "swordfish", "OPERATOR_TOKEN=(not shown): "),
    ],
)
def test_the_command_line_names_the_variable_exits_with_2_and_shows_no_secret(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    assert "swordfish" not in repr(Settings(operator_password="swordfish"))  # type: ignore[arg-type]
    monkeypatch.setenv(name, value)

    ended = typed("audit")

    assert ended.exit_code == 2
    assert says in ended.stderr
    assert "swordfish" not in ended.output


def test_only_one_process_that_only_this_machine_reaches_is_private() -> None:
    assert all(Settings(host=host).private for host in ("127.0.0.1", "localhost", "::1"))
    assert not any(Settings(host=host).private for host in ("0.0.0.0", "shop.example"))
    assert not Settings(broker_url="redis://127.0.0.1").private
    assert not Settings(proxies=1).private
    assert not Settings(allowed_hosts="shop.example").private


def test_a_worker_of_its_own_refuses_a_broker_in_memory() -> None:
    command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-Q", "inventory"]
    environment = {**os.environ, "BROKER_URL": "memory://"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=200)

    assert ended.returncode != 0
    assert "BROKER_URL" in ended.stderr


@pytest.mark.parametrize(
    ("options", "checks"),
    [
        ("", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("?ssl_ca_certs=/ca.pem", {"ssl_ca_certs": "/ca.pem"}),
        ("?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
    ],
)
def test_redis_with_tls_has_our_transport_and_a_certificate_that_is_checked(
    options: str, checks: dict[str, Any]
) -> None:
    celery = Celery(set_as_current=False)
    celery.conf.update(configuration(Settings(broker_url=f"rediss://127.0.0.1:1/0{options}")))

    with celery.connection_for_write() as connection:
        assert connection.get_transport_cls() is redis.Transport
        assert connection.ssl == checks
