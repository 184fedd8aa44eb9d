"""The next release of CloudMart: an order is wrapped before it is paid for. Only processes started with this have it.

It is Celery's ``-A`` of a newer worker, and has the application of a newer web server.
"""

from pydantic import BaseModel
from sqlalchemy.orm import Session

import workflows  # noqa: F401  (declares the release that is deployed)
from app.celery import app as celery
from app.sagas import sagas
from durable_sagas.definition import Saga, Step
from durable_sagas.orchestrator import OrchestratedSaga
from web import create_app
from workflows.order_orchestration import ORDER
from workflows.orders import SAGAS

__all__ = ["celery", "create_app"]


class Parcel(BaseModel):
    """What is to be wrapped."""

    order_id: str


@sagas.command("inventory.wrap_as_gift")
def wrap_as_gift(session: Session, parcel: Parcel) -> None:
    """Wrap it."""


@sagas.command("inventory.unwrap")
def unwrap(session: Session, parcel: Parcel) -> None:
    """Take it out again."""


@sagas.command("shipping.send_greetings")
def send_greetings(session: Session, parcel: Parcel) -> None:
    """Wish well, past the point of no return."""


_create, _reserve, _pay, _ship, *_rest = ORDER.steps
NEWER = OrchestratedSaga(
    sagas.orchestrator,
    Saga("order", _create, _reserve, Step(wrap_as_gift, unwrap), _pay, _ship, Step(send_greetings), *_rest),
)
sagas.engine.drivers["order"] = NEWER
SAGAS["order"] = NEWER
