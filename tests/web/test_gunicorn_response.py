"""Head and body of an answer leave in one write, by gunicorn as it is set up here: nobody is killed between them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser
from gunicorn.http.wsgi import FileWrapper

from app.settings import ROOT
from web.gunicorn_response import BufferedResponse


class Client:
    """A client's socket that remembers each write."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.writes.append(data)

    def sendfile(self, file: Any, offset: int, count: int) -> int:
        file.seek(offset)
        self.writes.append(file.read(count))
        return count


def answer(client: Client, method: str = "GET", status: str = "200 OK", **headers: str) -> BufferedResponse:
    """Begin an answer to a request."""
    settings = Config()
    request = next(RequestParser(settings, iter([f"{method} / HTTP/1.1\r\nHost: here\r\n\r\n".encode()]), ("", 0)))
    begun = BufferedResponse(request, client, settings)
    begun.start_response(status, [(name.replace("_", "-"), value) for name, value in headers.items()])
    return begun


@pytest.mark.parametrize(
    ("headers", "bodies"),
    [({"Content_Length": "6"}, [b"one", b"two"]), ({}, [b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"])],
    ids=["by length", "in chunks"],
)
def test_the_head_leaves_with_the_first_part_of_the_body(headers: dict[str, str], bodies: list[bytes]) -> None:
    client = Client()
    begun = answer(client, **headers)
    begun.send_headers()
    assert client.writes == [], "whoever is killed now has sent nothing: a proxy may still ask another server"
    for part in (b"one", b"two"):
        begun.write(part)
    begun.close()

    head, _, first = client.writes[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [first, *client.writes[1:]] == bodies


def test_a_head_without_a_body_leaves_at_the_end_and_that_of_a_file_before_it(tmp_path: Path) -> None:
    for given in ({"method": "HEAD", "Content_Length": "6"}, {"status": "204 -"}):
        client = Client()
        begun = answer(client, **given)
        begun.write(b"")
        begun.close()
        assert len(client.writes) == 1
        assert client.writes[0].endswith(b"\r\n\r\n")

    path = tmp_path / "file"
    path.write_bytes(b"content")
    client = Client()
    begun = answer(client, Content_Length="7")
    with path.open("rb") as file:
        begun.write_file(FileWrapper(file))
    begun.close()
    assert client.writes[0].endswith(b"\r\n\r\n")
    assert client.writes[1:] == [b"content"]


def test_the_parent_of_the_workers_knows_nothing_of_the_application() -> None:
    """SIGHUP has it start new workers, which would be born with the old code."""
    asked = "import runpy, sys; runpy.run_path('gunicorn.conf.py'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert not {"web", "tasks", "workflows"} & set(modules.split())
