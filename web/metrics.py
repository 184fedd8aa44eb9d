"""Serve Prometheus metrics: the counters of the processes, and gauges of database and queues."""

from flask import Flask, Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from app.observability.metrics import registry
from web import problems
from workflows.operations.gauges import Gauges

EXTENSION = "gauges"
DESCRIBED = {
    "description": "Every metric that docs/reference/metrics.md lists.",
    "content": {"text/plain": {"schema": {"type": "string"}, "example": 'saga_stuck{type="order"} 0.0\n'}},
}

api = APIBlueprint(
    "metrics", __name__, abp_tags=[Tag(name="Health", description="For administrators and load balancers.")]
)


def register(app: Flask) -> None:
    """Start the counters of this process, and create the gauges; all sagas must be declared."""
    app.extensions[EXTENSION] = Gauges()
    registry.start()


@api.get("/metrics", responses={200: DESCRIBED, **problems.responses()})
def show() -> Response:
    """Return the metrics for Prometheus. Keep them from the public: they reveal business figures."""
    gauges: Gauges = current_app.extensions[EXTENSION]
    body = generate_latest(registry.registry()) + generate_latest(gauges.registry)
    return Response(body, content_type=CONTENT_TYPE_PLAIN_0_0_4)
