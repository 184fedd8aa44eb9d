"""Archive pruned orders in a file of JSON lines, each an order with all its rows."""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from app.errors import ArchiveError

TAIL_BYTES = 1 << 20
"""The size of a chunk in the backward search for the end of the last complete line."""


class Archive:
    """An append-only file, locked until the ``with`` block ends; every record is synced to disk before ``add`` returns.

    Opening raises ArchiveError if the file cannot be written, is no archive, or is locked by another process. An
    incomplete last line, left by a crash, is cut off: its order had not been deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # owner only: it contains customers' addresses
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ArchiveError(f"{path} cannot be written: {error.strerror}") from error
        try:
            self._take()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        """Return the open archive."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        os.close(self._file)

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append a line per record and sync them to disk. Raises OSError if that fails."""
        rest = memoryview("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records).encode())
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)

    def _take(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = os.fstat(self._file).st_size
            whole = self._whole_lines(size)
            if size and not self._is_ours(whole):
                raise ArchiveError(f"{self.path} is no archive of orders: its lines are not what prune writes")
            if whole < size:
                os.ftruncate(self._file, whole)
            os.fsync(self._file)
            self._sync_folder()
        except BlockingIOError as error:
            raise ArchiveError(f"{self.path} is being written by another prune") from error
        except OSError as error:
            raise ArchiveError(f"{self.path} cannot be an archive: {error.strerror}") from error

    def _whole_lines(self, size: int) -> int:
        """Return the offset of the end of the last complete line."""
        end = size
        while end > 0:
            start = max(0, end - TAIL_BYTES)
            newline = os.pread(self._file, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def _is_ours(self, whole: int) -> bool:
        """Return whether the file begins with a record, or with the incomplete one that a crash left."""
        if not whole:
            begins = b'{"saga_id": "'
            return begins.startswith(os.pread(self._file, len(begins), 0))
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            try:
                first = json.loads(file.readline())
            except ValueError:
                return False
        return isinstance(first, dict) and {"saga_id", "order_id", "rows"} <= first.keys()

    def _sync_folder(self) -> None:
        # a new file's directory entry is only durable once the directory has been synced
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
