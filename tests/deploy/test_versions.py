"""``make up``, ``make roll``, ``make scale`` and ``make env``, with a ``docker`` that is a stub."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT

ROLLED = ("payments", "web")
"""The services that the stub has."""
STUB = Path(__file__).with_name("docker_stub.py")


@dataclass(frozen=True)
class Machine:
    """A folder with the files that run the containers, and its Docker."""

    folder: Path

    def make(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "CLOUDMART"))}
        environment["PATH"] = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        command = ["make", "--no-print-directory", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=200)

    def write_source(self, text: str) -> None:
        (self.folder / "source").write_text(text)

    def variables(self) -> dict[str, str]:
        return dict(re.findall(r"^([A-Z_]+)=(.*)$", (self.folder / ".env").read_text(), re.MULTILINE))

    def version(self) -> str:
        """Return the recorded version."""
        return self.variables()["CLOUDMART_VERSION"]

    @property
    def docker(self) -> dict[str, Any]:
        """What Docker has: tags with their images, containers, and the commands that it was given."""
        return dict(json.loads((self.folder / "bin" / "state.json").read_text()))

    def versions(self, service: str) -> list[str]:
        return [held["version"] for held in self.docker["containers"].values() if held["service"] == service]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    for name in ("Makefile", ".env.example", "deploy/make-env", "deploy/build-image", "deploy/roll.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f"#!{sys.executable} -IS\n{STUB.read_text()}")
    docker.chmod(0o755)
    machine = Machine(tmp_path)
    machine.write_source("first")
    return machine


def test_a_refused_roll_leaves_the_recorded_version_and_its_image_to_scale(machine: Machine) -> None:
    machine.make("up")
    before, containers = machine.variables(), machine.docker["containers"]
    image = machine.docker["tags"][before["CLOUDMART_VERSION"]]

    machine.write_source("broken for payments and web")
    refused = machine.make("roll")

    assert refused.returncode != 0
    assert f"make roll VERSION={before['CLOUDMART_VERSION']}" in refused.stderr
    assert machine.make("scale", "SERVICE=payments").returncode == 2  # without the number
    assert machine.variables() == before
    assert machine.docker["containers"] == containers
    assert machine.docker["tags"][before["CLOUDMART_VERSION"]] == image

    assert machine.make("scale", "SERVICE=payments", "REPLICAS=2").returncode == 0

    after = machine.docker["containers"]
    assert [held["service"] for name, held in after.items() if name not in containers] == ["payments"]
    assert containers.items() <= after.items()
    command = machine.docker["commands"][-1]
    assert command == "compose up --detach --wait --no-deps --no-build --no-recreate --scale payments=2 payments"


def test_a_roll_records_its_version_and_an_older_one_can_be_rolled_back_to(machine: Machine) -> None:
    machine.make("up")
    first = machine.version()
    before = machine.docker["containers"]
    assert machine.make("up").returncode == 0  # the same source has the same tag
    assert (machine.version(), machine.docker["containers"]) == (first, before)

    machine.write_source("second")
    assert machine.make("roll").returncode == 0
    second = machine.version()
    assert second != first
    assert [machine.versions(service) for service in ROLLED] == [[second], [second]]

    commands = len(machine.docker["commands"])
    assert machine.make("roll", f"VERSION={first}").returncode == 0
    assert machine.version() == first
    assert [machine.versions(service) for service in ROLLED] == [[first], [first]]
    # an older version does not know the newer schema
    later = machine.docker["commands"][commands:]
    assert [line for line in later if line.startswith(("compose build", "compose run"))] == []


def test_services_rolled_one_after_the_other_are_recorded_with_the_last_if_it_takes_the_version(
    machine: Machine,
) -> None:
    machine.make("up")
    first = machine.version()
    machine.write_source("broken for web")
    partial = machine.make("roll", "SERVICES=payments")

    [second] = machine.versions("payments")
    assert (partial.returncode, machine.version()) == (0, first)
    assert f"version {second}: payments\n" in partial.stdout
    assert f".env keeps version {first}" in partial.stdout

    refused = machine.make("roll", "SERVICES=web")
    assert (refused.returncode != 0, machine.version()) == (True, first)
    assert f"make roll VERSION={first}" in refused.stderr
    for service, version in (("web", first), ("payments", second)):
        assert machine.make("scale", f"SERVICE={service}", "REPLICAS=2").returncode == 0
        assert machine.versions(service) == [version, version]

    machine.write_source("third")
    for service in ROLLED:
        assert machine.version() == first
        assert machine.make("roll", f"SERVICES={service}").returncode == 0
    assert {machine.version()} == {*machine.versions("payments"), *machine.versions("web")} != {first}


def test_make_env_writes_every_secret_once_and_adds_those_that_a_file_lacks(machine: Machine) -> None:
    machine.make("env")

    made = machine.variables()
    example = (machine.folder / ".env.example").read_text()
    secrets = [made[name] for name in re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE)]
    assert len(set(secrets)) == len(secrets) == 8
    assert all(re.fullmatch("[0-9a-f]{48}", secret) for secret in secrets)
    env = machine.folder / ".env"
    assert env.stat().st_mode & 0o777 == 0o600
    text = env.read_text()
    assert machine.make("env").returncode == 0
    assert env.read_text() == text

    kept = "# mine\nHTTP_PORT=9000\nPOSTGRES_PASSWORD=chosen\nexport REDIS_PASSWORD='quoted'\n"
    env.write_text(f'{kept}SECRET_KEY=\nRABBITMQ_PASSWORD=""')
    assert machine.make("up").returncode == 0
    text, made = env.read_text(), machine.variables()
    assert text.startswith(kept)
    for secret in ("SECRET_KEY", "RABBITMQ_PASSWORD", "OPERATOR_PASSWORD", "OPERATOR_TOKEN", "FLOWER_PASSWORD"):
        assert re.fullmatch("[0-9a-f]{48}", made[secret]), secret
        assert len(re.findall(rf"^{secret}=", text, re.MULTILINE)) == 1
