"""``python -m tests.chaos`` as a command: it ends when it is told to, and says what it needs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from app.settings import ROOT
from tests.testkit.processes import INTERRUPTED, children, wait_for

COMMAND = [sys.executable, "-m", "tests.chaos", "--seed", "1", "--orders", "100", "--kills", "5", "--stack"]


def test_ctrl_c_ends_everything_that_it_started(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*COMMAND, "embedded"], cwd=ROOT, env=environment, stdout=subprocess.PIPE) as chaos:
        wait_for("the shop to run", lambda: len(children(chaos.pid)) == 1)
        shop = children(chaos.pid)[0]
        chaos.send_signal(signal.SIGINT)
        chaos.communicate(timeout=60)

    assert chaos.returncode in INTERRUPTED
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"/proc/{shop}").exists()


def test_a_missing_server_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}

    ended = subprocess.run([*COMMAND, "redis"], cwd=ROOT, env=environment, capture_output=True, text=True)

    assert ended.returncode == 2
    assert "is not installed here" in ended.stderr and "make services" in ended.stderr
