"""Describe what skipping a step records in this shop, and what it assumes without verification."""

from collections.abc import Sequence
from dataclasses import dataclass

from flask_babel import lazy_gettext as _

from app.saga.definition import Operation


@dataclass(frozen=True)
class Consequence:
    """What is recorded in this shop's own tables, and what is assumed without verification (None if nothing)."""

    recorded: str
    assumed: str | None


_CONSEQUENCES = {
    ("create_order", Operation.COMPENSATION): Consequence(
        _("The order is cancelled here, and the customer is told. Nothing else has to be done by hand."), None
    ),
    ("reserve_stock", Operation.COMPENSATION): Consequence(
        _(
            "All copies that are still reserved for the order are released here and are available again. "
            "Do not book them back by hand as well, or they are counted twice."
        ),
        None,
    ),
    ("process_payment", Operation.COMPENSATION): Consequence(
        _("The payment is recorded here as refunded, or as cancelled if no charge was recorded."),
        _(
            "That the customer has the money. The payment provider is not asked, and nothing is paid back from here: "
            "its own books stay as they are."
        ),
    ),
    ("process_payment", Operation.ACTION): Consequence(
        _("The payment is recorded here as failed, and the other services hear of it."),
        _("That the payment provider has taken no money for this order, or that it was paid back. It is not asked."),
    ),
    ("arrange_shipping", Operation.COMPENSATION): Consequence(
        _("The shipment is recorded here as cancelled."),
        _("That the carrier will fetch no parcel. The carrier is not told, and its own books stay as they are."),
    ),
    ("arrange_shipping", Operation.ACTION): Consequence(
        _("The shipment is recorded here as failed, and the other services hear of it."),
        _("That the carrier will fetch no parcel for this order. It is not asked."),
    ),
}

_UNKNOWN = Consequence(
    _("Your word: the step counts as undone by hand."), _("All of it: nothing else is written or asked from here.")
)


def consequences(step: str, exhausted: Sequence[Operation]) -> list[Consequence]:
    """Return the consequences of skipping a step; ``exhausted`` are its operations whose retries are exhausted."""
    return [_CONSEQUENCES.get((step, operation), _UNKNOWN) for operation in exhausted]
