"""Processes that the tests start: with a port each, and each ended with its children and nothing else."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import SecretStr

from app.settings import ROOT, Settings
from workflows import QUEUES

PATIENCE_SECONDS = 120
ENDINGS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = (130, -signal.SIGINT)
"""How ``python -m`` of a command that exits with 130 on Ctrl-C ends: where the signal interrupts the exec() of a string
(modules that build functions do this), CPython kills itself by the signal instead; a shell shows 130 for both."""
ENDS_WITHIN_SECONDS = 60
"""How long a process that is asked to end may take."""

PORTS = range(20_000, 32_000)
_ports_given: set[int] = set()

SHOWN_OF_A_LOG = 4000
"""How much of each process's log a test that fails shows, in characters."""


def end_of(log: Path) -> str:
    """Return as much of a log as a test that fails shows."""
    return log.read_text(errors="replace")[-SHOWN_OF_A_LOG:]


def spawn(
    command: list[str], environment: dict[str, str], log: Path, cwd: Path = ROOT, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start a command as the leader of a group of its own, its output appended to a log."""
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True}
    with log.open("ab") as output:
        return subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output, **streams, **options)


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


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: dict[str, str], log: Path, ready: Callable[[], bool], cwd: Path = ROOT
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command once it is ready until the block ends, where it is killed with all its children."""
    process = spawn(list(command), environment, log, cwd)
    try:
        wait_for(f"{command}, see {log}", lambda: process.poll() is not None or ready())
        assert process.poll() is None, end_of(log)
        yield process
    except BaseException as error:
        error.add_note(f"--- {log}\n{end_of(log)}")
        raise
    finally:
        kill_group(process)


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


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Return whether something takes connections on a port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def role_commands(settings: Settings, web_workers: int = 1, queues: Sequence[str] = QUEUES) -> dict[str, list[str]]:
    """Return the command of each role: a worker per queue, ``beat`` and ``web``; each call names the workers anew.

    ``queues`` with commas in it have a worker in common.
    """
    python = [sys.executable, "-m"]
    bind = f"127.0.0.1:{settings.port}"
    worker = [*python, "celery", "-A", "app", "worker", "-c", "2", "-E"]
    commands = {queue: [*worker, "-Q", queue, "-n", f"{queue}-{uuid4().hex[:8]}@%h"] for queue in queues}
    commands["beat"] = [*python, "celery", "-A", "app", "beat"]
    commands["web"] = [*python, "gunicorn", "web:create_app()", "--bind", bind, "--workers", str(web_workers)]
    return commands


def process_environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which a process of its own has these settings."""
    values = {name.upper(): value for name, value in settings.model_dump().items() if value is not None}
    secrets = {name: value.get_secret_value() for name, value in values.items() if isinstance(value, SecretStr)}
    return {**os.environ, **{name: str(value) for name, value in values.items()}, **secrets}


@contextlib.contextmanager
def roles(commands: dict[str, list[str]], settings: Settings, folder: Path) -> Iterator[None]:
    """Run each command as a process of its own, its output in the folder (shown if a test fails); ends them all."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in commands.items():
            log = folder / f"{name}.log"
            log.write_bytes(b"")  # what an earlier process of this name wrote says nothing of this one
            processes.append(spawn(command, process_environment(settings), log))
        yield
    except BaseException:
        for name in commands:
            sys.stdout.write(f"--- {name}\n{end_of(folder / f'{name}.log')}\n")
        raise
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ENDS_WITHIN_SECONDS)
            kill_group(process)


def free_port(*addresses: str) -> int:
    """Return a port that is free on these addresses (127.0.0.1 unless said otherwise) and stays so until it is used.

    The system gives ports from 32768 on to connections: one of those may be taken before, or while, a server is down,
    even by a client that tried to reach the server and met itself.
    """
    ports = _ports_of_this_process()
    while True:
        port = random.choice(ports)
        if port in _ports_given:
            continue
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for address in addresses or ("127.0.0.1",):
                probes.enter_context(socket.socket()).bind((address, port))
            _ports_given.add(port)
            return port


def _ports_of_this_process() -> range:
    """Return the ports that no other of xdist's processes hands out: both might find the same one free."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return PORTS[number % count :: count]
