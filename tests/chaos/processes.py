"""Processes of our own: each leads a group, so that it can be killed with its children and nothing else with it."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.stacks import ROOT

PATIENCE_SECONDS = 120
ENDINGS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = (130, -signal.SIGINT)
"""How ``python -m`` of a command that exits with 130 on Ctrl-C ends: where the signal interrupts the exec() of a string
(modules that build functions do this), CPython kills itself by the signal instead; a shell shows 130 for both."""


def spawn(command: list[str], environment: dict[str, str], log: Path, **options: Any) -> "subprocess.Popen[bytes]":
    """Start a command as the leader of a group of its own, its output appended to a log."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **options,
        )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Have SIGINT and SIGTERM come after the block: what is started and not yet written down would never be ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # it is the main thread that they interrupt
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda came_now, _: came.append(came_now)) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process that ``spawn`` started with all its children; nothing happens if none of them is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end(process: "subprocess.Popen[bytes]", how: signal.Signals, patience: float = PATIENCE_SECONDS) -> None:
    """Signal a process and wait for its end; one that does not end in time is killed, and that is an error."""
    process.send_signal(how)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        kill_group(process)
        raise


def children(pid: int) -> list[int]:
    """Return the processes that a process started and that still run, oldest first."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in table.splitlines()]
    return sorted(child for child, parent in pairs if parent == pid)


def wait_for(what: str, good: Callable[[], bool], patience: float = PATIENCE_SECONDS) -> None:
    """Look until it is good. Raises TimeoutError, saying what was waited for."""
    give_up = time.monotonic() + patience
    while not good():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {patience:.0f} s for {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Tell whether somebody takes connections on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
