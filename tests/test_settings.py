"""The environment is read in one place, and checked there."""

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from app.settings import Settings
from tests.stacks import ROOT


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://localhost"),
        ("BROKER_URL", "sqs://"),
        ("PORT", "0"),
        ("PORT", "http"),
        ("STALL_SECONDS", "-1"),
        ("FAULT_INJECTION", "maybe"),
        ("FLOWER_URL", "javascript:alert(1)"),
        ("JAEGER_URL", "localhost:16686"),
    ],
)
def test_a_value_that_is_not_usable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_the_command_line_names_the_variable_and_exits_with_2() -> None:
    environment = {**os.environ, "BROKER_URL": "sqs://"}
    command = [sys.executable, "-m", "app", "audit"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "BROKER_URL='sqs://'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_worker_of_its_own_refuses_a_broker_in_memory() -> None:
    environment = {**os.environ, "BROKER_URL": "memory://"}
    command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-Q", "inventory"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=30)

    assert ended.returncode != 0
    assert "BROKER_URL" in ended.stderr
