"""``python -m tests.databases.freezing SAGA_ID``: reserve a saga's stock, and freeze with the stock's row locked."""

import os
import signal
import sys

from sqlalchemy import event

import workflows  # noqa: F401  (declares every task)
from app import runtime
from app.celery import app as celery
from app.celery import configuration


def freeze(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    """Stop this process after the first statement that changes the stock, in the middle of its transaction."""
    if statement.startswith("UPDATE inventory"):
        event.remove(here.database.engine, "after_cursor_execute", freeze)
        os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    here = runtime.current()
    celery.conf.update(configuration(here.settings), task_always_eager=True)
    event.listen(here.database.engine, "after_cursor_execute", freeze)
    result = celery.tasks["inventory.reserve_stock"].apply(kwargs={"saga_id": sys.argv[1]})
    sys.exit(0 if result.successful() else 1)
