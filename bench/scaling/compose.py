"""The shop as the Compose stack that is up on this machine, reached through its nginx as customers reach it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from app.settings import ROOT
from bench.scaling.stack import NotUsable

SCALING_SECONDS = 180
NGINX_PORT = "8080"


class Compose:
    """The stack that ``docker compose`` in this folder means."""

    def __init__(self) -> None:
        self.name = "compose"
        self.url = f"http://{_output('port', 'nginx', NGINX_PORT).strip()}"
        self.token = _output("exec", "-T", "web", "printenv", "OPERATOR_TOKEN").strip()

    def scale(self, service: str, replicas: int) -> None:
        """Run so many containers of a service; returns once they are healthy."""
        _output("up", "-d", "--no-deps", "--no-recreate", "--wait", "--scale", f"{service}={replicas}", service)

    def audit(self) -> tuple[bool, str]:
        """Run the audit in a container of the stack."""
        ended = _compose("exec", "-T", "web", "python", "-m", "app", "audit")
        return ended.returncode == 0, ended.stdout + ended.stderr

    def describe(self) -> dict[str, str]:
        """Return what a reader of the figures has to know of it."""
        latency = _compose("exec", "-T", "payments", "printenv", "GATEWAY_LATENCY_SECONDS").stdout.strip()
        return {"latency": f"{latency or 0} s"}


@contextmanager
def open_compose() -> Iterator[Compose]:
    """Use the stack that is up, and leave it up, with the replicas that it had. Raises NotUsable when none is."""
    compose = Compose()
    before = _replicas()
    try:
        yield compose
    finally:
        for service, count in before.items():
            if _replicas().get(service) != count:
                compose.scale(service, count)


def _replicas() -> dict[str, int]:
    running = _output("ps", "--services", "--status", "running").split()
    return {service: len(_output("ps", "-q", "--status", "running", service).split()) for service in running}


def _output(*arguments: str) -> str:
    ended = _compose(*arguments)
    if ended.returncode != 0:
        raise NotUsable(f"`docker compose {' '.join(arguments)}` failed: is the stack up?\n{ended.stderr.strip()}")
    return ended.stdout


def _compose(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["docker", "compose", *arguments]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SCALING_SECONDS, check=False)
    except FileNotFoundError as error:
        raise NotUsable("docker is not installed here: use --stack processes") from error
    except subprocess.TimeoutExpired as error:
        raise NotUsable(f"`docker compose {' '.join(arguments)}` took more than {SCALING_SECONDS} s") from error
