import logging
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.web import BROWSES, SEED_ORDER
from web import create_app
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


def test_an_unforeseen_error_tells_the_log_and_not_the_client(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(book_id: str) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(queries, "book", fail)

    with caplog.at_level(logging.ERROR):
        response = client.get("/api/v1/inventory/book-123")

    assert (response.status_code, response.mimetype) == (500, "application/problem+json")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert "a secret" in caplog.text


def test_a_database_that_does_not_answer_is_a_503(here: Runtime, settings: Settings, tmp_path: Path) -> None:
    client = create_app(settings.but(database_url=f"sqlite:///{tmp_path}")).test_client()

    reading = client.get("/api/v1/orders/none")
    writing = client.post("/api/v1/orders", json=SEED_ORDER)

    for response in (reading, writing):
        assert (response.status_code, response.mimetype) == (503, "application/problem+json")
        assert response.headers["Retry-After"] == "1"


def test_only_somebody_who_browses_gets_a_page(client: FlaskClient) -> None:
    page, problem = client.get("/nothing", headers=BROWSES), client.get("/nothing")

    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "<h1>Not found</h1>" in page.text
    assert 'href="/problems/not-found"' in page.text
    assert (problem.status_code, problem.mimetype) == (404, "application/problem+json")


def test_our_own_pages_plain_clients_and_links_from_elsewhere_are_let_in(client: FlaskClient) -> None:
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}):
        assert client.post("/api/v1/orders", json=SEED_ORDER, headers=headers).status_code == 202
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
