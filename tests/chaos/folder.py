"""The folder of a run."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder_for_servers(*, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Make a temporary folder that other users may enter, for PostgreSQL may have to run as one.

    It is removed at the end unless ``keep`` says otherwise by then.
    """
    folder = Path(tempfile.mkdtemp(prefix="cloudmart-chaos-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if not keep():
            shutil.rmtree(folder)
