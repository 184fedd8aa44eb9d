"""A CloudMart as a user starts it, in a process of its own, that a test may kill and start again."""

import subprocess
import sys
import time
from pathlib import Path

from app import runtime
from app.runtime import Runtime
from app.settings import ROOT, Settings
from tests.testkit.processes import ENDS_WITHIN_SECONDS, end_of, process_environment
from tests.testkit.shop import Shop, http_transport

STARTING_SECONDS = 120
PASSWORD = "correct horse battery staple"


class Server:
    """The process, where it listens, and its database as an auditor sees it."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.url = f"http://127.0.0.1:{settings.port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        before = runtime.current()
        self.shop = Shop(http_transport(self.url), runtime.use(Runtime(settings)))
        runtime.use(before)

    def start(self) -> None:
        """Start the process; returns once it is ready."""
        environment = {**process_environment(self.settings), "OPERATOR_PASSWORD": PASSWORD}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app", "run"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        give_up = time.monotonic() + STARTING_SECONDS
        while not self._ready():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < give_up, self.log()
            time.sleep(0.05)

    def start_if_dead(self) -> None:
        """Start the process unless it runs."""
        if self._process is None or self._process.poll() is not None:
            self.start()

    def kill(self) -> None:
        """End the process at once, as kill -9 does."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process as Ctrl-C does."""
        assert self._process
        self._process.terminate()
        try:
            self._process.wait(ENDS_WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.shop.here.close()

    def log(self) -> str:
        """Return the last that the process wrote."""
        return end_of(self._log)

    def _ready(self) -> bool:
        try:
            return self.shop.get("/readyz").status == 200
        except OSError:
            return False
