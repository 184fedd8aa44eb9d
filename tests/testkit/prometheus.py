"""A Prometheus of the test's own, and promtool."""

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.settings import ROOT
from tests.testkit import processes
from tests.testkit.processes import free_port
from tests.testkit.servers import not_here

DEPLOYED = ROOT / "deploy" / "prometheus"
PATIENCE_SECONDS = 60
SCRAPE_INTERVAL = "2s"
"""Also how long a target may take to answer, which cannot be longer: one that is late counts as down."""


def promtool(*arguments: object, stdin: str = "") -> str:
    """Run promtool, which must succeed; returns what it says."""
    _require("promtool")
    command = ["promtool", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; returns its series, each with labels and value."""
        return list(self._api("query", query=expression)["result"])

    def targets(self) -> dict[str, str]:
        """Return whether each job's target is up, as Prometheus sees it."""
        found = self._api("targets", state="active")["activeTargets"]
        return {target["labels"]["job"]: target["health"] for target in found}

    def rules(self) -> list[dict[str, Any]]:
        """Return the alert rules as they were loaded, with how their evaluation went."""
        return [rule for group in self._api("rules")["groups"] for rule in group["rules"]]

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._base}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def _api(self, path: str, **parameters: str) -> dict[str, Any]:
        url = f"{self._base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
            return dict(json.load(answer)["data"])


@contextmanager
def running(folder: Path, ports: Mapping[str, int]) -> Iterator[Prometheus]:
    """Run Prometheus with the deployed rules; it scrapes, every few seconds, each job on its port of this machine."""
    _require("prometheus")
    scraped = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in ports.items()]
    config = {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "scrape_timeout": SCRAPE_INTERVAL, "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOYED / "rules" / "*.yml")],
        "scrape_configs": scraped,
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    prometheus = Prometheus(port)
    with processes.running(command, dict(os.environ), folder / "prometheus.log", prometheus.ready):
        yield prometheus


def _require(command: str) -> None:
    if not shutil.which(command):
        not_here(f"there is no {command}: install Debian's package prometheus (`make services`)")
