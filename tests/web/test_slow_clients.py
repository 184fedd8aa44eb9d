"""Clients that send half of something, nothing, or read nothing keep nobody waiting, and read whole answers."""

import errno
import json
import shutil
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser

from app.http_server import buffering_worker
from app.http_server.limits import MAX_REQUEST_BODY_BYTES
from app.settings import ROOT, Settings
from tests.testkit.processes import free_port, listens, process_environment, running
from tests.testkit.web import SEED_ORDER
from web.gunicorn_response import BufferedResponse

THREADS = 2
PATIENCE_SECONDS = 20
"""Less than after what time a server gives up a client."""
LARGE = "/openapi/swagger/js/swagger-ui-bundle.js"


@contextmanager
def serving(command: str, folder: Path, **changes: Any) -> Iterator[int]:
    """Run ``python -m command``, set up as the project has it; yields its port."""
    settings = Settings(database_url=f"sqlite:///{folder / 'test.db'}", port=free_port(), **changes)
    bind = ["--bind", f"127.0.0.1:{settings.port}", "--no-control-socket"] if command.startswith("gunicorn") else []
    words = [sys.executable, "-m", *command.split(), *bind]
    with running(words, process_environment(settings), folder / "log", lambda: listens(settings.port)):
        yield settings.port


SERVERS = {"waitress": "app run", "gunicorn": "gunicorn web:create_app()"}
on_gunicorn = pytest.mark.parametrize("port", ["gunicorn"], indirect=True)


