"""The Learn page: run scenarios of the saga pattern, compare the two patterns on real orders, and read more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, make_response, render_template, request
from flask_babel import gettext
from flask_babel import lazy_gettext as _
from werkzeug.wrappers import Response as AnyResponse

from app import runtime
from app.errors import Invalid, NotFound, Overloaded
from durable_sagas.ids import new_id
from web.forms import order_form
from web.pages.shop import redirect_to
from web.saga_view.saga_types import WAYS
from workflows import orders, scenarios
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.order_orchestration import ORDER
from workflows.read_side import comparison, queries
from workflows.scenarios import SAGA_TYPES, SCENARIOS, Scenario

blueprint = Blueprint("learn", __name__, url_prefix="/learn")

BOTH = "both"
BOTH_WAYS = (ORDER.name, ORDER_CHOREOGRAPHY.name)


BLURBS = {
    "success": (_("Everything works"), _("One book is reserved, paid for and shipped. The order is completed.")),
    "out-of-stock": (
        _("Out of stock"),
        _(
            "The limited edition is sold out, and inventory rejects the order. Completed steps are "
            "compensated; nothing is charged."
        ),
    ),
    "payment-declined": (
        _("Payment declined"),
        _("The bank declines. The reservation is released, and the order is cancelled."),
    ),
    "carrier-failure": (
        _("Carrier failure"),
        _(
            "The book is reserved and paid for, but no carrier is available. The payment is refunded, "
            "then the reservation is released."
        ),
    ),
    "retried": (
        _("Faults that pass"),
        _("Inventory fails twice at each of its steps, payments once. Each is retried, and succeeds."),
    ),
    "answer-lost": (
        _("A lost response"),
        _(
            "The bank takes the money, but its response is lost. The outcome is unknown, so the charge "
            "is voided in either case."
        ),
    ),
    "hanging": (
        _("A service that hangs"),
        _(
            "Payments does not respond at all. When the deadline has passed, everything is compensated "
            "without waiting for it."
        ),
    ),
    "several-items": (
        _("Several books"),
        _("Two different books in one order: both are reserved, or neither. Here both are."),
    ),
    "refused-amount": (
        _("A sum no bank pays"),
        _("A book for 999,999: the bank declines it by itself, nothing needs to be broken."),
    ),
    "stuck": (
        _("A refund that fails, too"),
        _("The carrier fails, and then the refund fails again and again. The saga gets stuck and waits for you."),
    ),
}
"""The title and the description of each scenario."""


@dataclass(frozen=True)
class Card:
    """A scenario on the page, and why it cannot run here as specified (None if it can)."""

    scenario: Scenario
    title: str
    description: str
    lacks: str | None

    @property
    def states(self) -> Sequence[tuple[str, list[str]]]:
        """The states that the scenario's saga reaches, by pattern."""
        return [(way.pattern, self.scenario.states(way.saga_type)) for way in WAYS if way.saga_type in BOTH_WAYS]


@blueprint.get("")
def index() -> Response:
    """Show the scenarios, the comparison on the shop's own orders, and further reading on the two patterns."""
    return _page(new_id())


def _page(key: str, overload: Overloaded | None = None) -> Response:
    settings = runtime.current().settings
    page = render_template(
        "learn.html",
        cards={card.scenario.name: card for card in _cards()},
        key=key,
        notice=order_form.overload_message(overload) if overload else None,
        ways=WAYS,
        both_ways=BOTH_WAYS,
        compared={status: pairs for status, pairs in comparison.compare().items() if pairs},
        latest=comparison.LATEST,
        embedded=settings.embedded,
        step_seconds=f"{settings.step_timeout_seconds:g}",
        order_seconds=f"{settings.order_timeout_seconds:g}",
    )
    # not cached, so that the back button also renders a new key: submitting again then places another order
    headers = {"Cache-Control": "no-store"}
    if overload is None:
        return make_response(page, headers)
    return make_response(page, overload.status, headers | {"Retry-After": str(overload.retry_after)})


@blueprint.post("/<name>")
def play(name: str) -> AnyResponse:
    """Place the order of a scenario in one saga type or in both patterns, and redirect to its saga."""
    scenario = scenarios.named(name)
    if scenario is None:
        raise NotFound(f"there is no scenario {name}")
    key = order_form.key_of(request.form)
    way = request.form.get("way", "")
    if way not in (*SAGA_TYPES, BOTH):
        raise Invalid(f"must be one of {', '.join((*SAGA_TYPES, BOTH))}", field="way")
    saga_types = BOTH_WAYS if way == BOTH else (way,)
    try:
        placed = [orders.place(scenario.order(saga_type), f"{key}:{name}:{saga_type}") for saga_type in saga_types]
    except Overloaded as overload:
        # with its key: sending it again places what is missing
        return _page(key, overload)
    return redirect_to(*placed)


def _cards() -> list[Card]:
    named = {item.book_id for scenario in SCENARIOS for item in scenario.items}
    books = queries.books_named(named)
    stock = {book_id: books[book_id].available_stock if book_id in books else 0 for book_id in named}
    return [Card(scenario, *BLURBS[scenario.name], _lacks(scenario, stock)) for scenario in SCENARIOS]


def _lacks(scenario: Scenario, stock: Mapping[str, int]) -> str | None:
    """Return why a scenario would not end here as specified; None if it would."""
    if scenario.breaks and not runtime.current().settings.faults_allowed:
        return str(gettext("Faults are switched off here: FAULT_INJECTION=1 switches them on."))
    short = [item.book_id for item in scenario.items if stock[item.book_id] < item.quantity]
    if scenario.in_stock and short:
        return str(gettext("%(book)s is sold out: take delivery of more in the catalogue.", book=short[0]))
    if not scenario.in_stock and not short:
        return str(gettext("%(book)s has come in: it is not sold out any more.", book=scenario.items[0].book_id))
    return None
