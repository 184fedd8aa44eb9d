"""A worker's ``/metrics``, served by its main process for all of its pool."""

import logging
import os
from socketserver import TCPServer

from celery.signals import worker_init, worker_process_init
from prometheus_client import start_http_server

from app import runtime
from app.observability.metrics import registry
from app.observability.metrics.multiprocess import make_folder

logger = logging.getLogger(__name__)

_server: TCPServer | None = None
_owner = 0


@worker_init.connect
def start(**_: object) -> None:
    """Start counting before the pool forks, and serving before the broker is connected, which it may not be."""
    current = runtime.current()
    if current.settings.embedded:
        return  # the web does both in the same process
    if current.settings.metrics_port and current.settings.prometheus_multiproc_dir is None:
        current.settings = current.settings.but(prometheus_multiproc_dir=make_folder())
    if current.settings.prometheus_multiproc_dir:
        registry.start()
    if current.settings.metrics_port:
        serve(current.settings.metrics_host, current.settings.metrics_port)


def serve(host: str, port: int) -> None:
    """Serve in a background thread; if the address cannot be used, log that and continue: messages matter more."""
    global _server, _owner
    try:
        _server, _ = start_http_server(port, host, registry.registry())
    except OSError as error:
        reason = {"reason": error.strerror or error}
        logger.error(f"no metrics are served: METRICS_HOST={host}, METRICS_PORT={port} cannot be used", extra=reason)
        return
    _owner = os.getpid()
    logger.info(f"metrics are served on port {port}")


@worker_process_init.connect
def close_inherited_port(**_: object) -> None:
    """Close the inherited port in a child of the pool: an orphaned child would block it for the next worker."""
    if _server and os.getpid() != _owner:
        _server.server_close()
