"""The archive of what is pruned: a file of JSON lines, each an order with everything that there was of it."""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.errors import ArchiveError

TAIL_BYTES = 1 << 20
"""How much is read at a time to find where the last whole line ends."""


class Archive:
    """A file that lines are added to, for as long as the ``with`` block runs; what was added has reached the disk.

    Opening raises ArchiveError: the file cannot be written, is something else, or somebody else writes to it. A
    line that a crash left half written is cut off: what it was to tell of had not been deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # people's addresses are in it
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ArchiveError(f"{path} cannot be written: {error.strerror}") from error
        try:
            self._take()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        """Return the archive, open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        os.close(self._file)

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add a line for each record; returns when they have reached the disk. Raises OSError if they did not."""
        rest = memoryview("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records).encode())
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveError(f"{self.path} is being written by another prune") from error
        except OSError as error:
            raise ArchiveError(f"{self.path} cannot be locked: {error.strerror}") from error
        try:
            size = os.fstat(self._file).st_size
            whole = self._whole_lines(size)
            if size and not self._is_ours(whole):
                raise ArchiveError(f"{self.path} is no archive of orders: its lines are not what prune writes")
            if whole < size:
                os.ftruncate(self._file, whole)
            os.fsync(self._file)
            self._sync_folder()
        except OSError as error:
            raise ArchiveError(f"{self.path} cannot be an archive: {error.strerror}") from error

    def _whole_lines(self, size: int) -> int:
        """Return how many bytes there are up to the end of the last whole line."""
        end = size
        while end > 0:
            start = max(0, end - TAIL_BYTES)
            newline = os.pread(self._file, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def _is_ours(self, whole: int) -> bool:
        """Tell whether the file begins with a record, or with the beginning of one that a crash left."""
        begins = b'{"saga_id": "'
        if not whole:
            found = os.pread(self._file, len(begins), 0)
            return begins.startswith(found)
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            try:
                first = json.loads(file.readline())
            except ValueError:
                return False
        return isinstance(first, dict) and {"saga_id", "order_id", "rows"} <= first.keys()

    def _sync_folder(self) -> None:
        # a new file's name is in its folder, which reaches the disk by itself
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
