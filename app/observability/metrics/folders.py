"""The folder in which a family of processes counts, where nobody has named one."""

import atexit
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names it. The client library reads it, too, whenever it opens a file."""

_PREFIX = "cloudmart-metrics-"


def make_folder() -> Path:
    """Make one that is removed when this process, the first of its family, ends; or by the next one, if it is killed.

    What it holds is of no use any more then: the next family counts from 0, as Prometheus expects of one that restarts.
    """
    _remove_those_of_the_dead()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    atexit.register(partial(_remove, folder, os.getpid()))
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child inherits what is to be done at exit
        shutil.rmtree(folder, ignore_errors=True)


def _remove_those_of_the_dead() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)  # another user's stays


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
