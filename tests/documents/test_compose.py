"""The files that run the shop in containers, held against what they promise; only Docker itself can do more."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from app.settings import ROOT, Settings
from deploy import roll
from workflows import QUEUES

TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = (ROOT / ".env.example").read_text()
DOCUMENTED = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
SECRETS = {name for name, value in DOCUMENTED.items() if not value}
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("cloudmart:")]
ONE_SHOT = {"migrate"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_bounded_restarted_checked_and_pinned(name: str) -> None:
    service = SERVICES[name]
    assert service["deploy"]["resources"]["limits"] == {"cpus": "0.5", "memory": "512M"}
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "20m", "max-file": "5"}}
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    if name not in ONE_SHOT:
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}
    if name in OURS:
        assert service["pull_policy"] == "never"
    else:
        assert re.search(r":v?\d+\.\d+", service["image"])


def test_a_check_may_wait_for_the_first_heartbeat_as_long_as_a_worker_may_start() -> None:
    check = SERVICES["payments"]["healthcheck"]
    waits, seconds = int(check["test"][-1]), {name: int(check[name][:-1]) for name in ("timeout", "start_period")}
    assert waits < seconds["timeout"] <= seconds["start_period"]
    # Compose refuses the file where the Engine is older than 25
    assert not any("start_interval" in service.get("healthcheck", {}) for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_only_nginx_is_reached_from_outside(name: str) -> None:
    service, networks = SERVICES[name], SERVICES[name]["networks"]
    if name == "nginx":
        assert service["ports"] == ["${HTTP_BIND:-127.0.0.1}:${HTTP_PORT:-8080}:8080"]
    else:
        assert "ports" not in service
        assert "outside" not in networks
    assert all(COMPOSE["networks"][network].get("internal") for network in networks if network != "outside")
    if name in (*OURS, "nginx"):  # what a stranger may reach can do nothing to its container
        assert not service["user"].startswith(("0", "root"))
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


@pytest.mark.parametrize("queue", QUEUES)
def test_every_queue_has_a_service(queue: str) -> None:
    service = SERVICES[queue]
    assert service["command"] == ["python", "-m", "app", "worker", queue]
    assert service["deploy"]["replicas"] == f"${{{queue.upper()}_REPLICAS:-1}}"


def test_what_runs_of_ours_is_rolled() -> None:
    assert set(roll.SERVICES) == set(OURS) - ONE_SHOT


def test_every_variable_is_documented_with_its_default_and_no_secret_has_one() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert used == set(DOCUMENTED) - {"COMPOSE_PROFILES"}  # which Compose reads itself
    for name, default in re.findall(r"\$\{([A-Z_]+):-([^${}]+)\}", TEXT):
        assert DOCUMENTED[name] == default, name
    assert len(SECRETS) == 8
    for name in SECRETS:  # and none may be empty
        assert set(re.findall(rf"\$\{{{name}(.{{2}})", TEXT)) == {":?"}, name
    assert set(SERVICES["web"]["environment"]) <= {name.upper() for name in Settings.model_fields}


def test_web_answers_health_checks_and_prometheus_which_asks_by_an_address() -> None:
    web = Settings(host=SERVICES["web"]["environment"]["HOST"])
    assert web.knows_host("127.0.0.1")
    assert web.knows_host("172.18.0.5")
    assert not web.knows_host("evil.example")


def test_the_image_is_small_and_nobody_in_it_is_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert all(re.match(r"FROM python:\d+\.\d+\.\d+-slim", line) for line in lines if line.startswith("FROM"))
    assert all(line.split(maxsplit=1)[1].startswith("[") for line in lines if re.match("CMD|ENTRYPOINT", line))
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not any(line.startswith(("!.env", "!tests", "!.git", "!var")) for line in ignored)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    assert {f"!{package}" for package in packages} <= set(ignored)


def test_what_only_tests_need_stays_out_of_the_image() -> None:
    left_out = re.search(r'grep -vE "(.+?)" requirements.txt', (ROOT / "Dockerfile").read_text())
    assert left_out
    required = re.findall(r"^[a-z].*", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    installed = [line for line in required if not re.match(left_out[1], line)]
    assert any(line.startswith("celery==") for line in installed)
    assert [line for line in installed if line.startswith("pytest") or "tests" in line] == []
