"""The task that ``bench.quorum`` has a worker run: on a queue of each type, declared as CloudMart declares its own."""

import os
from pathlib import Path

from celery import Celery
from kombu import Queue


def make(queue_type: str, broker_url: str) -> Celery:
    """Return an app whose one queue has, and is called after, a type: a process must not know of the other type."""
    made = Celery("quorum", broker=broker_url)
    made.conf.update(
        task_queues=[Queue(queue_type, queue_arguments={"x-queue-type": queue_type})],
        task_default_queue=queue_type,
        task_acks_late=True,
        task_ignore_result=True,
        broker_transport_options={"confirm_publish": queue_type == "quorum"},
    )
    return made


app = make(os.environ.get("BENCH_QUEUE_TYPE", "classic"), os.environ.get("BENCH_BROKER_URL", "memory://"))


@app.task(name="touch")
def touch(path: str) -> None:
    """Leave a file behind: the sign that the message was handled."""
    Path(path).touch()
