"""The Celery app: queues, routes and delivery settings.

The database's log is authoritative; a message only triggers a check of it. So every setting prefers duplicate delivery
over loss, and none has to be perfect: the recovery sweep sends again.
"""

import ssl
import sys
import time
from typing import Any

from celery import Celery, Task
from celery.signals import before_task_publish, celeryd_init, setup_logging, worker_process_init
from kombu import Queue

from app import runtime
from app.heartbeat import Heartbeat
from app.messaging.serialization import SERIALIZER
from app.messaging.tracebacks import be_brief
from app.observability.logging import configure_logging, log_context
from app.observability.tracing import processes  # noqa: F401  (traces this process, if it is Celery's, by being imported)
from app.settings import Settings

QUEUES = ("orders", "inventory", "payments", "shipping", "notifications", "orchestrator")
DEFAULT_QUEUE = "orchestrator"

_TRANSPORT_OPTIONS: dict[str, dict[str, Any]] = {
    # Redis redelivers a killed worker's messages only after this long (default: an hour); a retry's countdown must stay
    # far below it, or Redis would deliver the message several times
    "redis": {
        "visibility_timeout": 300,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 2,
    },
}

_TRANSPORTS = {
    "memory": "app.messaging.transports.memory:Transport",
    "redis": "app.messaging.transports.redis:Transport",
    "rediss": "app.messaging.transports.redis:Transport",
    "amqp": "app.messaging.transports.amqp:Transport",
    "amqps": "app.messaging.transports.amqp:TlsTransport",
    "pyamqp": "app.messaging.transports.amqp:Transport",
}


def queue_of(task_name: str) -> str:
    """Return the queue of a task: the service before the dot, as in ``inventory.reserve_stock``."""
    return task_name.partition(".")[0]


def route_of(task_name: str) -> str:
    """Return the queue that a task is sent to: its service's, or the default queue if it has none."""
    return queue_of(task_name) if queue_of(task_name) in QUEUES else DEFAULT_QUEUE


def _route(name: str, *_: object, **__: object) -> dict[str, str]:
    return {"queue": route_of(name)}


def configuration(settings: Settings) -> dict[str, Any]:
    """Return the Celery configuration for these settings."""
    # Celery warns about a broker URL without a host, and an embedded broker has none
    broker_url = "memory://localhost//" if settings.embedded else settings.broker_url
    scheme = broker_url.partition(":")[0].replace("rediss", "redis")
    return {
        "broker_url": broker_url,
        "broker_transport_options": _TRANSPORT_OPTIONS.get(scheme, {}),
        "broker_transport": _TRANSPORTS.get(broker_url.partition(":")[0]),
        # kombu handles TLS for Redis only with its own transport; options in the URL, such as ssl_ca_certs, take
        # precedence
        "broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED} if broker_url.startswith("rediss:") else None,
        "broker_connection_retry_on_startup": True,
        # a broker may respond with an error: Redis that is out of memory or has become a replica. The worker then
        # reconnects until it accepts messages; otherwise it would end
        "broker_channel_error_retry": True,
        # a POST must be answered while the broker is down: give up soon, the sweep sends what was not sent
        "broker_connection_timeout": 2,
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
        # the log has the outcome of every step; Flower shows replies from the workers' events
        "task_ignore_result": True,
        # a message of a worker killed before the ack is redelivered to another; if only a child of a pool is killed the
        # message counts as failed, and the sweep re-drives the step
        "task_acks_late": True,
        # True would requeue a message that kills its worker for ever
        "task_reject_on_worker_lost": False,
        "task_serializer": SERIALIZER,
        "accept_content": ["json"],
        "task_queues": [Queue(name) for name in QUEUES],
        "task_default_queue": DEFAULT_QUEUE,
        "task_routes": (_route,),
        "task_eager_propagates": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": True,
        "worker_consumer": "app.messaging.consumer:Inbox",
        # a silently vanished broker is detected within a minute; Celery's default takes four
        "broker_heartbeat": 20,
        "beat_schedule": {
            # no ``expires``: it would be set by the scheduler's clock, and checked by a worker's
            "sweep": {"task": "orchestrator.sweep", "schedule": settings.sweep_seconds}
        },
        # the schedule needs no file: after a restart the next sweep is due at once
        "beat_scheduler": "app.heartbeat:BeatingScheduler",
    }


class LoggedTask(Task[Any, Any]):
    """A task whose log lines carry its task id and its saga's id."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task."""
        saga = {"saga_id": kwargs["saga_id"]} if "saga_id" in kwargs else {}
        # Celery's own __call__ gives the task a copy of its request, on which a step could not end its chain; only its
        # worker command avoids that, and the embedded worker does not run it
        call = super().__call__ if self.request.called_directly else self.run
        with log_context(task_id=self.request.id, **saga):
            return call(*args, **kwargs)


app: "Celery[Task[Any, Any]]" = Celery(
    "cloudmart",
    set_as_current=True,
    task_cls=LoggedTask,
    include=["workflows", "app.saga.recovery", "app.observability.metrics.exporter"],
)
app.add_defaults(lambda: configuration(runtime.current().settings))
app.steps["consumer"].add(Heartbeat)


@setup_logging.connect
def _log_as_the_rest(**_: object) -> None:
    settings = runtime.current().settings
    configure_logging(settings.log_level, settings.log_format)


@before_task_publish.connect
def _say_when_it_was_sent(headers: dict[str, Any], **_: object) -> None:
    # used to measure how long the message waited: see app.observability.metrics
    headers["sent_at"] = time.time()


@worker_process_init.connect
def _begin_in_a_pool(sender: str | None, **_: object) -> None:
    runtime.current().database.forget_connections()  # the inherited ones belong to the parent
    be_brief(app, sender)  # a child of a pool has tracers of its own


@celeryd_init.connect
def _refuse_memory_broker(**_: object) -> None:
    if runtime.current().settings.embedded:
        sys.exit("A worker of its own needs a broker that it can share: set BROKER_URL to amqp://… or redis://…")
