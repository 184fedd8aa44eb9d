"""A gunicorn worker in which slow clients occupy no thread, for deployments without a buffering proxy.

Gunicorn's own threaded worker reads requests, writes responses and closes connections with blocking calls: sixteen
clients that send half a request, or read nothing, stop it. Here the main loop receives a request completely before a
thread gets it, and sends the rest of a response that a client does not accept at once.
"""

import errno
import os
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from gunicorn import http
from gunicorn.workers.gthread import TConn, ThreadWorker

from app.http_server.limits import MAX_REQUEST_BODY_BYTES, REQUEST_TIMEOUT_SECONDS, RESPONSE_TIMEOUT_SECONDS

MAX_HEAD = 64 * 1024
MAX_BUFFERED = 8 * MAX_REQUEST_BODY_BYTES
"""The maximum size of a request in the buffer; larger than the body's limit, because each chunk has a size line."""
MAX_BUFFERED_IN_ALL = 64 * 1024 * 1024
"""The maximum size of a process's incomplete requests and unsent responses; beyond it the largest are dropped."""
READ_TIMEOUT_SECONDS = 0.2
"""The maximum total time of a thread's reads of what the main loop did not receive: the rest of a refused request."""
RECEIVE_BYTES = 64 * 1024
CLOSE_TIMEOUT_SECONDS = 2.0
DRAIN_SECONDS = 0.05

_HEAD_END = b"\r\n\r\n"
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*(\d{1,15})[ \t]*\r\n", re.IGNORECASE)
_TRANSFER_ENCODING = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"0*([0-9a-fA-F]{1,12})[ \t]*[;\r]")


