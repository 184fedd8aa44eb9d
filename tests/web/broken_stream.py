"""A WSGI application whose answers fail after their head was sent, except at ``/pid``."""

import os
from collections.abc import Callable, Iterator
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterator[bytes]:
    """Answer with the process's id; anywhere else fail after the first part."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield str(os.getpid()).encode()
    if environ["PATH_INFO"] != "/pid":
        raise RuntimeError("the answer breaks off")