@pytest.fixture(scope="module", params=SERVERS)
def port(
    request: pytest.FixtureRequest, seeded_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of each server, with two threads."""
    folder = tmp_path_factory.mktemp("slow")
    shutil.copy(seeded_database, folder / "test.db")
    with serving(SERVERS[request.param], folder, broker_url="memory://", web_threads=THREADS) as port:
        yield port


@contextmanager
def connections(
    port: int, number: int, said: bytes = b"", receive_buffer: int | None = None
) -> Iterator[list[socket.socket]]:
    """Hold connections on which this was said, and on which nothing is read."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(number)]
        for client in clients:
            if receive_buffer:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.settimeout(PATIENCE_SECONDS)
            client.connect(("127.0.0.1", port))
            client.sendall(said)
        yield clients


def is_served(port: int) -> bool:
    """Return whether somebody else is served, on a connection of their own each time."""
    for path in ("/healthz", "/catalogue", "/healthz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_SECONDS) as answer:
            answer.read()
    return True


def is_closed(client: socket.socket) -> bool:
    """Return whether a server has closed a connection on which it answers nothing."""
    client.settimeout(0)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    answered = b""
    while data := client.recv(65536):
        answered += data
    return answered


def exchange(port: int, said: bytes, *more: bytes, hang_up: bool = False) -> bytes:
    """Return all that a server answers on one connection until it closes it, or falls silent."""
    with connections(port, 1, said) as [client]:
        for part in more:
            client.sendall(part)
        if hang_up:
            client.shutdown(socket.SHUT_WR)
        return read_all(client)


ORDER = json.dumps(SEED_ORDER).encode()


def order(*headers: str, path: str = "/api/v1/orders", content_type: str = "application/json") -> bytes:
    """Return the head of a request for an order."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {content_type}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LONG_GET = f"GET {LARGE} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
CHUNKED = "Transfer-Encoding: chunked"
SLOW = {
    "unfinished bodies": [
        order("Content-Length: 1000") + b'{"customer_id":',
        order("Content-Length: 9999999") + b"{",
        order("Content-Length: 00000000000000001000") + b"{",
    ],
    "unfinished chunks": [
        order(CHUNKED) + b"ff\r\n{",
        order(CHUNKED) + b"00000000000000ff\r\n{",
        order(CHUNKED) + chunk(b" " * 1_024_000) + chunk(b" ") * 5000,
    ],
    "unfinished heads": [GET, GET + b"X-Long: %s\r\n" % (b"x" * 8000) * 9],
    "silence": [b""],
    "nobody hangs up": [GET + b"Connection: close\r\n\r\n"],
    # more than the system keeps for a client that does not read
    "nobody reads": [(LONG_GET + b"\r\n") * 8],
}


@pytest.mark.parametrize("slow", SLOW)
def test_slow_clients_keep_nobody_waiting(port: int, slow: str) -> None:
    number, buffer = (110 if slow == "silence" else 40), (4096 if slow == "nobody reads" else None)
    with ExitStack() as stack:
        for said in SLOW[slow]:
            stack.enter_context(connections(port, number // len(SLOW[slow]), said, receive_buffer=buffer))
        assert is_served(port)


def test_a_large_answer_comes_whole_to_who_reads_late(port: int) -> None:
    with connections(port, 1, LONG_GET + b"Connection: close\r\n\r\n", receive_buffer=4096) as [client]:
        assert is_served(port)
        head, _, body = read_all(client).partition(b"\r\n\r\n")

    assert f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n"
    assert len(body) > 1_000_000


def framed(length: int, *, chunked: bool) -> list[bytes]:
    """Return the parts of a request whose body has this length."""
    body = ORDER.ljust(length)
    if not chunked:
        return [order(f"Content-Length: {length}", "Connection: close"), body[:9], body[9:]]
    return [order(CHUNKED, "Connection: close"), chunk(body[:9]), chunk(body[9:]), b"0\r\n\r\n"]


def test_a_request_that_comes_in_parts_is_answered_by_what_it_is_in_all(port: int) -> None:
    for chunked in (False, True):
        most = MAX_REQUEST_BODY_BYTES
        for length, status in ((len(ORDER), b"202"), (most, b"202"), (most + 1, b"413")):
            answer = exchange(port, *framed(length, chunked=chunked))
            assert answer.startswith(b"HTTP/1.1 " + status), (length, chunked)
    head = order(CHUNKED, "Connection: close")
    assert exchange(port, head, chunk(ORDER), b"0;x=y\r\nX-Checksum: z\r\n\r\n").startswith(b"HTTP/1.1 202 ")
    form = order(CHUNKED, "Connection: close", path="/place", content_type="application/x-www-form-urlencoded")
    for begun in (head, form):
        for malformed in (b"zz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}zz0\r\n\r\n", b"-2\r\n{}\r\n"):
            assert exchange(port, begun + malformed).startswith(b"HTTP/1.1 400 ")
    assert exchange(port, GET + b"\r\n" + GET + b"Connection: close\r\n\r\n").count(b"HTTP/1.1 200 OK") == 2


@on_gunicorn
def test_a_client_reads_a_whole_answer_at_once(port: int) -> None:
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(GET + b"\r\n")
            head, _, body = client.recv(65536).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}\r\n".encode() in head
        assert body


def test_a_client_that_waits_to_be_asked_for_the_body_is_asked(port: int) -> None:
    head = order(f"Content-Length: {len(ORDER)}", "Expect: 100-continue", "Connection: close")
    with connections(port, 1, head) as [client]:
        assert client.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.sendall(ORDER)
        assert b"HTTP/1.1 202 " in read_all(client)


@on_gunicorn  # waitress keeps what has come of a large body in a file
def test_what_is_kept_of_unfinished_requests_is_bounded_in_all(port: int) -> None:
    almost = order(f"Content-Length: {MAX_REQUEST_BODY_BYTES}") + b" " * (MAX_REQUEST_BODY_BYTES - 1)

    with connections(port, 70, almost) as clients:
        assert is_served(port)
        dropped = [client for client in clients if is_closed(client)]

    assert 0 < len(dropped) <= 10


def test_a_thread_reads_what_has_come_and_waits_for_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live page looks whether its reader has hung up, and finds what the reader has sent meanwhile."""
    monkeypatch.setattr(buffering_worker, "READ_TIMEOUT_SECONDS", 0)
    ours, theirs = socket.socketpair()
    with buffering_worker.ClientSocket(ours) as client, theirs:
        client.setblocking(True)
        theirs.sendall(b"more")

        assert client.recv(1, socket.MSG_PEEK) == b"m"
        assert client.recv(4) == b"more"
        with pytest.raises(TimeoutError) as late:
            client.recv(1)
    assert late.value.errno == errno.ECONNRESET, "gunicorn would log others with a traceback"


@on_gunicorn  # waitress passes on no request that has not come whole
def test_a_body_shorter_than_its_length_is_refused(port: int) -> None:
    answered = exchange(port, order("Content-Length: 500") + ORDER, hang_up=True)

    assert answered.startswith(b"HTTP/1.1 400 ")


def worker_of(port: int) -> bytes:
    return exchange(port, b"GET /pid HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").split()[-2]


def test_neither_an_answer_that_breaks_off_nor_a_client_that_asks_to_be_asked_and_goes_ends_the_process(
    tmp_path: Path,
) -> None:
    with serving("gunicorn tests.web.broken_stream:app", tmp_path) as port:
        worker = worker_of(port)

        broken = exchange(port, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
                client.sendall(order("Content-Length: 10", "Expect: 100-continue"))

        assert broken.startswith(b"HTTP/1.1 200")
        assert not broken.endswith(b"0\r\n\r\n"), "the client must see that it is not whole"
        assert worker_of(port) == worker


# ---- head and body leave in one write: nobody is killed between them


class Client:
    """A client's socket that remembers each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.writes.append(data)


@pytest.mark.parametrize(
    ("headers", "bodies"),
    [([("Content-Length", "6")], [b"one", b"two"]), ([], [b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"])],
    ids=["by length", "in chunks"],
)
def test_the_head_leaves_with_the_first_part_of_the_body(headers: list[tuple[str, str]], bodies: list[bytes]) -> None:
    client, settings = Client(), Config()
    request = next(RequestParser(settings, iter([b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"]), ("", 0)))
    begun = BufferedResponse(request, client, settings)
    begun.start_response("200 OK", headers)
    begun.send_headers()
    assert client.writes == [], "whoever is killed now has sent nothing: a proxy may still ask another server"
    for part in (b"one", b"two"):
        begun.write(part)
    begun.close()

    head, _, first = client.writes[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [first, *client.writes[1:]] == bodies


def test_the_parent_of_the_workers_knows_nothing_of_the_application() -> None:
    """SIGHUP has it start new workers, which would be born with the old code."""
    asked = "import runpy, sys; runpy.run_path('gunicorn.conf.py'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert not {"web", "tasks", "workflows"} & set(modules.split())
