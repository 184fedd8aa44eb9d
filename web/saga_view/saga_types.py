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
    says: str
    steps: Sequence[str]


WAYS = (
    Way(
        ORDER.name,
        _("Orchestration"),
        _("stock first"),
        _("A conductor tells each service what to do, one after the other, and undoes it all in reverse if one fails."),
        (_("create"), _("reserve"), _("pay"), _("ship"), _("complete")),
    ),
    Way(
        ORDER_PAYMENT_FIRST.name,
        _("Orchestration"),
        _("payment first"),
        _("The same conductor in another order: the money is taken before the books are reserved."),
        (_("create"), _("pay"), _("reserve"), _("ship"), _("complete")),
    ),
    Way(
        ORDER_CHOREOGRAPHY.name,
        _("Choreography"),
        _("nobody conducts"),
        _("Each service listens to the others' events and knows itself what to do, and what to undo."),
        (_("create"), _("reserve + pay at once"), _("ship when both are done"), _("complete")),
    ),
)
