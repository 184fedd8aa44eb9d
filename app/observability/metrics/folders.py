"""The default folder for the metric files of a family of processes."""

import atexit
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder. The client library also reads it whenever it opens a file."""

_PREFIX = "cloudmart-metrics-"


def make_folder() -> Path:
    """Create a folder that is removed when this process, the first of its family, ends; if killed, by the next one.

    Its content is useless by then: the next family counts from 0, as Prometheus expects after a restart.
    """
    _remove_orphaned()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    atexit.register(partial(_remove, folder, os.getpid()))
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child inherits the exit handler
        shutil.rmtree(folder, ignore_errors=True)


def _remove_orphaned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)  # folders of other users stay


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
