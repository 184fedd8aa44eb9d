"""The whole API against its own description: whatever is asked, what is answered is what the document says.

schemathesis makes requests from the OpenAPI document, good ones and bad ones, at the bounds and at random, alone and in
sequences. The run repeats exactly, but for the ids that the server gives.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from schemathesis import Case, CheckContext, Response, engine
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events
from schemathesis.engine.recorder import ScenarioRecorder

from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.shop import OPERATOR_TOKEN
from tests.testkit.web import SEED_ORDER, PlaceUnsent, post

SEED = 20260101
EXAMPLES = 5
KNOWN = 0.3
"""How often an id is one of those made here; schemathesis also takes up those it finds in answers."""

OF_THE_DOMAIN = re.compile(
    r"there is (no|an) (book|customer|category|order) .*"  # what is named does not exist, or does already
    r"|the cursor is not one that this list has given out"
    r"|the (key|order id) was used before, for a different request"
    r"|.* is of the pattern .*, not .*"
    r"|.* calls no gateway that could time out"
    r"|a choreographed order is created with its request.*"
    r"|the total is more than an order may cost.*",
    re.DOTALL,
)
"""Why a request that is right by its schema may still be refused: no schema can say what exists here."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with which simulated faults cost no time, and operators' calls need the token."""
    return settings.but(
        operator_token=OPERATOR_TOKEN,
        step_timeout_seconds=0.05,
        order_timeout_seconds=0.1,
        gateway_timeout_seconds=0.05,
    )


@pytest.fixture
def here(here: Runtime) -> Runtime:
    here.stopping.set()  # what would hang is interrupted at once
    return here


@pytest.fixture
def known(client: FlaskClient, place_unsent: PlaceUnsent) -> dict[str, list[str]]:
    """Ids that exist: books, customers, and orders with their sagas: completed, undone, stuck, and many not begun."""
    stuck = {"shipping": "decline", "payments": "undo-fail:99"}
    placed = []
    for pattern in ("orchestration", "choreography"):
        order = {**SEED_ORDER, "pattern": pattern}
        faults: list[dict[str, str]] = [{}, {"shipping": "decline"}, *[stuck] * 4]
        placed += [post(client, "/api/v1/orders", {**order, "simulate": simulate}) for simulate in faults]
        placed += [place_unsent(order) for _ in range(12)]
    return {
        "books": ["book-123", "item-001", "product-1"],
        "customers": ["customer-123", "user-123"],
        "orders": [order["order_id"] for order in placed],
        "sagas": [order["saga_id"] for order in placed],
    }


def configuration(known: dict[str, list[str]]) -> SchemathesisConfig:
    binding = {"path.order_id": "orders", "path.saga_id": "sagas"}
    binding |= dict.fromkeys(("query.customer_id", "body.customer_id", "body.customerId"), "customers")
    binding |= dict.fromkeys(("body.items[*].product_id", "body.productId", "body.bookId"), "books")
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "auth": {"openapi": {"operator": {"bearer": OPERATOR_TOKEN}}},
            "generation": {"max-examples": EXAMPLES, "deterministic": True},
            "dictionaries": {name: {"values": values} for name, values in known.items()},
            "parameters": {where: {"dictionary": name, "probability": KNOWN} for where, name in binding.items()},
            # 422 is one of our answers to requests that are right by their schema; the check below says which
            # and its question without the token cannot be asked in this process: test_security asks it of every call
            "checks": {"positive_data_acceptance": {"enabled": False}, "ignored_auth": {"enabled": False}},
        }
    )


@schemathesis.check
def good_data_is_refused_only_for_what_no_schema_can_say(
    ctx: CheckContext, response: Response, case: Case[Any]
) -> None:
    """What schemathesis calls positive_data_acceptance, but a 422 is let pass if its reasons are the domain's."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    assert response.status_code not in {400, 405, 406, 413, 415}, response.text
    if response.status_code == 422:
        for error in json.loads(response.content)["errors"]:
            made_bad = "named once" in error["reason"] and names_a_book_twice(case.body)
            assert made_bad or OF_THE_DOMAIN.fullmatch(error["reason"]), error


def names_a_book_twice(body: Any) -> bool:
    """Tell whether a known product id was put into a body that had been made with a book id."""
    items = body.get("items", [body])
    pairs = [(item.get("product_id", item.get("productId")), item.get("book_id", item.get("bookId"))) for item in items]
    return any(product is not None and book is not None for product, book in pairs)


def recorded(api: Any) -> Iterator[ScenarioRecorder]:
    """Run every phase (examples, bounds, random, sequences); yields what happened, and raises what broke the run."""
    # not by schemathesis' pytest plugin: it runs no sequences, and counts on an attribute that pytest 9.2 has no longer
    for event in engine.from_schema(api).execute():
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            raise event.value
        if isinstance(event, events.ScenarioFinished):
            yield event.recorder


@pytest.mark.timeout(300)  # a minute of work, on a machine that has nothing else to do
def test_the_api_answers_as_its_document_says(flask_app: Flask, known: dict[str, list[str]]) -> None:
    api = schemathesis.openapi.from_wsgi("/openapi/openapi.json", flask_app, config=configuration(known))
    answered = set[str]()
    complaints: dict[tuple[str, str], str] = {}

    for recorder in recorded(api):
        for case_id, interaction in recorder.interactions.items():
            assert interaction.response is not None
            operation = recorder.cases[case_id].value.operation.label
            answered.add(operation)
            for check in recorder.checks.get(case_id, []):
                if check.failure_info:
                    said = f"{check.failure_info.failure.message}\n{check.failure_info.code_sample}"
                    complaints.setdefault((operation, check.name), f"{said}\n{interaction.response.text}")

    assert not complaints, "\n\n".join(f"{where}: {what}" for where, what in complaints.items())
    assert len(answered) == len(list(api.get_all_operations())) > 20
