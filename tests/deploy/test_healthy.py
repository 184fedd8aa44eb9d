"""A container's health check, run as a container does."""

import os
import subprocess
import sys
import time
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest

from app.runtime import Runtime
from app.settings import ROOT
from app.worker import heartbeat as app_heartbeat
from deploy import healthy
from tests.testkit.processes import free_port


def check(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-IS", "deploy/healthy.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_heartbeat_is_good_until_the_moment_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    assert check("heartbeat", str(path)) == (1, "there has been no heartbeat yet\n")

    path.touch()
    os.utime(path, (time.time() + 60,) * 2)
    assert check("heartbeat", str(path)) == (0, "")

    os.utime(path, (time.time() - 7,) * 2)
    code, said = check("heartbeat", str(path))
    assert code == 1
    assert "s ago" in said


def test_a_starting_container_is_healthy_with_its_first_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: Runtime
) -> None:
    path = tmp_path / "heartbeat"
    here.settings = here.settings.but(heartbeat_file=str(path))
    ages = iter([5.0, 6.0, 169.0])
    monkeypatch.setattr(healthy, "container_age", lambda: next(ages))

    monkeypatch.setattr(time, "sleep", lambda _: app_heartbeat.refresh(20))
    assert healthy.heartbeat(str(path), "170") == ""
    app_heartbeat.refresh(0)  # a worker that has lost its broker is not waited for
    monkeypatch.setattr(healthy, "container_age", lambda: 5.0)
    assert healthy.heartbeat(str(path), "170").startswith("the last heartbeat was good until ")
    path.unlink()
    monkeypatch.setattr(healthy, "container_age", lambda: 171.0)
    assert healthy.heartbeat(str(path), "170") == "there has been no heartbeat yet"


def test_a_server_is_well_if_it_answers_200(tmp_path: Path) -> None:
    (tmp_path / "healthz").touch()
    with HTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        port = str(server.server_port)
        assert check("http", port, "/healthz") == (0, "")
        code, said = check("http", port, "/other")
        server.shutdown()
    assert (code, "404" in said) == (1, True)
    assert check("http", str(free_port()), "/healthz")[0] == 1
