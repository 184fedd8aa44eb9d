"""The domain's enums as GraphQL enums; import them from here, so that each is declared before it is used."""

import strawberry

from durable_sagas.definition import CancelDecision, Operation, SagaStatus, StepStatus
from tasks.orders import OrderStatus
from tasks.payments import PaymentMethod, PaymentStatus
from tasks.shipping import ShipmentStatus
from workflows.orders import Pattern

__all__ = [
    "CancelDecision",
    "Operation",
    "OrderStatus",
    "Pattern",
    "PaymentMethod",
    "PaymentStatus",
    "SagaStatus",
    "ShipmentStatus",
    "StepStatus",
]

for _enum in [globals()[name] for name in __all__]:
    strawberry.enum(_enum, description=_enum.__doc__)
