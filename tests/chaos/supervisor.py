"""The supervisor: runs every role of CloudMart as a process, kills them when told to, and starts them again."""

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from app.settings import Settings
from tests.testkit.processes import children, kill_group, process_environment, spawn

logger = logging.getLogger(__name__)

GROUP, MAIN, CHILD = "group", "main", "child"
"""The ways to kill a role: with its children; only its main process, which orphans them; only one of them."""

Command = Callable[[], list[str]]


class Role:
    """One role: what starts it, with a fresh command each time, and its process."""

    def __init__(self, name: str, command: Command, settings: Settings, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.lock = threading.Lock()
        """Held while it is killed or started."""
        self._command = command
        self._environment = process_environment(settings)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the id of its main process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it; what is left of the process before is ended first."""
        self.end()
        self.process = spawn(self._command(), self._environment, self.log)

    def kill(self, way: str) -> bool:
        """Kill it with SIGKILL; returns whether it has to be started again."""
        assert self.process is not None
        if way == CHILD and (pool := children(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pool[-1], signal.SIGKILL)
            return False  # a pool replaces its children by itself
        if way == MAIN:
            self.process.kill()
            self.process.wait()
        else:
            kill_group(self.process)
        return True

    def end(self) -> None:
        """End it for good, with its children."""
        if self.process:
            kill_group(self.process)


class Supervisor:
    """All roles; restarts what ends by itself, and counts what was killed and what was not."""

    def __init__(self, commands: dict[str, Command], settings: Settings, folder: Path) -> None:
        self.roles = {name: Role(name, command, settings, folder) for name, command in commands.items()}
        self.kills: Counter[str] = Counter()
        self.ended_by_themselves: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._tend, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start every role and watch them from now on."""
        for role in self.roles.values():
            role.start()
        self._watch.start()

    def strike(self, name: str, way: str, pause: Callable[[], object]) -> None:
        """Kill a role, pause, and start it again."""
        role = self.roles[name]
        with role.lock:
            self.kills[name] += 1
            if role.kill(way):
                pause()
                role.start()

    def end(self) -> None:
        """End every role."""
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join()
        for role in self.roles.values():
            role.end()

    def _tend(self) -> None:
        while not self._stopping.wait(0.2):
            for role in self.roles.values():
                if role.lock.acquire(blocking=False):  # else it is down because it was killed
                    try:
                        if role.process and role.process.poll() is not None:
                            logger.warning("%s ended by itself, see %s", role.name, role.log)
                            self.ended_by_themselves[role.name] += 1
                            role.start()
                    finally:
                        role.lock.release()
