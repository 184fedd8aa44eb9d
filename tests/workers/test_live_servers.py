"""Live pages on the servers that people use: waitress in the embedded default, and gunicorn with two processes."""

import http.client
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.settings import Settings
from tests.testkit.processes import children, free_port, listens, process_environment, running, wait_for
from tests.testkit.shop import http_transport

PATIENCE_SECONDS = 60
"""Shorter than a stream lasts, and than gunicorn waits for one: what waits for an open stream is found out."""

COMMANDS = {
    "waitress": ["-m", "app", "run"],
    "gunicorn": ["-m", "gunicorn", "web:create_app()", "--workers", "2", "--log-level", "warning"],
}


class Server:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log
        self.call = http_transport(f"http://127.0.0.1:{port}")

    def place(self) -> str:
        """Place an order that waits at its payment until it is cancelled."""
        body = {"items": [{"product_id": "item-001", "quantity": 1}], "simulate": {"payments": "hang"}}
        answer = self.call("POST", "/api/v1/orders", body, {})
        assert answer.status == 202, answer
        return str(answer.body["saga_id"])

    @contextmanager
    def listening(self, saga_id: str, last_seen: str = "") -> Iterator[http.client.HTTPResponse]:
        """Open a stream; yields it as it comes."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as connection:
            headers = {"Last-Event-ID": last_seen} if last_seen else {}
            connection.request("GET", f"/sagas/{saga_id}/live", headers=headers)
            stream = connection.getresponse()
            assert stream.status == 200
            yield stream


def value_of(stream: http.client.HTTPResponse, name: str) -> str:
    """Return the value of a stream's next field of this name."""
    lines = (line.decode().strip() for line in iter(stream.readline, b""))
    return next(line for line in lines if line.startswith(f"{name}: ")).removeprefix(f"{name}: ")


@pytest.fixture(scope="module", params=list(COMMANDS))
def server(
    request: pytest.FixtureRequest, seeded_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Each server, with room for one stream in each process."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(seeded_database, folder / "shop.db")
    patient = Settings(
        fault_injection=True,
        database_url=f"sqlite:///{folder / 'shop.db'}",
        broker_url="memory://",
        port=free_port(),
        web_threads=3,
        step_timeout_seconds=600,
        order_timeout_seconds=600,
    )
    bind = ["--bind", f"127.0.0.1:{patient.port}"] if request.param == "gunicorn" else []
    command, log = [sys.executable, *COMMANDS[request.param], *bind], folder / "log"
    with running(command, process_environment(patient), log, lambda: listens(patient.port)) as process:
        yield Server(process, patient.port, log)


def test_a_stream_tells_what_happens_and_gives_its_room_back(server: Server) -> None:
    saga_id = server.place()
    with server.listening(saga_id) as stream:
        assert value_of(stream, "event") == "live"
        before = value_of(stream, "id")
        assert server.call("POST", f"/api/v1/sagas/{saga_id}/cancel", {}, {}).status == 202
        wait_for("a change", lambda: value_of(stream, "id") != before, PATIENCE_SECONDS)

    def has_room() -> bool:
        with server.listening(saga_id) as stream:
            return value_of(stream, "event") == "live"

    # a client that has hung up frees its place long before its stream would have ended
    wait_for("room", has_room, PATIENCE_SECONDS)


def test_nobody_operates_through_a_proxy_that_the_settings_do_not_know_of(server: Server) -> None:
    path = f"/api/v1/sagas/{server.place()}/cancel"
    assert server.call("POST", path, {}, {"X-Forwarded-For": "192.0.2.9"}).status == 401


@pytest.mark.parametrize("server", ["gunicorn"], indirect=True)
def test_another_process_goes_on_where_a_killed_one_was(server: Server) -> None:
    saga_id = server.place()
    with server.listening(saga_id) as stream:
        seen = value_of(stream, "id")
        for worker in children(server.process.pid):
            os.kill(worker, signal.SIGKILL)
        with pytest.raises((http.client.IncompleteRead, ConnectionError, StopIteration)):
            value_of(stream, "id")
    assert server.call("POST", f"/api/v1/sagas/{saga_id}/cancel", {}, {}).status == 202

    with server.listening(saga_id, seen) as stream:
        assert value_of(stream, "id") != seen


def test_an_open_stream_holds_nobody_up_who_wants_to_stop(server: Server) -> None:  # the last one: it stops it
    with server.listening(server.place()) as stream:
        value_of(stream, "id")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_SECONDS) == 0
    assert "still running" not in server.log.read_text()  # says waitress of a thread that it gave up waiting for
