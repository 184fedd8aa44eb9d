"""The systemd units: each process of the Procfile is run as it is written there, and restarted whenever it ends."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT

UNITS = ROOT / "deploy" / "systemd"
UNIT = re.findall(r"^(\w+)=(.*)$", (UNITS / "cloudmart@.service").read_text(), re.MULTILINE)
PROCFILE = dict(re.findall(r"^(\w+): (.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE))
MAX_STOP_SECONDS = 45
"""What docker-compose.yml gives a worker and web."""


def test_a_process_is_restarted_for_ever_and_stops_in_its_own_time() -> None:
    unit = dict(UNIT)
    assert (unit["Restart"], unit["StartLimitIntervalSec"]) == ("always", "0")
    assert int(unit["TimeoutStopSec"]) > MAX_STOP_SECONDS
    assert unit["KillMode"] == "mixed"


@pytest.mark.parametrize("name", PROCFILE)
def test_a_unit_runs_what_the_procfile_says(name: str, tmp_path: Path) -> None:
    for program in ("python", "celery", "gunicorn"):
        (tmp_path / program).write_text('#!/bin/sh\necho "$$ ${0##*/} $*"\n')
        (tmp_path / program).chmod(0o755)
    command = shlex.split(dict(UNIT)["ExecStart"].replace("%i", name).replace("$$", "$"))

    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PORT": "8000"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    pid, said = process.communicate(timeout=200)[0].rstrip().split(" ", 1)

    expected = (
        PROCFILE[name].replace("${HOST:-127.0.0.1}:$PORT", "127.0.0.1:8000").replace("${FLOWER_PORT:-5555}", "5555")
    )
    assert said == " ".join(shlex.split(expected.removeprefix("env -u PROMETHEUS_MULTIPROC_DIR ")))
    assert int(pid) == process.pid, "a shell in between would take systemd's signals"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        shutil.copy(unit, tmp_path)
    (tmp_path / "cloudmart@web.service").symlink_to("cloudmart@.service")
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / "cloudmart@web.service")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
