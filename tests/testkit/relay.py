"""An address that leads to one server, and then to another."""

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Relay:
    """A port of loopback whose connections are relayed to a port, of loopback as well, which may be changed."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._host, self._target = host, target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port = int(self._listener.getsockname()[1])
        self.unanswered = 0
        """How many connections led to a port that did not answer."""

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def lead_to(self, target: int) -> None:
        """Relay new connections to another port; those that are open stay as they are."""
        self._target = target

    def cut(self) -> None:
        """End every connection."""
        for client in list(self._open):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.add(client)
                self._start(self._relay, client)

    def _relay(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection((self._host, self._target))
            except OSError:
                self.unanswered += 1
                return
            self._copy(client, server)

    @staticmethod
    def _copy(client: socket.socket, server: socket.socket) -> None:
        with server, contextlib.suppress(OSError):
            to = {client: server, server: client}
            while True:
                for source in select.select(to, [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    to[source].sendall(data)
