"""The order workflow in both saga patterns, over the same services.

Importing this package registers every workflow and its Celery tasks.
"""

import app.saga.change_feed  # noqa: F401  (publishes changes of sagas from every process that imports workflows)
from workflows import order_choreography, order_notifications, order_orchestration
from workflows.operations import operator_password

__all__ = ["operator_password", "order_choreography", "order_notifications", "order_orchestration"]
