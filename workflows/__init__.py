"""The same services wired in two ways, side by side. Importing this package declares every workflow and its tasks."""

import app.saga.change_feed  # noqa: F401  (whoever moves sagas announces it)
from workflows import order_choreography, order_notifications, order_orchestration
from workflows.operations import operator_password

__all__ = ["operator_password", "order_choreography", "order_notifications", "order_orchestration"]
