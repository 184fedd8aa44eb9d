from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.celery import app as celery
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.web import get
from web import create_app


def test_a_process_that_runs_is_alive(client: FlaskClient) -> None:
    assert get(client, "/healthz") == {"status": "alive"}


def test_a_process_whose_database_and_broker_answer_is_ready(client: FlaskClient) -> None:
    assert get(client, "/readyz") == {"status": "ready", "database": "ok", "broker": "ok"}


def test_without_its_database_a_process_is_alive_and_not_ready(
    here: Runtime, settings: Settings, tmp_path: Path
) -> None:
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
