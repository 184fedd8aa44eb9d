"""``python -m app run``: serve the whole shop in one process."""

import errno
import os
import signal
import sys
from types import FrameType
from typing import Any

import click
from waitress import wasyncore
from waitress.server import create_server

from app.http_server.limits import MAX_CONNECTIONS, MAX_REQUEST_BODY_BYTES, REQUEST_TIMEOUT_SECONDS
from app.observability import tracing
from app.runtime import Runtime
from app.settings import Settings
from cli.embedded import embedded_stack
from web import create_app
from workflows.operations import operator_password

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(runtime: Runtime) -> None:
    """Serve web, worker and scheduler until SIGINT or SIGTERM; exit with 2 if the port cannot be used.

    The first signal stops gracefully: running requests and steps are finished. A second one ends the process at once.
    """
    settings = runtime.settings
    tracing.start(settings, "cloudmart")
    sockets: dict[int, Any] = {}
    try:
        server = create_server(
            create_app(),
            map=sockets,
            host=settings.host,
            port=settings.port,
            threads=settings.web_threads,
            connection_limit=MAX_CONNECTIONS,
            asyncore_use_poll=True,  # select() fails for descriptors of 1024 and above
            channel_timeout=REQUEST_TIMEOUT_SECONDS,
            cleanup_interval=1,
            # received completely before the application can reject it
            max_request_body_size=2 * MAX_REQUEST_BODY_BYTES,
            channel_request_lookahead=1,  # else a client's disconnect is not noticed while a response streams
            ident="CloudMart",
            clear_untrusted_proxy_headers=False,  # which proxies to trust is decided for all servers by PROXIES
        )
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL}:
            raise
        click.echo(f"{settings.host}:{settings.port} cannot be used ({error.strerror}): set HOST or PORT.", err=True)
        sys.exit(2)
    StopSignals(runtime, sockets)
    with embedded_stack(runtime):
        url = f"http://{settings.host}:{settings.port}"
        click.echo(_greeting(url) + _how_to_log_in(url, settings))
        server.run()  # returns when StopSignals raises SystemExit
        click.echo("Stopping.")
    server.close()
    runtime.close()
    tracing.stop()


class StopSignals(wasyncore.file_dispatcher):
    """Ends the server's event loop on SIGINT or SIGTERM.

    A signal handler may interrupt any call of the main thread, also one that holds a lock; so this one only writes to
    a pipe (self-pipe trick), which the loop reads like its sockets.
    """

    def __init__(self, runtime: Runtime, sockets: dict[int, Any]) -> None:
        read_end: Any  # an int; the stubs declare a file
        read_end, self._write_end = os.pipe()
        super().__init__(read_end, map=sockets)
        os.close(read_end)  # the dispatcher has its own duplicate
        self._runtime = runtime
        for number in STOP_SIGNALS:  # also SIGINT, which shells set to be ignored in background processes
            signal.signal(number, self._handle_signal)

    def _handle_signal(self, _number: int, _frame: FrameType | None) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # the next one ends the process, even if it hangs
        os.write(self._write_end, b"\0")

    def writable(self) -> bool:
        """Return False: the loop only reads here."""
        return False

    def handle_read(self) -> None:
        """Set the stopping event, and raise SystemExit to end the loop."""
        self._runtime.stopping.set()  # the server joins its threads, and those of live pages run until this is set
        raise SystemExit


def _greeting(url: str) -> str:
    return f"""
CloudMart is open: {url}   (Ctrl-C closes it)

Order a book:
  curl -s {url}/api/v1/orders -H 'Content-Type: application/json' \\
    -d '{{"customer_id": "customer-001", "items": [{{"product_id": "book-123", "quantity": 1, "price": 3500}}]}}'

Watch it in the browser, or break it: add "simulate": {{"shipping": "decline"}} and see it compensated.
"""


def _how_to_log_in(url: str, settings: Settings) -> str:
    page = f"Operators log in at {url}/operator/login"
    if operator_password.is_configured():
        return f"{page} with the OPERATOR_PASSWORD.\n"
    # otherwise several web servers start at once and their output is kept in logs: an operator runs the command there
    generated = operator_password.generate_first() if settings.embedded else None
    if generated:
        return f"{page} with the password {generated}\n(shown this once; `python -m app password` makes another)\n"
    if operator_password.exists():
        return f"{page} with the password made before (`python -m app password` makes another).\n"
    return "Nobody can log in as an operator: set OPERATOR_PASSWORD, or run `python -m app password`.\n"
