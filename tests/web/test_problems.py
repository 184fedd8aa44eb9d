"""Every error is a problem of a type, every type has a page, and no page explains what never happens."""

import json
import logging
import re
from html import unescape
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException, default_exceptions

from app.errors import DatabaseUnavailable, RequestError
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.web import BROWSES, SEED_ORDER, error
from web import create_app, problem_types
from web.problem_types import ALL
from web.problems import Problem, ValidationProblem
from workflows.read_side import queries

MEMBERS = {"type", "title", "status", "detail", "instance", "errors", "facts"}


def test_every_error_of_the_api_is_a_problem_document_even_for_a_browser(client: FlaskClient) -> None:
    for method, path, status in (
        ("GET", "/api/v1/orders/none", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/saga/none/status", 404),
        ("PUT", "/api/v1/orders", 405),
        ("GET", "/saga/start", 405),
        ("POST", "/api/v1/orders", 415),
        ("GET", "/api/v1/orders?limit=0", 422),
    ):
        response = client.open(path, method=method, headers=BROWSES)
        assert (response.status_code, response.mimetype) == (status, "application/problem+json"), path
        problem = response.get_json()
        assert set(problem) == MEMBERS
        assert (problem["status"], problem["instance"]) == (status, path.partition("?")[0])
        assert client.get(problem["type"]).status_code == 200
        assert problem["title"]
        assert problem["detail"]
    assert {"GET", "POST"} <= set(client.put("/api/v1/orders").headers["Allow"].split(", "))
    price_differs = client.post("/api/v1/orders", json={**SEED_ORDER, "amount": 1}).get_json()
    assert (price_differs["type"], price_differs["title"]) == ("/problems/price-differs", "The price differs")
    assert price_differs["facts"] == {"requested": 1, "actual": 200}


def test_an_unforeseen_error_tells_the_log_and_not_the_client(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(book_id: str) -> None:
        raise RuntimeError(f"a secret of {book_id}")

    monkeypatch.setattr(queries, "book", fail)

    with caplog.at_level(logging.ERROR):
        rest = client.get("/api/v1/inventory/book-123")
        graphql = client.post("/graphql", json={"query": '{ product(id: "item-001") { id } }'})

    assert (rest.status_code, rest.mimetype) == (500, "application/problem+json")
    [said] = graphql.get_json()["errors"]
    assert (said["extensions"]["type"], said["extensions"]["status"]) == ("/problems/internal", 500)
    for response in (rest, graphql):
        assert "secret" not in response.text
        assert "Traceback" not in response.text
    assert "a secret of book-123" in caplog.text
    assert "a secret of item-001" in caplog.text


def test_a_database_that_does_not_answer_is_a_503(here: Runtime, settings: Settings, tmp_path: Path) -> None:
    client = create_app(settings.but(database_url=f"sqlite:///{tmp_path}")).test_client()

    for response in (client.get("/api/v1/orders/none"), client.post("/api/v1/orders", json=SEED_ORDER)):
        assert (response.status_code, response.mimetype) == (503, "application/problem+json")
        assert response.headers["Retry-After"] == "1"
    said = error(client, "{ products { nodes { id } } }")
    assert said["message"] == "the database does not answer, try again"
    assert (said["extensions"]["type"], said["extensions"]["status"]) == ("/problems/unavailable", 503)


def test_only_somebody_who_browses_gets_a_page_and_links_from_elsewhere_lead_here(client: FlaskClient) -> None:
    page, problem = client.get("/nothing", headers=BROWSES), client.get("/nothing")

    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "<h1>Not found</h1>" in page.text
    assert 'href="/problems/not-found"' in page.text
    assert (problem.status_code, problem.mimetype) == (404, "application/problem+json")
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}):
        assert client.post("/api/v1/orders", json=SEED_ORDER, headers=headers).status_code == 202
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def kinds_of(base: type[RequestError]) -> list[type[RequestError]]:
    """Return a class of refusals and all below it."""
    return [base, *(kind for below in base.__subclasses__() for kind in kinds_of(below))]


def test_every_error_has_a_type_of_its_status_and_every_type_an_error() -> None:
    refusals = [kind([]) if kind is ValidationProblem else kind("said") for kind in kinds_of(RequestError)]
    assert all(problem_types.of(refusal).status == refusal.status for refusal in refusals)
    http = {status: raised() for status, raised in default_exceptions.items()}
    for status, raised in http.items():
        kind = problem_types.of(raised)
        # what has no type of its own is of the kind of its hundred
        assert kind.status == status or kind in {problem_types.BAD_REQUEST, problem_types.INTERNAL}
        assert kind.status // 100 == status // 100
    assert problem_types.of(DatabaseUnavailable("gone")) is problem_types.UNAVAILABLE
    reached = {problem_types.of(error) for error in (*refusals, *http.values(), DatabaseUnavailable("gone"))}
    assert {*reached, ALL["not-ready"]} == set(ALL.values())  # that one only /readyz answers


def test_what_nobody_foresaw_is_internal_and_a_status_of_several_types_means_the_general_one() -> None:
    assert problem_types.of(RuntimeError()) is problem_types.INTERNAL
    assert problem_types.of(HTTPException()) is problem_types.INTERNAL
    assert problem_types.with_status(409) is problem_types.CONFLICT
    assert problem_types.with_status(503) is problem_types.UNAVAILABLE
    assert problem_types.with_status(418) is problem_types.BAD_REQUEST
    assert problem_types.with_status(502) is problem_types.INTERNAL


def test_every_type_has_a_page_that_explains_it(client: FlaskClient) -> None:
    for kind in ALL.values():
        page = client.get(kind.reference)
        assert (page.status_code, page.mimetype) == (200, "text/html")
        shown = unescape(page.text)
        for text in (kind.title, kind.summary, kind.cause, kind.fix, str(kind.status)):
            assert text in shown
        example = re.search(r"<pre><code>(.*?)</code></pre>", page.text, re.DOTALL)
        assert example
        document = json.loads(unescape(example[1]))
        assert Problem.model_validate(document).model_dump() == document
        assert document["type"] == kind.reference
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.slug)
    assert re.findall(r'href="/problems/([^"]+)"', client.get("/problems").text) == list(ALL)
    assert client.get("/problems/none").status_code == 404
