"""How things are, as Prometheus reads them: what the processes have counted, and how database and queues stand."""

from flask import Flask, Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from app.observability.metrics import registry
from app.observability.metrics.gauges import Gauges
from web import problems

EXTENSION = "gauges"
DESCRIBED = {
    "description": "Every metric that docs/metrics.md lists.",
    "content": {"text/plain": {"schema": {"type": "string"}, "example": 'saga_stuck{type="order"} 0.0\n'}},
}

api = APIBlueprint("metrics", __name__, abp_tags=[Tag(name="Health", description="For whoever runs the process.")])


def register(app: Flask) -> None:
    """Begin to count in this process, whose sagas are all declared."""
    app.extensions[EXTENSION] = Gauges()
    registry.start()


@api.get("/metrics", responses={200: DESCRIBED, **problems.responses()})
def show() -> Response:
    """Give Prometheus the metrics. To be kept from the public: they tell how the business goes."""
    gauges: Gauges = current_app.extensions[EXTENSION]
    body = generate_latest(registry.registry()) + generate_latest(gauges.registry)
    return Response(body, content_type=CONTENT_TYPE_PLAIN_0_0_4)
