"""Start counting in a process, and export its metrics together with those of its siblings."""

import logging
import os
import threading
from pathlib import Path

from celery.signals import task_prerun
from prometheus_client import CollectorRegistry, values

from app import runtime
from app.observability.metrics.multiprocess import FOLDER, SlotCollector, Slots
from app.sagas import sagas
from durable_sagas.metrics import SagaMetrics

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_counts: SagaMetrics | None = None
_folder: Path | None = None


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
