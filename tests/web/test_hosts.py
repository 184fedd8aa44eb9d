"""Which hosts a request may ask for, that no answer leads to another one, and whether a process is alive and ready."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder, run_wsgi_app

from app.celery import app as celery
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.client import HTML
from tests.testkit.web import SEED_ORDER, get
from web import create_app


def status(app: Flask, host: str, path: str = "/healthz") -> int:
    return app.test_client().get(path, headers={"Host": host}).status_code


def test_without_a_host_it_is_no_browser_and_no_other_header_stands_for_it(settings: Settings, here: Runtime) -> None:
    app = create_app(settings.but(proxies=1))

    forwarded = app.test_client().get("/healthz", headers={"Host": "evil.example", "X-Forwarded-Host": "localhost"})
    environ = EnvironBuilder("/healthz").get_environ()
    del environ["HTTP_HOST"]
    _, hostless, _ = run_wsgi_app(app, environ)

    assert forwarded.status_code == 400
    assert hostless == "200 OK"


def test_a_name_that_was_pointed_here_neither_reads_nor_orders(flask_app: Flask) -> None:
    stranger = FlaskClient(flask_app, flask_app.response_class)
    pages = ("/", "/api/v1/orders", "/healthz", "/metrics", "/static/base.css", "/nothing", "/api//v1/orders")
    names = ("evil.example", "evil.example:8000", "localhost.evil.example", "192.0.2.1", "[2001:db8::1]", "a b", "")

    for host in names:
        for path in pages:
            refused = stranger.get(path, headers={"Host": host, **HTML})
            assert (refused.status_code, refused.mimetype) == (400, "application/problem+json"), path
            assert "ALLOWED_HOSTS" in refused.get_json()["detail"]
        assert stranger.post("/api/v1/orders", json=SEED_ORDER, headers={"Host": host}).status_code == 400
    assert get(stranger, "/api/v1/orders")["orders"] == []


@pytest.mark.parametrize(
    ("changes", "known", "unknown"),
    [
        ({}, ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "127.0.0.2", "[::1]", "[::1]:8000"], []),
        ({"host": "shop.lan"}, ["shop.lan:8000", "localhost"], ["other.lan", "192.0.2.1"]),
        # who listens on every address cannot list them; a name is what an attack needs
        ({"host": "0.0.0.0"}, ["192.0.2.1:8000", "[2001:db8::1]"], ["evil.example", "1.2.3.4.example"]),
        (
            {"allowed_hosts": " Shop.example , 2001:db8::1, .example.org"},
            ["shop.example", "SHOP.EXAMPLE:443", "[2001:db8::1]:1", "example.org", "a.example.org"],
            ["a.shop.example", "shop.example.evil.example", "example.org.evil.example", "badexample.org"],
        ),
    ],
)
def test_what_is_known_is_this_machine_host_and_allowed_hosts(
    settings: Settings, here: Runtime, changes: dict[str, str], known: list[str], unknown: list[str]
) -> None:
    app = create_app(settings.but(**changes))

    assert {host: status(app, host) for host in known} == dict.fromkeys(known, 200)
    assert {host: status(app, host) for host in unknown} == dict.fromkeys(unknown, 400)
    for no_name in ("https://shop.example", "shop.example:443", "shop.example/", "*", "a b"):
        with pytest.raises(ValueError, match="must be host names"):
            Settings(allowed_hosts=no_name)


def test_redirects_name_no_host(client: FlaskClient) -> None:
    for path, leads_to in {"/api///v1//orders": "/api/v1/orders", "/docs": "/openapi/swagger"}.items():
        for method in ("GET", "HEAD"):
            answer = client.open(method=method, query_string="limit=1", environ_overrides={"PATH_INFO": path})
            assert answer.headers["Location"] in {leads_to, f"{leads_to}?limit=1"}
            assert "localhost" not in answer.text
    order = client.post("/api//v1/orders", json=SEED_ORDER)
    assert (order.status_code, order.headers["Location"]) == (308, "/api/v1/orders")


def test_a_process_is_alive_with_or_without_its_database_and_ready_only_with_it(
    client: FlaskClient, here: Runtime, settings: Settings, tmp_path: Path
) -> None:
    assert get(client, "/healthz") == {"status": "alive"}
    assert get(client, "/readyz") == {"status": "ready", "database": "ok", "broker": "ok"}
    here.close()
    client = create_app(settings.but(database_url=f"sqlite:///{tmp_path}")).test_client()

    problem = get(client, "/readyz", 503)

    assert problem["facts"] == {"database": "no answer", "broker": "ok"}
    assert problem["detail"] == "database does not answer"
    assert get(client, "/healthz") == {"status": "alive"}


@pytest.mark.parametrize("url", ["amqp://127.0.0.1:1//", "redis://127.0.0.1:1/0"])
def test_without_its_broker_a_process_is_not_ready(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setitem(celery.conf, "broker_url", url)
    monkeypatch.setitem(celery.conf, "broker_transport", None)
    monkeypatch.setitem(celery.conf, "broker_transport_options", {})

    problem = get(client, "/readyz", 503)

    assert problem["facts"] == {"database": "ok", "broker": "no answer"}
    assert problem["detail"] == "broker does not answer"
