"""``python -m app run``: the whole shop in one process."""

import errno
import logging
import signal
import sys
from types import FrameType

import click
from waitress.server import create_server

from app.runtime import Runtime
from cli.embedded import EmbeddedStack
from web import create_app

logger = logging.getLogger(__name__)


def serve(here: Runtime) -> None:
    """Serve web, worker and scheduler until SIGINT or SIGTERM; exits with 2 if the port is taken."""
    settings = here.settings

    def stop(number: int, frame: FrameType | None) -> None:
        here.stopping.set()  # the server waits for its threads, and those of live pages wait for this
        signal.default_int_handler(number, frame)

    try:
        server = create_server(
            create_app(),
            host=settings.host,
            port=settings.port,
            threads=settings.web_threads,
            channel_request_lookahead=1,  # else nothing is read from who has a live page, so not that they hung up
            ident="CloudMart",
        )
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL}:
            raise
        click.echo(f"{settings.host}:{settings.port} cannot be used ({error.strerror}): set HOST or PORT.", err=True)
        sys.exit(2)
    for ending in (signal.SIGINT, signal.SIGTERM):  # a shell has what it starts in the background ignore SIGINT
        signal.signal(ending, stop)
    with EmbeddedStack(here):
        click.echo(_greeting(f"http://{settings.host}:{settings.port}"))
        server.run()  # returns on KeyboardInterrupt
        click.echo("Stopping.")
    server.close()
    here.close()


def _greeting(url: str) -> str:
    return f"""
CloudMart is open: {url}   (Ctrl-C closes it)

Order a book:
  curl -s {url}/api/v1/orders -H 'Content-Type: application/json' \\
    -d '{{"customer_id": "customer-001", "items": [{{"product_id": "book-123", "quantity": 1, "price": 3500}}]}}'

Watch it in the browser, or break it: add "simulate": {{"shipping": "decline"}} and see it undone.
"""
