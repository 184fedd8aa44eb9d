"""Liveness and readiness checks."""

import logging

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
    state = {"database": _database(), "broker": _broker()}
    silent = [name for name, word in state.items() if word != "ok"]
    if silent:
        detail = f"{' and '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer"
        return problems.problem(problem_types.NOT_READY, detail, facts=state)
    return json_response(responses.ReadyReply(status="ready", **state))


def _database() -> str:
    try:
        runtime.current().database.check_writable()
    except DatabaseUnavailable as error:
        logger.warning("the database did not answer", extra={"reason": error})
        return "no answer"
    return "ok"


def _broker() -> str:
    try:
        with celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
    except (BrokerError, OSError) as error:
        logger.warning("the broker did not answer", extra={"reason": error})
        return "no answer"
    return "ok"
