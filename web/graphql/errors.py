"""Format errors for GraphQL, with the same types as the REST API's problems."""

import logging
from typing import Any

from graphql import GraphQLError

from app.errors import DatabaseUnavailable, RequestError
from web import problem_types
from web.problem_types import ProblemType
from web.problems import DATABASE_SILENT, UNEXPECTED, FieldError, errors_of

logger = logging.getLogger(__name__)


def formatted(error: GraphQLError) -> dict[str, Any]:
    """Return an error in GraphQL's response format; unexpected ones are logged, and their cause is not disclosed."""
    message, problem_type, fields, facts = _explained(error)
    extensions: dict[str, Any] = {
        "type": problem_type.reference,
        "title": problem_type.title,
        "status": problem_type.status,
    }
    if fields:
        extensions["field"] = fields[0].field
        extensions["errors"] = [field.model_dump() for field in fields]
    if facts:
        extensions["facts"] = facts
    return {**error.formatted, "message": message, "extensions": extensions}


def _explained(error: GraphQLError) -> tuple[str, ProblemType, list[FieldError], dict[str, object]]:
    cause = error.original_error
    if isinstance(cause, RequestError):
        return cause.detail, problem_types.of(cause), errors_of(cause), cause.facts
    if isinstance(cause, DatabaseUnavailable):
        logger.error("the database did not answer", extra={"reason": cause})
        return DATABASE_SILENT, problem_types.of(cause), [], {}
    if isinstance(cause, RecursionError) and error.path is None:
        return "the document is nested too deeply", problem_types.BAD_REQUEST, [], {}
    if cause is None or isinstance(cause, GraphQLError):
        return error.message, problem_types.BAD_REQUEST, [], {}
    logger.error("a GraphQL operation failed", exc_info=cause)
    return UNEXPECTED, problem_types.INTERNAL, [], {}
