"""Replace every container by a new one under load: ``make roll``, or ``python deploy/roll.py web payments``.

One container at a time, and the new one first: it must be healthy before the old one is stopped. So no service ever has
fewer containers than before, and a version that does not become healthy replaces nothing. Needs only Python and Docker.

``.env`` names the version that ``docker compose up`` starts. It is set once all services run the same version, so after
a roll of some services it still names the previous version.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

SERVICES = ("orders", "inventory", "payments", "shipping", "notifications", "orchestrator", "beat", "web", "flower")
"""The long-running services of our own image. Stateful servers, and nginx with its open connections, are not rolled."""

HEALTH_TIMEOUT_SECONDS = 180

CREATED_SERVICE_IMAGE = '{{.Created}} {{index .Config.Labels "com.docker.compose.service"}} {{.Config.Image}}'

ENV_FILE = Path(__file__).parent.parent / ".env"
"""The file in which `make up` and `make roll` record the running version."""


class NotHealthy(Exception):
    """Raised if a new container does not become healthy; it is removed again, and the old ones keep running."""


class Engine(Protocol):
    """The container operations that a roll needs. Containers are identified by their ids."""

    def containers(self, service: str) -> list[str]:
        """Return the containers of a service, oldest first, whatever state they are in."""

    def scale(self, service: str, count: int) -> None:
        """Scale a service to ``count`` containers, without recreating the existing ones."""

    def becomes_healthy(self, container: str) -> bool:
        """Wait until a container is healthy; return whether it is."""

    def end(self, container: str) -> None:
        """Stop a container, waiting for as long as its service's grace period, and remove it."""


class Docker:
    """The Docker engine of this machine, driven by its command line."""

    def containers(self, service: str) -> list[str]:
        """Return the containers of a service, oldest first, whatever state they are in."""
        found = _output_of("docker", "compose", "ps", "--all", "--quiet", service).split()
        return sorted(found, key=lambda container: _output_of("docker", "inspect", "-f", "{{.Created}}", container))

    def scale(self, service: str, count: int) -> None:
        """Scale a service to ``count`` containers, without recreating the existing ones."""
        _output_of(
            *("docker", "compose", "up", "--detach", "--no-deps", "--no-build", "--no-recreate"),
            *("--scale", f"{service}={count}", service),
        )

    def becomes_healthy(self, container: str) -> bool:
        """Wait until a container is healthy; return whether it is."""
        deadline = time.monotonic() + HEALTH_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            state = json.loads(_output_of("docker", "inspect", container))[0]
            if state["State"]["Health"]["Status"] == "healthy":
                return True
            if state["RestartCount"] or state["State"]["Status"] != "running":
                return False
            time.sleep(0.5)
        return False

    def end(self, container: str) -> None:
        """Stop a container, waiting for as long as its service's grace period, and remove it."""
        _output_of("docker", "stop", container)
        _output_of("docker", "rm", container)

    def versions(self) -> list[tuple[str, str]]:
        """Return the service and the version of every container of our image, oldest first."""
        found = _output_of("docker", "compose", "ps", "--all", "--quiet", *SERVICES).split()
        lines = _output_of("docker", "inspect", "-f", CREATED_SERVICE_IMAGE, *found).splitlines() if found else []
        described = [line.split() for line in sorted(lines)]
        return [(service, image.removeprefix("cloudmart:")) for _, service, image in described]


def roll(engine: Engine, services: Iterable[str], report: Callable[[str], object]) -> None:
    """Replace the containers of services, one after the other. Raises NotHealthy and the engine's errors."""
    for service in services:
        old = engine.containers(service)
        for number, container in enumerate(old, start=1):
            _replace(engine, service, container)
            report(f"{service}: {number} of {len(old)} replaced")


def _replace(engine: Engine, service: str, old: str) -> None:
    before = engine.containers(service)
    try:
        engine.scale(service, len(before) + 1)
        new = [container for container in engine.containers(service) if container not in before]
        if len(new) != 1 or not engine.becomes_healthy(new[0]):
            raise NotHealthy(f"{service}: the new container did not become healthy; the old ones go on")
    except BaseException:
        # also on KeyboardInterrupt: leave no more containers than before
        for container in engine.containers(service):
            if container not in before:
                engine.end(container)
        raise
    engine.end(old)


def _output_of(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


def main(arguments: list[str]) -> int:
    """Roll the given services, or all; return the exit code."""
    if arguments[:1] == ["--version-of"]:
        # after a roll that stopped half-way the oldest container runs the version that was healthy
        sys.stdout.write(next((version for service, version in Docker().versions() if service in arguments), ""))
        return 0
    unknown = [service for service in arguments if service not in SERVICES]
    if unknown:
        sys.stderr.write(f"{', '.join(unknown)}: not to be rolled. What can be: {', '.join(SERVICES)}\n")
        return 2
    try:
        roll(Docker(), arguments or SERVICES, lambda line: sys.stdout.write(f"{line}\n"))
        _record(Docker())
    except NotHealthy as error:
        return _fail(str(error))
    except subprocess.CalledProcessError as error:
        return _fail(f"{' '.join(error.cmd)} failed")
    return 0


def _record(docker: Docker) -> None:
    """Set the version in .env if all services run the same one; else print the versions with their services."""
    running = docker.versions()
    versions = sorted({version for _, version in running})
    if len(versions) == 1:
        _output_of("sh", str(ENV_FILE.parent / "deploy" / "make-env"), f"CLOUDMART_VERSION={versions[0]}")
        return
    for version in versions:
        services = sorted({service for service, service_version in running if service_version == version})
        sys.stdout.write(f"version {version}: {', '.join(services)}\n")
    sys.stdout.write(
        f".env keeps version {_recorded_version()}, which `docker compose up` starts, until all services run the same: "
        "roll the other services too\n"
    )


def _fail(reason: str) -> int:
    version = _recorded_version()
    sys.stderr.write(f"{reason}\n")
    sys.stderr.write(f".env keeps version {version}; `make roll VERSION={version}` takes back what was replaced\n")
    return 1


def _recorded_version() -> str:
    recorded = re.search(r"^CLOUDMART_VERSION=(.+)$", ENV_FILE.read_text(), re.MULTILINE)
    return recorded[1] if recorded else "local"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
