"""Replace every container by a new one under load: ``make roll``, or ``python deploy/roll.py web payments``.

One container at a time, and first the new one: it must be healthy before the old one is asked to end. So nothing ever
has fewer containers than before, and a version that does not come up replaces nothing. Needs only Python and Docker.
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
"""What is made of our own image and keeps running. The servers keep data, and nginx holds visitors: not in passing."""

PATIENCE_SECONDS = 180

ENV_FILE = Path(__file__).parent.parent / ".env"
"""Where `make up` and `make roll` record the version that runs."""


class NotHealthy(Exception):
    """Raised when a new container does not become healthy: it is gone again, and the old ones are still there."""


class Engine(Protocol):
    """What a roll asks of Docker. Containers are called by their ids."""

    def containers(self, service: str) -> list[str]:
        """Return the containers of a service, oldest first, whatever state they are in."""

    def scale(self, service: str, count: int) -> None:
        """Have so many containers of a service, leaving those that there are as they are."""

    def becomes_healthy(self, container: str) -> bool:
        """Wait until a container is healthy; tells whether it is."""

    def end(self, container: str) -> None:
        """Ask a container to end, wait for it as long as its service allows, and remove it."""


class Docker:
    """The engine of this machine, asked by its command line."""

    def containers(self, service: str) -> list[str]:
        """Return the containers of a service, oldest first, whatever state they are in."""
        found = _told("docker", "compose", "ps", "--all", "--quiet", service).split()
        return sorted(found, key=lambda container: _told("docker", "inspect", "-f", "{{.Created}}", container))

    def scale(self, service: str, count: int) -> None:
        """Have so many containers of a service, leaving those that there are as they are."""
        _told(
            *("docker", "compose", "up", "--detach", "--no-deps", "--no-build", "--no-recreate"),
            *("--scale", f"{service}={count}", service),
        )

    def becomes_healthy(self, container: str) -> bool:
        """Wait until a container is healthy; tells whether it is."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            seen = json.loads(_told("docker", "inspect", container))[0]
            if seen["State"]["Health"]["Status"] == "healthy":
                return True
            if seen["RestartCount"] or seen["State"]["Status"] != "running":
                return False
            time.sleep(0.5)
        return False

    def end(self, container: str) -> None:
        """Ask a container to end, wait for it as long as its service allows, and remove it."""
        _told("docker", "stop", container)
        _told("docker", "rm", container)


def roll(engine: Engine, services: Iterable[str], say: Callable[[str], object]) -> None:
    """Replace the containers of services, one after the other. Raises NotHealthy, and what the engine raises."""
    for service in services:
        old = engine.containers(service)
        for number, container in enumerate(old, start=1):
            _replace(engine, service, container)
            say(f"{service}: {number} of {len(old)} replaced")


def _replace(engine: Engine, service: str, old: str) -> None:
    before = engine.containers(service)
    try:
        engine.scale(service, len(before) + 1)
        new = [container for container in engine.containers(service) if container not in before]
        if len(new) != 1 or not engine.becomes_healthy(new[0]):
            raise NotHealthy(f"{service}: the new container did not become healthy; the old ones go on")
    except BaseException:
        # also if somebody loses patience: no more containers than there were
        for container in engine.containers(service):
            if container not in before:
                engine.end(container)
        raise
    engine.end(old)


def _told(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


def main(asked: list[str]) -> int:
    """Roll the services that are asked for, or all; returns the exit code."""
    unknown = [service for service in asked if service not in SERVICES]
    if unknown:
        sys.stderr.write(f"{', '.join(unknown)}: not to be rolled. What can be: {', '.join(SERVICES)}\n")
        return 2
    try:
        roll(Docker(), asked or SERVICES, lambda line: sys.stdout.write(f"{line}\n"))
    except NotHealthy as error:
        return _refused(str(error))
    except subprocess.CalledProcessError as error:
        return _refused(f"{' '.join(error.cmd)} failed")
    return 0


def _refused(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    if recorded := re.search(r"^CLOUDMART_VERSION=(.+)$", ENV_FILE.read_text(), re.MULTILINE):
        version = recorded[1]
        sys.stderr.write(f".env keeps version {version}; `make roll VERSION={version}` takes back what was replaced\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
