"""User-facing descriptions of the saga types of an order."""

from collections.abc import Sequence
from dataclasses import dataclass

from flask_babel import lazy_gettext as _

from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.order_orchestration import ORDER, ORDER_PAYMENT_FIRST


@dataclass(frozen=True)
class Way:
    """A saga type: its pattern, its variant, a description, and its steps in order."""

    saga_type: str
    pattern: str
    variant: str
    description: str
    steps: Sequence[str]


WAYS = (
    Way(
        ORDER.name,
        _("Orchestration"),
        _("stock first"),
        _("A coordinator commands each service in turn, and compensates in reverse order if one fails."),
        (_("create"), _("reserve"), _("pay"), _("ship"), _("complete")),
    ),
    Way(
        ORDER_PAYMENT_FIRST.name,
        _("Orchestration"),
        _("payment first"),
        _("The same coordinator, in another order: the money is taken before the books are reserved."),
        (_("create"), _("pay"), _("reserve"), _("ship"), _("complete")),
    ),
    Way(
        ORDER_CHOREOGRAPHY.name,
        _("Choreography"),
        _("no coordinator"),
        _("Each service reacts to the others' events, and decides itself what to do and what to compensate."),
        (_("create"), _("reserve + pay at once"), _("ship when both are done"), _("complete")),
    ),
)
