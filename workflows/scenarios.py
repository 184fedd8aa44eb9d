"""The scenarios of the demo and the Learn page: order, injected faults, and the expected outcome per saga type."""

from dataclasses import dataclass, field

from durable_sagas.definition import COMPENSATION_STARTED, COMPLETED, FAILED, STARTED, SagaStatus
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.order_orchestration import ORDER, ORDER_CREATED, ORDER_PAYMENT_FIRST, PAYMENT_COMPLETED, STOCK_RESERVED
from workflows.orders import Item, NewOrder, Pattern

SAGA_TYPES = (ORDER.name, ORDER_PAYMENT_FIRST.name, ORDER_CHOREOGRAPHY.name)

# the milestones of each saga type, in order; a choreographed order has only the first before it ends
_MILESTONES = {
    ORDER.name: (ORDER_CREATED, STOCK_RESERVED, PAYMENT_COMPLETED),
    ORDER_PAYMENT_FIRST.name: (ORDER_CREATED, PAYMENT_COMPLETED, STOCK_RESERVED),
    ORDER_CHOREOGRAPHY.name: (ORDER_CREATED,),
}

# the first milestone that is no longer reached, by what fails
_MISSED = {"stock": STOCK_RESERVED, "payment": PAYMENT_COMPLETED, "shipping": COMPLETED}


@dataclass(frozen=True)
class Scenario:
    """A scenario, in most cases from a seed: the order, the injected faults, and the expected outcome.

    ``fails_at`` is the step that starts compensation: stock, payment or shipping; None if the order completes.
    ``in_stock`` is whether its books must be in stock. A ``stuck`` one needs an operator during compensation.
    """

    name: str
    title: str
    items: tuple[Item, ...]
    breaks: dict[str, str] = field(default_factory=dict)
    fails_at: str | None = None
    in_stock: bool = True
    stuck: bool = False

    @property
    def ends(self) -> SagaStatus:
        """The status in which its saga ends, or is stuck."""
        if self.fails_at is None:
            return SagaStatus.COMPLETED
        return SagaStatus.STUCK if self.stuck else SagaStatus.COMPENSATED

    def states(self, saga_type: str) -> list[str]:
        """Return the states that its saga passes through, in seed 002's terms."""
        milestones = _MILESTONES[saga_type]
        if self.fails_at is None:
            return [STARTED, *milestones, COMPLETED]
        missed = _MISSED[self.fails_at]
        reached = milestones[: milestones.index(missed)] if missed in milestones else milestones
        return [STARTED, *reached, COMPENSATION_STARTED, *([] if self.stuck else [FAILED])]

    def order(self, saga_type: str) -> NewOrder:
        """Return the request that runs the scenario with a saga type."""
        choreographed = saga_type == ORDER_CHOREOGRAPHY.name
        return NewOrder(
            items=self.items,
            pattern=Pattern.CHOREOGRAPHY if choreographed else Pattern.ORCHESTRATION,
            saga_type=None if choreographed else saga_type,
            simulate=tuple(self.breaks.items()),
        )


# a book with a large stock, so that the scenarios can be run often
_ANY = (Item("item-001", 1),)

SCENARIOS = (
    Scenario("success", "success (002)", _ANY),
    Scenario("out-of-stock", "out of stock (002)", (Item("book-456", 1),), fails_at="stock", in_stock=False),
    Scenario("payment-declined", "payment declined (002)", (Item("book-789", 1),), {"payments": "decline"}, "payment"),
    Scenario("carrier-failure", "carrier failure (002)", (Item("book-789", 1),), {"shipping": "decline"}, "shipping"),
    Scenario("retried", "transient faults, retried (002, 003)", _ANY, {"inventory": "fail:2", "payments": "fail:1"}),
    Scenario("answer-lost", "a charge whose answer is lost (002)", _ANY, {"payments": "timeout"}, "payment"),
    Scenario("hanging", "a service that hangs (000, 002)", _ANY, {"payments": "hang"}, "payment"),
    Scenario("several-items", "success, several items (000)", (Item("item-001", 2), Item("product-1", 3))),
    Scenario("refused-amount", "payment of 999999 declined (000)", (Item("book-999999", 1),), fails_at="payment"),
    Scenario(
        "stuck",
        "a refund that fails for good",
        _ANY,
        {"shipping": "decline", "payments": "undo-fail:9"},
        "shipping",
        stuck=True,
    ),
)


def named(name: str) -> Scenario | None:
    """Return the scenario of this name, or None."""
    return next((scenario for scenario in SCENARIOS if scenario.name == name), None)
