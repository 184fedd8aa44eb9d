"""``python -m app prune``: what is refused before anything is deleted, and how it ends."""

import fcntl
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from app.runtime import Runtime
from tests.testkit.client import Typed
from tests.testkit.orders import OLD_ORDERS, saga_ids
from workflows.operations import retention
from workflows.operations.retention import Batch


@pytest.fixture
def prune(typed: Typed) -> Typed:
    return partial(typed, "prune")


def test_an_age_that_is_none_is_refused_with_what_would_be_one(prune: Typed) -> None:
    for age in ("", "90", "d", "-1d", "0d", "59m", "0h", "1.5d", "90 d", "forever", "36501d", "९d"):
        refused = prune("--older-than", age)
        assert refused.exit_code == 2, age
        assert "must be an age of 1h to 36500d, such as 90d, 12h or 8w" in refused.output
    for arguments in ([], ["--older-than"], ["--older-than", "90d", "--batch", "0"]):
        assert prune(*arguments).exit_code == 2


@pytest.mark.usefixtures("old")
def test_a_dry_run_only_counts_and_the_other_says_what_it_did(prune: Typed, here: Runtime) -> None:
    counted = prune("--older-than", "90d", "--dry-run")

    assert counted.exit_code == 0
    assert re.match(rf"{OLD_ORDERS} orders ended before 2\d\d\d-.* UTC, and would go\.", counted.output)
    assert len(saga_ids(here)) == OLD_ORDERS
    done = prune("--older-than", "14w", "--batch", "20")

    assert done.exit_code == 0
    last = done.output.splitlines()[-1]  # a slow machine says how far it is, before
    assert re.fullmatch(rf"{OLD_ORDERS} orders \(\d+ rows\) deleted in \d batches, and that was all\.", last)
    assert prune("--older-than", "14w").output == "0 orders (0 rows) deleted in 0 batches, and that was all.\n"


def test_a_file_that_is_something_else_is_left_as_it_is(prune: Typed, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    for content in ("some notes\n", "[1]\n", '{"a": 1}\n', "\n", '{"saga_id": 5}\n{"saga', "\0"):
        path.write_text(content)
        refused = prune("--older-than", "90d", "--archive", path)
        assert refused.exit_code == 2
        assert "Nothing was deleted" in refused.output
        assert "is no archive of orders" in refused.output
        assert path.read_text() == content
    path.write_text("{")  # as a crash may have left it
    assert prune("--older-than", "90d", "--archive", path).exit_code == 0


@pytest.mark.usefixtures("old")
def test_a_file_that_cannot_be_written_is_said_before_anything_is_deleted(
    prune: Typed, here: Runtime, tmp_path: Path
) -> None:
    for path in (".", "no/such/folder/orders.jsonl", "/proc/orders.jsonl"):
        refused = prune("--older-than", "90d", "--archive", tmp_path / path)

        assert refused.exit_code == 2
        assert "Nothing was deleted" in refused.output
    assert len(saga_ids(here)) == OLD_ORDERS


def test_an_archive_that_another_writes_to_is_said(prune: Typed, tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    with path.open("w") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        refused = prune("--older-than", "90d", "--archive", path)

    assert refused.exit_code == 2
    assert "is being written by another prune" in refused.output


@pytest.mark.usefixtures("old")
def test_an_archive_that_grows_full_deletes_nothing_more(
    prune: Typed, here: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def full(file: int, data: bytes) -> int:
        written.append(data)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return write(file, data)

    write = os.write
    monkeypatch.setattr(os, "write", full)

    ended = prune("--older-than", "90d", "--archive", tmp_path / "orders.jsonl", "--batch", "5")

    assert ended.exit_code == 1
    assert "10 orders (" in ended.output
    assert "The archive could not be written: No space left on device" in ended.output
    assert len(saga_ids(here)) == OLD_ORDERS - 10


def test_ctrl_c_ends_it_at_once_and_says_how_far_it_came(prune: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[Batch]:
        yield Batch(5, 100)
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "prune", interrupted)

    ended = prune("--older-than", "90d")

    assert ended.exit_code == 130
    assert (
        ended.output == "5 orders (100 rows) deleted in 1 batches, then stopped; the same command goes on from here.\n"
    )
