"""What the chaos' workers load besides the app: one log line for every delivery of a saga's message.

Celery keeps the broker's word on whether it has delivered a message before; nothing else does.
"""

import logging
from typing import Any

from celery import Task
from celery.signals import task_prerun

logger = logging.getLogger(__name__)


@task_prerun.connect
def note_delivery(task: "Task[Any, Any]", kwargs: dict[str, Any], **_: object) -> None:
    """Log which message of which saga was delivered, which retry it is, and whether the broker says "again"."""
    if "saga_id" in kwargs:
        again = int(bool((task.request.delivery_info or {}).get("redelivered")))
        key = f"{kwargs['saga_id']}/{task.name}/{kwargs.get('event_id', '')}/{task.request.retries}"
        logger.info("delivered %s redelivered=%d", key, again)
