import logging
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.runtime import Runtime
from app.settings import Settings
from tests.web.conftest import SEED_ORDER, get
from web import create_app
from workflows.read_side import queries

MEMBERS = {"type", "title", "status", "detail", "instance", "errors", "facts"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/orders/none", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/saga/none/status", 404),
        ("PUT", "/api/v1/orders", 405),
        ("GET", "/saga/start", 405),
        ("POST", "/api/v1/orders", 415),
        ("GET", "/api/v1/orders?limit=0", 422),
    ],
)
def test_every_error_is_a_problem_document_even_for_a_browser(
    client: FlaskClient, method: str, path: str, status: int
) -> None:
    response = client.open(path, method=method, headers=BROWSER)

    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    problem = response.get_json()
    assert set(problem) == MEMBERS
    assert problem["status"] == status
    assert client.get(problem["type"]).status_code == 200
    assert problem["instance"] == path.partition("?")[0]
    assert problem["title"]
    assert problem["detail"]


def test_a_method_that_is_not_allowed_names_those_that_are(client: FlaskClient) -> None:
    response = client.put("/api/v1/orders")

    assert {"GET", "POST"} <= set(response.headers["Allow"].split(", "))


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


def test_somebody_who_browses_gets_a_page(client: FlaskClient) -> None:
    response = client.get("/nothing", headers=BROWSER)

    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "<h1>Not found</h1>" in response.text


def test_whoever_does_not_browse_gets_a_problem_everywhere(client: FlaskClient) -> None:
    response = client.get("/nothing")

    assert (response.status_code, response.mimetype) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://localhost.elsewhere.example"},
    ],
)
@pytest.mark.parametrize("path", ["/place", "/sagas/none/cancel", "/sagas/none/resume", "/api/v1/sagas/none/cancel"])
def test_pages_of_other_sites_change_nothing_here(client: FlaskClient, path: str, headers: dict[str, str]) -> None:
    response = client.post(path, data={"book_id": "book-123", "quantity": "1"}, headers=headers)

    assert response.status_code == 403
    assert get(client, "/api/v1/orders")["orders"] == []


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://localhost"}]
)
def test_our_own_pages_and_plain_clients_are_let_in(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/api/v1/orders", json=SEED_ORDER, headers=headers).status_code == 202


def test_links_from_other_sites_may_be_followed(client: FlaskClient) -> None:
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
