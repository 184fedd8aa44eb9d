"""Restate: its server, and workers under Hypercorn."""

import json
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from app.settings import ROOT
from bench.compare.contestants.contestant import Contestant, Processes, packages
from bench.compare.contestants.with_celery import BOTH
from bench.compare.place import Place
from bench.compare.sagas.common import INGRESS_VARIABLE
from tests.testkit.processes import free_port, listens, wait_for

SERVER = ROOT / "bench" / "node_modules" / ".bin" / "restate-server"

SERVER_SETTINGS = """
bind-ip = "127.0.0.1"
bind-port = {node}
cluster-name = "bench"
default-num-partitions = {partitions}
disable-telemetry = true
log-filter = "warn"

[admin]
bind-port = {admin}
disable-web-ui = true

[ingress]
bind-port = {ingress}

[worker.invoker]
http2-streams-per-connection-limit = {streams}
"""

PARTITIONS = 4
STREAMS = 8
"""Streams of a connection. Hypercorn's workers share out connections, so there must be more than one or two of them."""

HYPERCORN_SETTINGS = """
bind = "127.0.0.1:{port}"
workers = {workers}
h2_max_concurrent_streams = 2147483647
keep_alive_max_requests = 2147483647
keep_alive_timeout = 2147483647
"""


class Restate:
    """A server and its workers on ports of their own."""

    def __init__(self) -> None:
        self._ports: dict[str, int] = {}

    def launch(self, processes: Processes) -> None:
        """Start all, and have the server know the workers."""
        place = processes.place
        self._ports = {name: free_port() for name in ("node", "admin", "ingress", "port")}
        self._start_server(processes)
        self._start_workers(processes)
        wait_for("Restate", lambda: all(listens(self._ports[name]) for name in ("admin", "ingress", "port")))
        processes.wait_until_ready(place.processes)
        self._register()

    def driver_variables(self, _: Place) -> Mapping[str, str]:
        """Return where the server takes requests."""
        return {INGRESS_VARIABLE: f"http://127.0.0.1:{self._ports['ingress']}"}

    def _start_server(self, processes: Processes) -> None:
        settings = SERVER_SETTINGS.format(**self._ports, partitions=PARTITIONS, streams=STREAMS)
        file = _written(processes.place.path / "restate.toml", settings)
        data = str(processes.place.path / "restate-data")
        processes.start("restate-server", [str(SERVER), "--config-file", file, "--base-dir", data, "--no-logo"])

    def _start_workers(self, processes: Processes) -> None:
        place = processes.place
        settings = HYPERCORN_SETTINGS.format(**self._ports, workers=place.processes)
        file = _written(place.path / "hypercorn.toml", settings)
        command = [sys.executable, "-m", "hypercorn", "--config", file, "bench.compare.sagas.restate_peer:app"]
        processes.start("hypercorn", command)

    def _register(self) -> None:
        body = json.dumps({"uri": f"http://127.0.0.1:{self._ports['port']}"}).encode()
        address = f"http://127.0.0.1:{self._ports['admin']}/deployments"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        wait_for("Restate to know its workers", lambda: _accepted(request))


def restate() -> Contestant:
    """Return Restate."""
    running = Restate()
    return Contestant(
        name="Restate",
        driver="bench.compare.sagas.restate_peer",
        launch=running.launch,
        settings={
            "server": f"{PARTITIONS} partitions, {STREAMS} streams per connection, else its defaults",
            "worker": "hypercorn, workers = 2, limits as in Restate's documentation",
            "steps": "ctx.run_typed",
            "driver": "psycopg2, in the event loop's pool of threads",
            "journal": "on the server's own disk, not in PostgreSQL",
        },
        missing=_missing,
        driver_variables=running.driver_variables,
        outcomes=BOTH,
    )


def _missing() -> str | None:
    return packages("restate", "hypercorn")() or (None if SERVER.exists() else "not installed: restate-server")


def _written(file: Path, content: str) -> str:
    file.write_text(content)
    return str(file)


def _accepted(request: urllib.request.Request) -> bool:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status) < 300
    except OSError:
        return False
