"""Liveness and readiness checks."""

import logging
from collections.abc import Callable

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from kombu.exceptions import OperationalError as BrokerError

from app import runtime
from app.celery import app as celery
from app.errors import DatabaseUnavailable
from web import problem_types, problems
from web.api import responses
from web.api.responses import json_response

logger = logging.getLogger(__name__)

api = APIBlueprint(
    "health", __name__, abp_tags=[Tag(name="Health", description="For administrators and load balancers.")]
)


@api.get("/healthz", responses={200: responses.AliveReply, **problems.responses()})
def alive() -> Response:
    """Report that the process runs, regardless of its dependencies."""
    return json_response(responses.AliveReply(status="alive"))


@api.get("/readyz", responses={200: responses.ReadyReply, **problems.responses()})
def ready() -> Response:
    """Report whether the database accepts writes and the broker responds."""
    database = runtime.current().database
    state = {"database": _check("database", database.check_writable), "broker": _check("broker", _broker)}
    silent = [name for name, word in state.items() if word != "ok"]
    if silent:
        detail = f"{' and '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer"
        return problems.problem(problem_types.NOT_READY, detail, facts=state)
    return json_response(responses.ReadyReply(status="ready", **state))


def _check(name: str, check: Callable[[], object]) -> str:
    try:
        check()
    except (DatabaseUnavailable, BrokerError, OSError) as error:
        logger.warning("the %s did not answer", name, extra={"reason": error})
        return "no answer"
    return "ok"


def _broker() -> None:
    with celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
