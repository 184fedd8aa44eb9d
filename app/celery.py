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

from app import runtime
from app.observability.logging import configure_logging
from app.observability.tracing import processes  # noqa: F401  (traces this process, if it is Celery's, by being imported)
from app.settings import Settings
from app.worker.heartbeat import Heartbeat
from durable_sagas.messaging.serialization import SERIALIZER
from durable_sagas.messaging.tracebacks import be_brief

_REDIS_OPTIONS = {
    # Redis redelivers a killed worker's messages only after this long (default: an hour); a retry's countdown must stay
    # far below it, or Redis would deliver the message several times
    "visibility_timeout": 300,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_connect_timeout": 2,
}

_TRANSPORTS = {
    "memory": "durable_sagas.messaging.transports.memory:Transport",
    "redis": "durable_sagas.messaging.transports.redis:Transport",
    "rediss": "durable_sagas.messaging.transports.redis:Transport",
    "amqp": "durable_sagas.messaging.transports.amqp:Transport",
    "amqps": "durable_sagas.messaging.transports.amqp:TlsTransport",
}


def configuration(settings: Settings) -> dict[str, Any]:
    """Return the Celery configuration for these settings."""
    # Celery warns about a broker URL without a host, and an embedded broker has none
    broker_url = "memory://localhost//" if settings.embedded else settings.broker_url
    scheme = broker_url.partition(":")[0]
    return {
        "broker_url": broker_url,
        "broker_transport_options": _REDIS_OPTIONS if scheme.startswith("redis") else {},
        "broker_transport": _TRANSPORTS[scheme],
        # kombu handles TLS for Redis only with its own transport; options in the URL, such as ssl_ca_certs, take
        # precedence
        "broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED} if scheme == "rediss" else None,
        "broker_connection_retry_on_startup": True,
        # a broker may respond with an error: Redis that is out of memory or has become a replica. The worker then
        # reconnects until it accepts messages; otherwise it would end
        "broker_channel_error_retry": True,
        # a POST must be answered while the broker is down: fail fast; the sweep sends the message later
        "broker_connection_timeout": 2,
        "task_publish_retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.1, "interval_max": 0.2},
        # the log has the outcome of every step; Flower shows replies from the workers' events
        "task_ignore_result": True,
        "task_serializer": SERIALIZER,
        "accept_content": ["json"],
        "task_routes": ("app.sagas:route",),
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_consumer": "app.worker.consumer:ValidatingConsumer",
        # a silently vanished broker is detected within a minute; Celery's default takes four
        "broker_heartbeat": 20,
        "beat_schedule": {
            # no ``expires``: it would be set by the scheduler's clock, and checked by a worker's
            "sweep": {"task": "orchestrator.sweep", "schedule": settings.sweep_seconds}
        },
        # the schedule needs no file: after a restart the next sweep is due at once
        "beat_scheduler": "app.worker.heartbeat:BeatingScheduler",
    }


app: "Celery[Task[Any, Any]]" = Celery(
    "cloudmart", set_as_current=True, include=["workflows", "app.observability.metrics.registry"]
)
app.add_defaults(lambda: configuration(runtime.current().settings))
app.steps["consumer"].add(Heartbeat)


@setup_logging.connect
def _log_as_the_rest(**_: object) -> None:
    settings = runtime.current().settings
    configure_logging(settings.log_level, settings.log_format)


@before_task_publish.connect
def _set_sent_at(headers: dict[str, Any], **_: object) -> None:
    # used to measure how long the message waited: see app.observability.metrics
    headers["sent_at"] = time.time()


@worker_process_init.connect
def _init_pool_process(sender: str | None, **_: object) -> None:
    runtime.current().database.forget_connections()  # the inherited ones belong to the parent
    be_brief(app, sender)  # a child of a pool has tracers of its own


@celeryd_init.connect
def _refuse_memory_broker(**_: object) -> None:
    if runtime.current().settings.embedded:
        sys.exit("A worker of its own needs a broker that it can share: set BROKER_URL to amqp://… or redis://…")
