"""What the web's tests share."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.messaging import publisher
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.browser import PASSWORD, Browser
from web import create_app

PlaceUnsent = Callable[[object], dict[str, Any]]

SEED_ORDER = {"customer_id": "customer-123", "items": [{"product_id": "product-1", "quantity": 2, "price": 100.0}]}
"""The order that seed 003 writes."""


@pytest.fixture
def no_messages(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent: eager Celery would have finished a saga before the request that started it answers."""
    lose_messages(monkeypatch)


@pytest.fixture
def place_unsent(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> PlaceUnsent:
    """Place an order whose own messages are lost; what is asked of it afterwards is sent, and done at once."""

    def place(body: object) -> dict[str, Any]:
        with monkeypatch.context() as stopped:
            lose_messages(stopped)
            return post(client, "/api/v1/orders", body)

    return place


def lose_messages(patch: pytest.MonkeyPatch) -> None:
    """Have what is sent be lost, until the patch is undone."""
    patch.setattr(publisher, "_publish", _lose)


def _lose(*_: object, **__: object) -> bool:
    return True  # the broker took it, and that was the last that was heard of it


@pytest.fixture
def strict_client(here: Runtime, settings: Settings) -> FlaskClient:
    """A client of an installation where faults may not be simulated."""
    here.close()
    return Browser(create_app(settings.but(fault_injection=False)))


@pytest.fixture
def operator(client: Browser, here: Runtime) -> Browser:
    """The client, logged in as the operator Ann."""
    here.settings = here.settings.but(operator_password=PASSWORD)
    assert client.log_in().status_code == 303
    return client


@pytest.fixture
def order(client: FlaskClient) -> dict[str, Any]:
    """The answer to seed 003's order."""
    return post(client, "/api/v1/orders", SEED_ORDER)


def post(client: FlaskClient, path: str, body: object, status: int = 202) -> dict[str, Any]:
    """Send a JSON body and return the JSON answer, which must have this status."""
    response = client.post(path, json=body)
    assert response.status_code == status, response.text
    return dict(response.get_json())


def get(client: FlaskClient, path: str, status: int = 200) -> dict[str, Any]:
    """Return the JSON answer, which must have this status."""
    response = client.get(path)
    assert response.status_code == status, response.text
    return dict(response.get_json())


def stock(client: FlaskClient, book_id: str) -> dict[str, Any]:
    """Return a book."""
    return get(client, f"/api/v1/inventory/{book_id}")
