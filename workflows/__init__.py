"""The same services wired in two ways, side by side. Importing this package declares every workflow and its tasks."""

import app.saga.announcing  # noqa: F401  (whoever moves sagas announces it)
from workflows import operator_password, order_choreography, order_notifications, order_orchestration

__all__ = ["operator_password", "order_choreography", "order_notifications", "order_orchestration"]
