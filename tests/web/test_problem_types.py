"""Every error has a type, every type a page, and no page explains what never happens."""

import json
import re
from html import unescape
from http import HTTPStatus

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException, default_exceptions

from app import errors
from app.errors import DatabaseUnavailable, PriceMismatch, Refused
from tests.testkit.web import SEED_ORDER, get
from web import problem_types
from web.problem_types import ALL
from web.problems import Problem, ValidationProblem


def kinds_of(base: type[Refused]) -> list[type[Refused]]:
    """Return a class of refusals and all below it."""
    return [base, *(kind for below in base.__subclasses__() for kind in kinds_of(below))]


def test_every_refusal_has_a_type_of_its_status() -> None:
    for refusal in kinds_of(Refused):
        kind = problem_types.of(refusal("said") if refusal is not ValidationProblem else ValidationProblem([]))
        assert kind.status == refusal.status, refusal
        assert ALL[kind.slug] is kind


def test_every_http_error_has_a_type() -> None:
    for status, raised in default_exceptions.items():
        kind = problem_types.of(raised())
        assert ALL[kind.slug] is kind
        # what has no type of its own is of the kind of its hundred
        assert kind.status == status or kind in {problem_types.BAD_REQUEST, problem_types.INTERNAL}
        assert kind.status // 100 == status // 100


def test_what_nobody_foresaw_is_internal() -> None:
    assert problem_types.of(RuntimeError()) is problem_types.INTERNAL
    assert problem_types.of(HTTPException()) is problem_types.INTERNAL
    assert problem_types.of(DatabaseUnavailable("gone")) is problem_types.UNAVAILABLE


def test_no_page_is_without_an_error() -> None:
    raised: list[Exception] = [
        *(refusal("said") for refusal in kinds_of(Refused) if refusal is not ValidationProblem),
        *(kind() for kind in default_exceptions.values()),
        DatabaseUnavailable("gone"),
    ]

    reached = {problem_types.of(error).slug for error in raised}

    assert set(ALL) == reached | {"not-ready"}  # only /readyz answers that, which test_health sees


def test_a_kind_of_several_of_one_status_that_is_not_said_is_the_general_one() -> None:
    assert problem_types.with_status(409) is problem_types.CONFLICT
    assert problem_types.with_status(503) is problem_types.UNAVAILABLE
    assert problem_types.with_status(418) is problem_types.BAD_REQUEST
    assert problem_types.with_status(502) is problem_types.INTERNAL


def test_every_type_has_a_page_that_explains_it(client: FlaskClient) -> None:
    for kind in ALL.values():
        page = client.get(kind.reference)
        assert (page.status_code, page.mimetype) == (200, "text/html")
        shown = unescape(page.text)
        for text in (kind.title, kind.meaning, kind.when, kind.remedy, str(kind.status)):
            assert text in shown
        example = re.search(r"<pre><code>(.*?)</code></pre>", page.text, re.DOTALL)
        assert example
        document = json.loads(unescape(example[1]))
        assert Problem.model_validate(document).model_dump() == document
        assert document["type"] == kind.reference
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.slug)
        assert HTTPStatus(kind.status) >= HTTPStatus.BAD_REQUEST
    assert re.findall(r'href="/problems/([^"]+)"', client.get("/problems").text) == list(ALL)
    assert client.get("/problems/none").status_code == 404


def test_an_answer_names_its_type_and_its_title(client: FlaskClient) -> None:
    order = {**SEED_ORDER, "amount": 1}

    problem = client.post("/api/v1/orders", json=order).get_json()

    assert (problem["type"], problem["title"], problem["status"]) == (
        "/problems/price-differs",
        "The price differs",
        409,
    )
    assert problem["facts"] == {"requested": 1, "actual": 200}
    assert issubclass(PriceMismatch, errors.Conflict)  # whoever looks for a conflict still finds one


def test_the_openapi_document_shows_the_types(flask_app: Flask, client: FlaskClient) -> None:
    document = get(client, "/openapi/openapi.json")

    shown = set()
    for item in document["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items():
                content = response["content"].get("application/problem+json")
                if content:
                    assert content["example"]["status"] == int(status)
                    Problem.model_validate(content["example"])
                    shown.add(content["example"]["type"])
    assert len(shown) >= 9
    assert shown <= {kind.reference for kind in ALL.values()}
