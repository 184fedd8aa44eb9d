"""Sending messages: always after a commit, and never a reason to fail.

What was committed stands whether or not the broker takes the message. One that could not be sent is logged and
sent again by the recovery sweep, which reads from the log what is missing.
"""

import logging
from collections.abc import Sequence
from typing import Any

from celery import chain
from celery.canvas import Signature
from kombu.exceptions import OperationalError

from app.celery import app
from app.errors import StepFailed

logger = logging.getLogger(__name__)


def send(task_name: str, *, saga_id: str, task_id: str | None = None, **arguments: str) -> bool:
    """Send one task of a saga to its queue; returns whether the broker took it."""
    return _publish(_signature(task_name, saga_id, **arguments), saga_id, task_id=task_id)


def send_chain(task_names: Sequence[str], *, saga_id: str, on_error: str | None = None) -> bool:
    """Send tasks of a saga to run one after the other; returns whether the broker took the first.

    ``on_error`` names the task that Celery calls when one of them fails.
    """
    tasks = chain(*(_signature(name, saga_id) for name in task_names))
    # immutable, so that it is sent as a task: an errback that takes the error would run inside the failing process
    options: dict[str, Any] = {"link_error": _signature(on_error, saga_id)} if on_error else {}
    return _publish(tasks, saga_id, **options)


def _signature(task_name: str, saga_id: str, **arguments: str) -> Signature:
    # the saga id as a keyword argument too: Flower searches arguments, not root ids
    return app.signature(task_name, kwargs={"saga_id": saga_id, **arguments}, immutable=True)


def _publish(signature: Signature, saga_id: str, **options: Any) -> bool:
    try:
        signature.apply_async(root_id=saga_id, **options)
    except OperationalError as error:
        logger.warning("message not sent, the sweep will", extra={"saga_id": saga_id, "reason": error})
        return False
    except StepFailed:
        # only in eager mode, where the chain has run in here; its error callback has been called
        logger.debug("eager chain ended early", extra={"saga_id": saga_id})
    return True
