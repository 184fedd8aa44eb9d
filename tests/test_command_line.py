"""The commands a newcomer types, as real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT
from tests.testkit.processes import free_port
from tests.testkit.shop import http_transport


def command(name: str) -> list[str]:
    return [sys.executable, "-m", "app", name]


def environment(**changes: str) -> dict[str, str]:
    cleared = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "BROKER_URL"}}
    return {**cleared, **changes}


class Running:
    """A running `python -m app run`."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.call = http_transport(f"http://127.0.0.1:{port}")

    def settle(self, saga_id: str) -> dict[str, Any]:
        give_up = time.monotonic() + 200
        while True:
            saga = dict(self.call("GET", f"/api/v1/sagas/{saga_id}", None, {}).body)
            if saga["status"] in {"completed", "compensated"}:
                return saga
            assert time.monotonic() < give_up, saga
            time.sleep(0.05)

    def how_to_log_in(self) -> str:
        """Return the line of the greeting that says how operators log in."""
        assert self.process.stdout is not None
        return next(line for line in iter(self.process.stdout.readline, "") if "/operator/login" in line)

    def place(self, **options: Any) -> dict[str, Any]:
        body = {"items": [{"product_id": "item-001", "quantity": 1}], **options}
        answer = self.call("POST", "/api/v1/orders", body, {})
        assert answer.status == 202, answer
        return dict(answer.body)


@contextmanager
def running(folder: Path, **changes: str) -> Iterator[Running]:
    port = free_port()
    settings = environment(DATABASE_URL=f"sqlite:///{folder / 'shop.db'}", PORT=str(port), STALL_SECONDS="1", **changes)
    process = subprocess.Popen(
        command("run"), cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        greeting = iter(process.stdout.readline, "")
        assert any(f"http://127.0.0.1:{port}" in line for line in greeting)
        yield Running(process, port)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_run_serves_and_ends_cleanly_on_ctrl_c_and_keeps_the_data(tmp_path: Path) -> None:
    with running(tmp_path) as shop:
        placed = shop.place()
        assert shop.settle(placed["saga_id"])["status"] == "completed"
        shop.process.send_signal(signal.SIGINT)
        _, errors = shop.process.communicate(timeout=200)
        assert shop.process.returncode == 0
        assert "Traceback" not in errors

    with running(tmp_path) as shop:
        assert shop.call("GET", f"/api/v1/orders/{placed['order_id']}", None, {}).body["status"] == "completed"


PASSWORD = re.compile(r"[a-z0-9]{5}(-[a-z0-9]{5}){3}")


def test_the_first_start_makes_a_password_and_shows_it_once(tmp_path: Path) -> None:
    said = []
    for _ in range(2):
        with running(tmp_path) as shop:
            said.append(shop.how_to_log_in())
    settings = environment(DATABASE_URL=f"sqlite:///{tmp_path / 'shop.db'}")
    made = subprocess.run(
        command("password"), cwd=ROOT, env=settings, capture_output=True, text=True, check=True, timeout=200
    )

    shown = [PASSWORD.search(words) for words in (*said, made.stdout)]

    assert shown[0]
    assert shown[1] is None
    assert "with the password made before" in said[1]
    assert shown[2]
    assert shown[2][0] != shown[0][0]


def test_the_password_of_the_settings_is_not_replaced_and_not_shown(tmp_path: Path) -> None:
    with running(tmp_path, OPERATOR_PASSWORD="swordfish") as shop:
        assert "with the OPERATOR_PASSWORD" in shop.how_to_log_in()
        shop.process.send_signal(signal.SIGINT)
        output, errors = shop.process.communicate(timeout=200)
    assert "swordfish" not in output + errors
    settings = environment(DATABASE_URL=f"sqlite:///{tmp_path / 'shop.db'}", OPERATOR_PASSWORD="swordfish")
    refused = subprocess.run(
        command("password"), cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=200
    )
    assert refused.returncode == 2
    assert "OPERATOR_PASSWORD is set" in refused.stderr
    assert "swordfish" not in refused.stderr + refused.stdout


def test_a_port_that_is_taken_is_said_and_exits_with_2(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = environment(DATABASE_URL=f"sqlite:///{tmp_path / 'shop.db'}", PORT=str(taken.getsockname()[1]))
        ended = subprocess.run(
            command("run"), cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=200
        )

    assert ended.returncode == 2
    assert "set HOST or PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("database_url", "says"),
    [
        ("postgresql+psycopg2://nobody@127.0.0.1:1/nothing", "The database does not answer: connection to server"),
        ("sqlite:////proc/nowhere/shop.db", "The database does not answer: /proc/nowhere cannot be made"),
        ("sqlite:///{folder}/empty.db", "The database has another schema, bring it up with `migrate`: no such table"),
    ],
)
@pytest.mark.parametrize("name", ["audit", "seed"])
def test_a_database_that_cannot_be_used_is_said_in_a_line(
    tmp_path: Path, name: str, database_url: str, says: str
) -> None:
    settings = environment(DATABASE_URL=database_url.format(folder=tmp_path))
    ended = subprocess.run(
        command(name), cwd=ROOT, env=settings, capture_output=True, text=True, check=False, timeout=200
    )

    assert ended.returncode == 1
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_argument_that_is_no_text_is_refused(tmp_path: Path) -> None:
    settings = environment(DATABASE_URL=f"sqlite:///{tmp_path / 'shop.db'}")
    subprocess.run(command("migrate"), cwd=ROOT, env=settings, check=True, capture_output=True, timeout=200)
    ended = subprocess.run(
        [*command("saga"), "show", b"\xff"], cwd=ROOT, env=settings, capture_output=True, check=False, timeout=200
    )

    assert (ended.returncode, ended.stderr) == (2, b"An argument is not UTF-8.\n")


def test_the_demo_ends_as_the_seeds_say() -> None:
    patient = environment(STEP_TIMEOUT_SECONDS="15", ORDER_TIMEOUT_SECONDS="15")  # good orders are to complete
    ended = subprocess.run(
        command("demo"), cwd=ROOT, env=patient, capture_output=True, text=True, check=False, timeout=200
    )

    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "27 of 27 ended as the seeds say; 0 violations" in ended.stdout


def test_the_demo_fails_when_a_scenario_does_not_end_as_it_must(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cli import demo
    from workflows.orders import Item
    from workflows.scenarios import Scenario

    wrong = Scenario("wrong", "out of stock, and said to complete", (Item("book-456", 1),))
    monkeypatch.setattr(demo, "PLAYED", (wrong,))

    assert demo.run_demo() is False
    assert "✕ saga compensated, order cancelled" in capsys.readouterr().out


@pytest.mark.parametrize("broker_url", ["redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1//"])
def test_an_order_is_accepted_and_kept_while_the_broker_is_down(tmp_path: Path, broker_url: str) -> None:
    settings = environment(DATABASE_URL=f"sqlite:///{tmp_path / 'shop.db'}", BROKER_URL=broker_url)
    for name in ("migrate", "seed"):
        subprocess.run(command(name), cwd=ROOT, env=settings, check=True, capture_output=True, timeout=200)
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
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=settings, capture_output=True, text=True, check=True, timeout=200
    )

    accepted, status, deadline, ready, detail = json.loads(ended.stdout.splitlines()[-1])
    assert (accepted, status, ready) == (202, "pending", 503)
    assert deadline is None  # it begins when the broker takes the first message
    assert "broker" in detail
