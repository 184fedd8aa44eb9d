"""The commands a newcomer types, as real processes where the process is what matters."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.runtime import Runtime
from app.settings import ROOT
from cli import demo
from cli.main import main
from tests.testkit.client import Typed
from tests.testkit.processes import free_port
from tests.testkit.shop import Shop, http_transport
from workflows.orders import Item
from workflows.scenarios import Scenario

PASSWORD = re.compile(r"[a-z0-9]{5}(-[a-z0-9]{5}){3}")


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a process whose shop is in this folder."""
    others = {name: value for name, value in os.environ.items() if name != "BROKER_URL"}
    return {**others, "DATABASE_URL": f"sqlite:///{folder / 'shop.db'}", **changes}


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=200)


@contextmanager
def running(folder: Path, here: Runtime, **changes: str) -> Iterator[tuple["subprocess.Popen[str]", Shop, str]]:
    """Run ``python -m app run``; yields it, its shop, and the line of its greeting that says how operators log in."""
    port = free_port()
    command, variables = [sys.executable, "-m", "app", "run"], environment(folder, PORT=str(port), **changes)
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=pipe, stderr=pipe, text=True)
    try:
        assert process.stdout is not None
        said = next(line for line in iter(process.stdout.readline, "") if "/operator/login" in line)
        assert f"http://127.0.0.1:{port}/" in said
        yield process, Shop(http_transport(f"http://127.0.0.1:{port}"), here), said
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_run_serves_ends_cleanly_on_ctrl_c_keeps_the_data_and_shows_a_password_once(
    tmp_path: Path, here: Runtime
) -> None:
    with running(tmp_path, here) as (process, shop, said):
        assert PASSWORD.search(said)
        placed = shop.order("item-001")
        assert shop.settle(placed["saga_id"])["status"] == "completed"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0
        assert "Traceback" not in errors

    with running(tmp_path, here) as (_, shop, said):
        assert "with the password made before" in said
        assert not PASSWORD.search(said)
        assert shop.get(f"/api/v1/orders/{placed['order_id']}").body["status"] == "completed"


def test_the_password_of_the_settings_is_not_replaced_and_not_shown(
    tmp_path: Path, here: Runtime, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = [PASSWORD.search(typed("password").output) for _ in range(2)]
    assert passwords[0]
    assert passwords[1]
    assert passwords[0][0] != passwords[1][0]
    with running(tmp_path, here, OPERATOR_PASSWORD="swordfish") as (process, _, said):
        assert "with the OPERATOR_PASSWORD" in said
        process.send_signal(signal.SIGINT)
        assert "swordfish" not in said + "".join(process.communicate(timeout=200))
    monkeypatch.setenv("OPERATOR_PASSWORD", "swordfish")

    refused = typed("password")

    assert refused.exit_code == 2
    assert "OPERATOR_PASSWORD is set" in refused.stderr
    assert "swordfish" not in refused.output


def test_a_port_that_is_taken_is_said_and_exits_with_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run("-m", "app", "run", **environment(tmp_path, PORT=str(taken.getsockname()[1])))

    assert ended.returncode == 2
    assert "set HOST or PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("typed")  # for its environment
@pytest.mark.parametrize(
    ("arguments", "database_url", "code", "says"),
    [
        ("audit", "postgresql+psycopg2://nobody@127.0.0.1:1/nothing", 1, "does not answer: connection to server"),
        ("seed", "sqlite:////proc/nowhere/shop.db", 1, "does not answer: /proc/nowhere cannot be made"),
        ("audit", "sqlite:///{folder}/empty.db", 1, "has another schema, bring it up with `migrate`: no such table"),
        ("saga show \udcff", "sqlite:///{folder}/test.db", 2, "An argument is not UTF-8."),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: str,
    database_url: str,
    code: int,
    says: str,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url.format(folder=tmp_path))
    monkeypatch.setattr(sys, "argv", ["app", *arguments.split(" ")])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == code
    assert says in capsys.readouterr().err


def test_the_demo_ends_as_the_seeds_say_or_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("STEP_TIMEOUT_SECONDS", "ORDER_TIMEOUT_SECONDS"):  # good orders are to complete
        monkeypatch.setenv(name, "15")
    assert demo.run_demo()
    assert "27 of 27 ended as the seeds say; 0 violations" in capsys.readouterr().out

    wrong = Scenario("wrong", "out of stock, and said to complete", (Item("book-456", 1),))
    monkeypatch.setattr(demo, "PLAYED", (wrong,))

    assert not demo.run_demo()
    assert "✕ saga compensated, order cancelled" in capsys.readouterr().out


@pytest.mark.parametrize("broker_url", ["redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1//"])
def test_an_order_is_accepted_and_kept_while_the_broker_is_down(
    seeded_database: Path, tmp_path: Path, broker_url: str
) -> None:
    shutil.copy(seeded_database, tmp_path / "shop.db")
    program = """
import json
from web import create_app
client = create_app().test_client()
placed = client.post("/api/v1/orders", json={"items": [{"product_id": "item-001", "quantity": 1}]})
order = client.get(placed.headers["Location"])
deadline = client.get("/api/v1/sagas/" + placed.json["saga_id"]).json["deadline_at"]
ready = client.get("/readyz")
print(json.dumps([placed.status_code, order.json["status"], deadline, ready.status_code, ready.json["detail"]]))
"""
    ended = run("-c", program, **environment(tmp_path, BROKER_URL=broker_url))

    accepted, status, deadline, ready, detail = json.loads(ended.stdout.splitlines()[-1])
    assert (accepted, status, ready) == (202, "pending", 503)
    assert deadline is None  # it begins when the broker takes the first message
    assert "broker" in detail
