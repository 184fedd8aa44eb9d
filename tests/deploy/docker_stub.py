"""A ``docker`` of a few commands: containers run an image, and are never healthy if its source is "broken for" them.

As in Compose, ``up`` recreates a container whose image is not the one that its tag names, unless it is told not to.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STATE = HERE / "state.json"
SERVICES = ["payments", "web"]
"""A shop of two services, so that a roll of all takes few commands."""


def recorded_version() -> str:
    """Return the version that Compose reads: from the environment, else from .env."""
    lines = (HERE.parent / ".env").read_text().splitlines()
    recorded = [line.partition("=")[2] for line in lines if line.startswith("CLOUDMART_VERSION=")]
    return os.environ.get("CLOUDMART_VERSION") or recorded[-1]


def up(state: dict[str, Any], arguments: list[str]) -> str:
    version, containers = recorded_version(), state["containers"]
    counts = dict(argument.split("=") for argument in arguments if "=" in argument)
    for service in set(arguments) & set(SERVICES) or SERVICES:
        wanted = int(counts.get(service, len(containers_of(state, [service]).split()) or 1))
        if "--no-recreate" not in arguments:
            for name in containers_of(state, [service]).split():
                if containers[name]["image"] != state["tags"][version]:
                    del containers[name]
        for _ in range(wanted - len(containers_of(state, [service]).split())):
            state["made"] += 1
            held = {"service": service, "version": version, "image": state["tags"][version]}
            containers[f"{service}-{state['made']}"] = held
    if "--wait" in arguments and not all(map(is_healthy, containers.values())):
        raise SystemExit(1)
    return ""


def is_healthy(container: dict[str, str]) -> bool:
    return container["service"] not in container["image"].partition("broken for")[2]


def build(state: dict[str, Any], _: list[str]) -> str:
    source = (HERE.parent / "source").read_text()
    state["tags"][recorded_version()] = f"sha256:{hashlib.sha256(source.encode()).hexdigest()}-{source}"
    return ""


def containers_of(state: dict[str, Any], arguments: list[str]) -> str:
    return " ".join(name for name, held in state["containers"].items() if held["service"] in arguments)


def inspect(state: dict[str, Any], arguments: list[str]) -> str:
    if arguments[0] == "-f":
        return "\n".join(described(state, arguments[1], name) for name in arguments[2:])
    healthy = is_healthy(state["containers"][arguments[0]])
    health = {"Status": "healthy" if healthy else "unhealthy"}
    return json.dumps([{"State": {"Health": health, "Status": "running"}, "RestartCount": int(not healthy)}])


def described(state: dict[str, Any], template: str, name: str) -> str:
    held = state["containers"][name]
    template = template.replace("{{.Created}}", name.rpartition("-")[2].zfill(9))
    template = template.replace('{{index .Config.Labels "com.docker.compose.service"}}', held["service"])
    return template.replace("{{.Config.Image}}", f"cloudmart:{held['version']}")


def tag(state: dict[str, Any], arguments: list[str]) -> str:
    image, name = arguments
    state["tags"][name.partition(":")[2]] = image
    return ""


def remove(state: dict[str, Any], arguments: list[str]) -> str:
    del state["containers"][arguments[-1]]
    return ""


COMMANDS = {
    "compose build": build,
    "compose run": lambda *_: "",
    "compose up": up,
    "compose ps": containers_of,
    "image inspect": lambda state, arguments: str(state["tags"][arguments[-1].partition(":")[2]]),
    "inspect": inspect,
    "tag": tag,
    "stop": lambda *_: "",
    "rm": remove,
}


if __name__ == "__main__":
    now: dict[str, Any] = {"tags": {}, "containers": {}, "made": 0, "commands": []}
    if STATE.exists():
        now = json.loads(STATE.read_text())
    given = " ".join(sys.argv[1:])
    now["commands"].append(given)
    name = next(name for name in COMMANDS if given.startswith(f"{name} "))
    try:
        if said := COMMANDS[name](now, sys.argv[1 + len(name.split()) :]):
            sys.stdout.write(f"{said}\n")
    finally:
        STATE.write_text(json.dumps(now))
