"""The order workflow in both saga patterns, over the same services.

Importing this package registers every workflow and its Celery tasks.
"""

from app.sagas import sagas
from workflows import order_choreography, order_notifications, order_orchestration
from workflows.operations import operator_password

QUEUES = sagas.services
"""The queues: one per service, and the orchestrator's."""

__all__ = ["QUEUES", "operator_password", "order_choreography", "order_notifications", "order_orchestration"]
