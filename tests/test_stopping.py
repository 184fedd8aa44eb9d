"""The process ends when it is asked to, whatever its main thread is doing when the signal comes."""

import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app import runtime
from app.runtime import Runtime
from app.settings import ROOT
from cli.serve import StopSignals


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """Restore this process's signal handlers after the test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def lock_held(here: Runtime) -> Iterator[None]:
    """Be where the event's ``wait``, ``set`` and ``is_set`` are while they hold its lock."""
    with here.stopping._cond:  # type: ignore[attr-defined]  # there is no other way to be inside one of them
        yield


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("signal_handlers")
def test_a_signal_inside_the_stopping_event_does_not_deadlock_the_embedded_shop(here: Runtime) -> None:
    sockets: dict[int, StopSignals] = {}
    stop_signals = StopSignals(here, sockets)

    with lock_held(here):
        signal.raise_signal(signal.SIGTERM)

    left_to_the_system = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert left_to_the_system == [signal.SIG_DFL] * 2  # should a second one come
    assert select.select(list(sockets), [], [], 5)[0], "the loop has nothing to read"
    with pytest.raises(SystemExit):
        stop_signals.handle_read()
    assert here.stopping.is_set()
    stop_signals.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.usefixtures("signal_handlers")
def test_a_signal_inside_the_stopping_event_does_not_deadlock_a_web_process(
    here: Runtime, number: signal.Signals
) -> None:
    received = []
    signal.signal(number, lambda *_: received.append(number))  # gunicorn's own
    runpy.run_path(str(ROOT / "gunicorn.conf.py"))["stop_on_signals"](runtime.current().stopping)

    with lock_held(here):
        signal.raise_signal(number)

    assert here.stopping.wait(60)
    assert received == [number]


@pytest.mark.timeout(1200)  # as a rule half a minute; a busy machine takes longer
def test_two_signals_to_the_group_at_random_moments_always_end_the_shop(seeded_database: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.testkit.stop_twice", str(seeded_database), str(tmp_path), "12", "1"]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