class ClientSocket(socket.socket):
    """A client's socket. Data that cannot be sent at once is kept in ``unsent``; threads wait for data only briefly."""

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.unsent = bytearray()
        self.last_progress = time.monotonic()
        self._read_until: float | None = None

    def setblocking(self, flag: bool) -> None:
        """Set whether reads may wait; gunicorn calls this when a thread starts a request."""
        self._read_until = time.monotonic() + READ_TIMEOUT_SECONDS if flag else None
        self.settimeout(READ_TIMEOUT_SECONDS if flag else 0)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive available data. Raises TimeoutError if there is none and a thread has waited too long in total."""
        if self._read_until is None:
            return super().recv(bufsize, flags)
        left = max(self._read_until - time.monotonic(), 0.0)
        self.settimeout(min(left, self.gettimeout() or left))
        try:
            return super().recv(bufsize, flags)
        except (BlockingIOError, TimeoutError) as error:
            # gunicorn logs this errno as a client's error, and others as its own with a traceback
            raise TimeoutError(errno.ECONNRESET, "the rest of the request has not come") from error

    def sendall(self, data: Any, flags: int = 0) -> None:  # noqa: ARG002  (the socket's signature)
        """Send what can be sent without waiting, and keep the rest. Raises OSError if the client reads nothing."""
        if not self.unsent:
            self.last_progress = time.monotonic()
        self.unsent += data
        self.flush()
        if self.is_stalled():  # otherwise a stream would continue for a client that does not read
            raise BrokenPipeError(errno.EPIPE, "the client does not read")

    def flush(self) -> None:
        """Send as much of ``unsent`` as can be sent without waiting. Raises OSError if the connection is gone."""
        while self.unsent:
            try:
                # not send(): on a socket with a timeout it waits, although the descriptor is non-blocking
                sent = os.write(self.fileno(), self.unsent)
            except BlockingIOError:
                return
            del self.unsent[:sent]
            self.last_progress = time.monotonic()

    def is_stalled(self) -> bool:
        """Return whether the client has read nothing of the unsent data for too long."""
        return bool(self.unsent) and time.monotonic() - self.last_progress > RESPONSE_TIMEOUT_SECONDS


@dataclass
class IncomingRequest:
    """The received part of a request. Gunicorn parses it; this only determines whether it is complete."""

    deadline: float
    data: bytearray = field(default_factory=bytearray)
    expects_continue: bool = False
    """Whether the client waits for ``100 Continue`` before it sends the body."""
    _body: int | None = None
    """The offset of the body."""
    _length: int | None = None
    """The length of the body; None if it is chunked."""
    _chunk: int = 0
    """The offset of the chunk that is being received."""
    _content: int = 0
    """The total size of the chunks before it."""

    def is_ready(self) -> bool:
        """Return whether a thread can process it without waiting: it is complete, or can be refused already."""
        if self._body is None and not self._read_head():
            # gunicorn refuses a head that is too long, or that has bare LF line ends
            return len(self.data) > MAX_HEAD or b"\n\n" in self.data
        assert self._body is not None
        if self._length is None:
            return self._has_all_chunks()
        return self._length > MAX_REQUEST_BODY_BYTES or len(self.data) >= self._body + self._length

    def _read_head(self) -> bool:
        end = self.data.find(_HEAD_END)
        if end < 0:
            return False
        head = bytes(self.data[: end + 2])
        self._body = self._chunk = end + len(_HEAD_END)
        self.expects_continue = _EXPECT.search(head) is not None
        length = _CONTENT_LENGTH.search(head)
        if not _TRANSFER_ENCODING.search(head):
            self._length = int(length[1]) if length else 0
        return True

    def _has_all_chunks(self) -> bool:
        while True:
            line_end = self.data.find(b"\r\n", self._chunk)
            if line_end < 0:
                return len(self.data) - self._chunk > MAX_HEAD
            size = _CHUNK_SIZE.match(self.data, self._chunk)
            if size is None:
                return True
            length = int(size[1], 16)
            if length == 0:
                trailer = len(self.data) - line_end
                return self.data.find(_HEAD_END, line_end) >= 0 or trailer > MAX_HEAD
            begin = line_end + 2
            if self._content + min(length, len(self.data) - begin) > MAX_REQUEST_BODY_BYTES:
                return True
            if len(self.data) < begin + length + 2:
                return False
            if self.data[begin + length : begin + length + 2] != b"\r\n":
                return True
            self._chunk, self._content = begin + length + 2, self._content + length


class BufferingWorker(ThreadWorker):  # type: ignore[misc]  # untyped
    """Gunicorn's threaded worker, whose threads never wait for a client."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incoming: dict[TConn, IncomingRequest] = {}
        self._sending: dict[TConn, Callable[[], None]] = {}
        """Connections whose response is still being sent, and the callback for each afterwards."""
        self._closing: dict[TConn, float] = {}
        """Connections that only our side has closed, and the deadline for the client's side."""

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection; the main loop receives its first request. TLS connections are left to gunicorn."""
        if self.cfg.is_ssl:
            super().accept(listener)
            return
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE}:
                raise
            return
        self.nr_conns += 1
        connection = TConn(self.cfg, ClientSocket(accepted), address, listener.getsockname())
        connection.parser = http.get_parser(self.cfg, connection.sock, address)
        connection.initialized = True
        self.enqueue_req(connection)

    def enqueue_req(self, conn: TConn) -> None:
        """Receive the next request of a connection, and pass it to a thread when it is complete."""
        if not isinstance(conn.sock, ClientSocket):
            super().enqueue_req(conn)
            return
        conn.sock.setblocking(False)
        request = IncomingRequest(time.monotonic() + REQUEST_TIMEOUT_SECONDS)
        request.data += conn.parser.unreader.take_buffered()
        self._incoming[conn] = request
        self.poller.register(conn.sock, EVENT_READ, partial(self._receive, conn))
        if request.is_ready():
            self._pass_to_thread(conn)

    def finish_request(self, conn: TConn, fs: "Future[bool]") -> None:
        """Keep or close a connection after its request, once the response is sent."""
        if not isinstance(conn.sock, ClientSocket):
            super().finish_request(conn, fs)
            return
        if conn.sock.fileno() < 0:  # gunicorn has closed it in the thread: the response failed after its head was sent
            self.nr_conns -= 1
            return
        keep = not fs.cancelled() and fs.exception() is None and fs.result()
        next_step = partial(super().finish_request, conn, fs) if keep else partial(self._close_gracefully, conn)
        if not conn.sock.unsent:
            next_step()
            return
        self._sending[conn] = next_step
        self.poller.register(conn.sock, EVENT_WRITE, partial(self._send, conn))
        self._limit_buffers()

    def murder_pending(self) -> None:
        """Drop the connections of clients that took too long; the main loop calls this once a second."""
        super().murder_pending()
        now = time.monotonic()
        for conn, request in list(self._incoming.items()):
            if now > request.deadline or not (self.alive or request.data):
                self._drop(conn)
        for conn in [conn for conn in self._sending if conn.sock.is_stalled()]:
            self._drop(conn)
        for conn in [conn for conn, deadline in self._closing.items() if now > deadline]:
            self._drop(conn)

    def _keepalive_after(self, conn: TConn, keepalive: object) -> bool:
        # gunicorn would wait here for the rest of a body that was refused for its length
        return bool(keepalive and conn.parser.finish_body(deadline=time.monotonic() + DRAIN_SECONDS))

    def _receive(self, conn: TConn, _sock: socket.socket) -> None:
        request = self._incoming[conn]
        try:
            data = conn.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._drop(conn)
            return
        request.data += data
        if not request.data or len(request.data) > MAX_BUFFERED:
            self._drop(conn)
        elif not data or request.is_ready():  # the application refuses a truncated request
            self._pass_to_thread(conn)
        elif request.expects_continue:
            request.expects_continue = False
            try:
                conn.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            except OSError:  # the client has disconnected; an exception here would end the worker
                self._drop(conn)
        self._limit_buffers()

    def _limit_buffers(self) -> None:
        """Drop the connections with the largest buffers until the total is at most ``MAX_BUFFERED_IN_ALL``."""
        buffered = {conn: len(request.data) for conn, request in self._incoming.items()}
        buffered |= {conn: len(conn.sock.unsent) for conn in self._sending}
        while sum(buffered.values()) > MAX_BUFFERED_IN_ALL:
            largest = max(buffered, key=lambda conn: buffered[conn])
            del buffered[largest]
            self._drop(largest)

    def _pass_to_thread(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        conn.parser.unreader.unread(bytes(self._incoming.pop(conn).data))
        super().enqueue_req(conn)

    def _send(self, conn: TConn, _sock: socket.socket) -> None:
        try:
            conn.sock.flush()
        except OSError:
            self._drop(conn)
            return
        if not conn.sock.unsent:
            self.poller.unregister(conn.sock)
            self._sending.pop(conn)()

    def _close_gracefully(self, conn: TConn) -> None:
        """Close our side, then wait for the client's: closing at once could cut off a response in transit."""
        self._closing[conn] = time.monotonic() + CLOSE_TIMEOUT_SECONDS
        conn.sock.setblocking(False)
        self.poller.register(conn.sock, EVENT_READ, partial(self._await_close, conn))
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)

    def _await_close(self, conn: TConn, _sock: socket.socket) -> None:
        try:
            if conn.sock.recv(RECEIVE_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # it is closed in any case
        self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        for waiting in (self._incoming, self._sending, self._closing):
            waiting.pop(conn, None)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()
