"""How gunicorn answers here: the head of an answer leaves with its body, in one write as far as the socket takes it.

A server killed between two writes leaves a proxy with a head that it has passed on already, so that it can ask no other
server instead. One write is also one call and one packet less.
"""

from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.message import Request


class BufferedHead:
    """A client's socket for one answer: what is written first waits for what is written next."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._head: bytes | None = None

    def sendall(self, data: bytes) -> None:
        """Send after what waits, or have the first of all wait."""
        if self._head is None:
            self._head = data
        else:
            self._socket.sendall(self._taken() + data)

    def sendfile(self, file: Any, offset: int, count: int) -> int:
        """Send what waits, and then a part of a file."""
        self.flush()
        return int(self._socket.sendfile(file, offset=offset, count=count))

    def flush(self) -> None:
        """Send what waits."""
        if self._head:
            self._socket.sendall(self._taken())

    def _taken(self) -> bytes:
        head, self._head = self._head or b"", b""
        return head


class BufferedResponse(wsgi.Response):  # type: ignore[misc]  # it comes without types
    """Gunicorn's answer, whose head leaves with the first part of its body, or at the end of an answer without one.

    A file, a stream, or a body larger than the socket's buffer may still be cut.
    """

    def __init__(self, req: Request, sock: Any, cfg: Any) -> None:
        super().__init__(req, BufferedHead(sock), cfg)

    def close(self) -> None:
        """End the answer: the head of one without a body leaves now."""
        super().close()
        self.sock.flush()
