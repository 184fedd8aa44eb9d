"""The scenarios that people can play: what is ordered, what breaks, and where it must end, in each kind of saga."""

from dataclasses import dataclass, field

from app.saga.definition import COMPENSATION_STARTED, COMPLETED, FAILED, STARTED, SagaStatus
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.order_orchestration import ORDER, ORDER_CREATED, ORDER_PAYMENT_FIRST, PAYMENT_COMPLETED, STOCK_RESERVED
from workflows.orders import Item, NewOrder, Pattern

SAGA_TYPES = (ORDER.name, ORDER_PAYMENT_FIRST.name, ORDER_CHOREOGRAPHY.name)

# the milestones of each kind of saga, in their order; nobody passes more than the first of a choreographed order
_MILESTONES = {
    ORDER.name: (ORDER_CREATED, STOCK_RESERVED, PAYMENT_COMPLETED),
    ORDER_PAYMENT_FIRST.name: (ORDER_CREATED, PAYMENT_COMPLETED, STOCK_RESERVED),
    ORDER_CHOREOGRAPHY.name: (ORDER_CREATED,),
}

# the milestone that is not reached any more if something fails
_MISSED = {"stock": STOCK_RESERVED, "payment": PAYMENT_COMPLETED, "shipping": COMPLETED}


@dataclass(frozen=True)
class Scenario:
    """A story, mostly of a seed: what is ordered, what breaks, and where it must end.

    ``fails_at`` is what makes it turn back: stock, payment or shipping; None if nothing does. ``in_stock`` is whether
    its books must be there. A ``stuck`` one waits for a person half-way back.
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
        """Where its saga comes to rest."""
        if self.fails_at is None:
            return SagaStatus.COMPLETED
        return SagaStatus.STUCK if self.stuck else SagaStatus.COMPENSATED

    def states(self, saga_type: str) -> list[str]:
        """Return the states that it passes, as seed 002 names them."""
        milestones = _MILESTONES[saga_type]
        if self.fails_at is None:
            return [STARTED, *milestones, COMPLETED]
        missed = _MISSED[self.fails_at]
        reached = milestones[: milestones.index(missed)] if missed in milestones else milestones
        return [STARTED, *reached, COMPENSATION_STARTED, *([] if self.stuck else [FAILED])]

    def order(self, saga_type: str) -> NewOrder:
        """Return the request that plays it in a kind of saga."""
        choreographed = saga_type == ORDER_CHOREOGRAPHY.name
        return NewOrder(
            items=self.items,
            pattern=Pattern.CHOREOGRAPHY if choreographed else Pattern.ORCHESTRATION,
            saga_type=None if choreographed else saga_type,
            simulate=tuple(self.breaks.items()),
        )


# a book of which there are many, so that the story can be played often
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
