"""Describe what skipping a step records in this shop, and what it assumes without verification."""

from collections.abc import Sequence
from dataclasses import dataclass

from flask_babel import lazy_gettext as _

from durable_sagas.definition import Operation


@dataclass(frozen=True)
class ManualConsequence:
    """What is recorded in this shop's own tables, and what is assumed without verification (None if nothing)."""

    recorded: str
    assumed: str | None


_CONSEQUENCES = {
    ("create_order", Operation.COMPENSATION): ManualConsequence(
        _("The order is cancelled here, and the customer is notified. Nothing else has to be done manually."), None
    ),
    ("reserve_stock", Operation.COMPENSATION): ManualConsequence(
        _(
            "All copies that are still reserved for the order are released here and are available again. "
            "Do not also return them manually, or they are counted twice."
        ),
        None,
    ),
    ("process_payment", Operation.COMPENSATION): ManualConsequence(
        _("The payment is recorded here as refunded, or as cancelled if no charge was recorded."),
        _(
            "That the customer has the money. The payment provider is not asked, and nothing is refunded "
            "from here: its own records stay unchanged."
        ),
    ),
    ("process_payment", Operation.ACTION): ManualConsequence(
        _("The payment is recorded here as failed, and the other services are notified."),
        _("That the payment provider has taken no money for this order, or has refunded it. It is not asked."),
    ),
    ("arrange_shipping", Operation.COMPENSATION): ManualConsequence(
        _("The shipment is recorded here as cancelled."),
        _("That the carrier will fetch no parcel. The carrier is not notified, and its own records stay unchanged."),
    ),
    ("arrange_shipping", Operation.ACTION): ManualConsequence(
        _("The shipment is recorded here as failed, and the other services are notified."),
        _("That the carrier will fetch no parcel for this order. It is not asked."),
    ),
}

_UNKNOWN = ManualConsequence(
    _("Your confirmation: the step counts as resolved manually."),
    _("All of it: nothing else is recorded or requested from here."),
)


def consequences(step: str, exhausted: Sequence[Operation]) -> list[ManualConsequence]:
    """Return the consequences of skipping a step; ``exhausted`` are its operations whose retries are exhausted."""
    return [_CONSEQUENCES.get((step, operation), _UNKNOWN) for operation in exhausted]
