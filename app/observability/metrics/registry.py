"""Start counting in a process, and export its metrics together with those of its siblings; a worker serves them."""

import logging
import os
import threading
from pathlib import Path
from socketserver import TCPServer

from celery.signals import task_prerun, worker_init, worker_process_init
from prometheus_client import CollectorRegistry, start_http_server, values

from app import runtime
from app.observability.metrics.multiprocess import FOLDER, SlotCollector, Slots, make_folder
from app.sagas import sagas
from durable_sagas.metrics import SagaMetrics

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_counts: SagaMetrics | None = None
_folder: Path | None = None

_server: TCPServer | None = None
_owner = 0


def start() -> None:
    """Start counting, after all sagas are declared: in the configured folder, else in this process only.

    If the folder cannot be used, that is logged and nothing is counted: orders matter more than metrics.
    """
    global _counts, _folder
    with _lock:
        if _counts:
            return
        folder = runtime.current().settings.prometheus_multiproc_dir
        try:
            if folder:
                _count_in_folder(folder.absolute())
            counts = SagaMetrics(sagas)
        except OSError as error:
            logger.error(f"nothing is counted: {FOLDER}={folder} cannot be used", extra={"reason": error})
            return
        _counts, _folder = counts, folder
    sagas.signals.connect(counts.count)
    sagas.admission.on_refusal(counts.count_refusal)
    task_prerun.connect(counts.time_wait, weak=False)


def registry() -> CollectorRegistry:
    """Return the metrics of this process, or of all that count in its folder."""
    if _counts is None:
        return CollectorRegistry()
    if _folder is None:
        return _counts.registry
    combined = CollectorRegistry()
    SlotCollector(_folder.absolute(), combined)
    return combined


def _count_in_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue(Slots(folder))  # type: ignore[no-untyped-call]  # it has no types


@worker_init.connect
def _start_in_worker(**_: object) -> None:
    # counting before the pool forks, and serving before the broker is connected, which it may not be
    current = runtime.current()
    if current.settings.embedded:
        return  # the web does both in the same process
    if current.settings.metrics_port and current.settings.prometheus_multiproc_dir is None:
        current.settings = current.settings.but(prometheus_multiproc_dir=make_folder())
    if current.settings.prometheus_multiproc_dir:
        start()
    if current.settings.metrics_port:
        serve(current.settings.metrics_host, current.settings.metrics_port)


def serve(host: str, port: int) -> None:
    """Serve ``/metrics`` in a background thread, for all of a worker's pool.

    If the address cannot be used, log that and continue: messages matter more.
    """
    global _server, _owner
    try:
        _server, _ = start_http_server(port, host, registry())
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
