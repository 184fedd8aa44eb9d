"""The scale report: what it prints and writes, that it ends by itself, and that nothing is left of it."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.settings import ROOT
from bench.scaling.figures import most_at_once, waits_for
from bench.scaling.shop import Ran
from tests.bench.test_own import run
from tests.testkit.processes import INTERRUPTED, children, wait_for
from tests.testkit.servers import require_postgresql

QUICK = ["--broker=redis", "--replicas=1,2", "--orders=6", "--in-flight=4", "--latency=0.01", "--concurrency=1"]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(*seconds: float) -> tuple[datetime, ...]:
    return tuple(NOON + timedelta(seconds=second) for second in seconds)


@pytest.mark.timeout(300)
def test_it_says_what_each_number_of_replicas_settled_and_leaves_nothing_behind(tmp_path: Path) -> None:
    printed, [written] = run(tmp_path, "scale_report", *QUICK)

    table = [line.split() for line in printed.splitlines()[2:4]]
    assert [(row[0], row[-1]) for row in table] == [("1", "6/6"), ("2", "6/6")]
    assert "audit: clean" in printed
    content = json.loads(written.read_text())
    assert (content["service"], content["audit_clean"], content["stack"]["broker"]) == ("payments", True, "redis")
    assert [row["replicas"] for row in content["rows"]] == [1, 2]
    assert all(row["settled_per_second"] > 0 and row["median_seconds"] > 0 for row in content["rows"])


def told_of(folder: Path) -> list[str]:
    """Return the processes in whose environment a folder is named."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            if os.fsencode(folder) in (process / "environ").read_bytes():
                found.append(process.name)
    return found


def test_ctrl_c_ends_everything_that_it_started(tmp_path: Path) -> None:
    require_postgresql()
    command, environment = [sys.executable, "-m", "bench.scale_report", *QUICK], {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as report:
        wait_for("the broker, the web and the workers", lambda: len(children(report.pid)) >= 4)
        report.send_signal(signal.SIGINT)
        report.communicate(timeout=60)

    assert report.returncode in INTERRUPTED
    assert list(tmp_path.iterdir()) == []
    # whose parent ended before it is gone when the system has noticed
    wait_for("all to be gone", lambda: not told_of(tmp_path))


def test_a_saga_waits_for_a_service_from_the_end_of_the_step_before() -> None:
    (created, first, first_end, second, second_end) = at(0, 1, 2, 5, 6)
    steps = [Ran("create_order", first, first_end), Ran("process_payment", second, second_end)]

    assert list(waits_for("payments", created, steps)) == [(first_end, second)]
    assert list(waits_for("orders", created, steps)) == [(created, first)]
    assert list(waits_for("shipping", created, steps)) == []


def test_the_peak_of_a_queue_is_how_many_waited_at_the_same_time() -> None:
    zero, one, two, three = at(0, 1, 2, 3)

    assert most_at_once([]) == 0
    assert most_at_once([(zero, two), (one, three), (two, three)]) == 2
