"""Head and body of an answer leave in one write, by gunicorn as it is set up here: nobody is killed between them."""

import subprocess
import sys

import pytest
from gunicorn.config import Config
from gunicorn.http import RequestParser

from app.settings import ROOT
from web.gunicorn_response import BufferedResponse


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
