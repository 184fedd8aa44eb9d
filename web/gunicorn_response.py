"""Send gunicorn's response head together with the body, in one write as far as the socket accepts it.

If a server is killed between two writes, the proxy has already forwarded the head, and cannot retry the request on
another server. One write also saves a system call and a packet.
"""

from typing import Any

from gunicorn.http import wsgi
from gunicorn.http.message import Request


class BufferedHead:
    """A client's socket for one response, which buffers the first write (the head) until the next one."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._head: bytes | None = None

    def sendall(self, data: bytes) -> None:
        """Buffer the first write; send later ones, preceded by the buffer."""
        if self._head is None:
            self._head = data
        else:
            self._socket.sendall(self._take_head() + data)

    def sendfile(self, file: Any, offset: int, count: int) -> int:
        """Send the buffer, then a part of a file."""
        self.flush()
        return int(self._socket.sendfile(file, offset=offset, count=count))

    def flush(self) -> None:
        """Send the buffer."""
        if self._head:
            self._socket.sendall(self._take_head())

    def _take_head(self) -> bytes:
        head, self._head = self._head or b"", b""
        return head


class BufferedResponse(wsgi.Response):  # type: ignore[misc]  # untyped
    """Gunicorn's response, whose head is sent with the first part of the body, or at the end if there is no body.

    A file, a stream, or a body larger than the socket's buffer may still be truncated by a kill.
    """

    def __init__(self, req: Request, sock: Any, cfg: Any) -> None:
        super().__init__(req, BufferedHead(sock), cfg)

    def close(self) -> None:
        """End the response; without a body, the head is sent now."""
        super().close()
        self.sock.flush()
