"""Convert errors to RFC 9457 problem documents, or to HTML pages for browsers."""

import json
import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar

from flask import Flask, Response, render_template, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import HTTPException

from app.errors import DatabaseUnavailable, Invalid, Overloaded, RequestError
from web import problem_types
from web.problem_types import PRICE_DIFFERS, UNAVAILABLE, ProblemType

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=BaseModel)

MEDIA_TYPE = "application/problem+json"
API_PATHS = ("/api/", "/orders", "/saga/", "/healthz", "/readyz", "/metrics", "/graphql")
"""Below these paths errors are problem documents, regardless of the Accept header."""


class FieldError(BaseModel):
    """An invalid field of a request, by the client's name of it, and the reason."""

    field: str
    reason: str


class Problem(BaseModel):
    """The body of all error responses (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_serialization_defaults_required=False, json_schema_extra={"example": PRICE_DIFFERS.document}
    )

    type: str = Field(description="The page that explains this kind of error.")
    title: str
    status: int
    detail: str
    instance: str = Field(description="The path that was asked for.")
    errors: list[FieldError] = Field(default=[], description="The fields at fault.")
    facts: dict[str, Any] = Field(default={}, description="The values that the detail speaks of.")


class ValidationProblem(Invalid):
    """Raised if fields of a request are invalid; carries all of them."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.reason}" for error in errors))
        self.errors = errors


def responses(*statuses: int, unavailable: ProblemType = UNAVAILABLE) -> dict[str | int | HTTPStatus, Any]:
    """Return the description of problem responses with these statuses, for the OpenAPI document.

    ``unavailable`` is the example of a response with 503.
    """
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema, "example": example.document}},
            **(_RETRY_AFTER if status == unavailable.status else {}),
        }
        # any request may be refused for its Host, or for a repeated parameter
        for status in sorted({*statuses, 400, 422, 500, 503})
        for example in [unavailable if status == unavailable.status else problem_types.with_status(status)]
    }


_RETRY_AFTER = {
    "headers": {"Retry-After": {"description": "Seconds to wait before another try.", "schema": {"type": "integer"}}}
}


def validated(model: type[Model], values: object) -> Model:
    """Return the validated model of these values. Raises ValidationProblem."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise_validation_problem(error)


def raise_validation_problem(error: ValidationError) -> NoReturn:
    """Raise pydantic's errors as ValidationProblem, with the client's field names."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    raise ValidationProblem(
        [FieldError(field=".".join(map(str, one["loc"])), reason=_reason(one["type"], one["msg"])) for one in found]
    ) from error


def register(app: Flask) -> None:
    """Respond to all errors of the app with problems."""
    app.register_error_handler(Exception, _respond)


def explain(error: Exception) -> tuple[ProblemType, str, list[FieldError], Mapping[str, object]]:
    """Return the type, the detail, the fields at fault and the facts of an error, without disclosing internal causes.

    Those are logged.
    """
    problem_type = problem_types.of(error)
    if isinstance(error, RequestError):
        return problem_type, error.detail, errors_of(error), error.facts
    if isinstance(error, HTTPException):
        return problem_type, error.description or error.name, [], {}
    if isinstance(error, DatabaseUnavailable):
        logger.error("the database did not answer", extra={"reason": error})
        return problem_type, "the database does not answer, try again", [], {}
    logger.error("request failed", exc_info=error)
    return problem_type, "something went wrong here; it has been logged", [], {}


def problem(
    problem_type: ProblemType,
    detail: str,
    *,
    status: int | None = None,
    errors: Iterable[FieldError] = (),
    facts: Mapping[str, object] | None = None,
    never_page: bool = False,
) -> Response:
    """Return an error response, as a page for browsers unless ``never_page``.

    Its status is the type's unless another one is given.
    """
    status = status or problem_type.status
    if _browsing() and not never_page:
        page = render_template("problem.html", problem_type=problem_type, detail=detail)
        return Response(page, status, mimetype="text/html")
    body = Problem(
        type=problem_type.reference,
        title=problem_type.title,
        status=status,
        detail=detail,
        instance=request.path,
        errors=list(errors),
        facts=dict(facts or {}),
    )
    # not pydantic's own JSON: it fails on lone surrogates, which a client's field names may contain
    return Response(json.dumps(body.model_dump()), status, mimetype=MEDIA_TYPE)


def errors_of(error: RequestError) -> list[FieldError]:
    """Return the field errors of a refusal."""
    if isinstance(error, ValidationProblem):
        return error.errors
    return [FieldError(field=error.field, reason=error.detail)] if error.field else []


def _reason(error_type: str, message: str) -> str:
    if error_type == "extra_forbidden":
        return "is not a known field"
    return message.removeprefix("Value error, ")


def _browsing() -> bool:
    if request.path.startswith(API_PATHS):
        return False
    return request.accept_mimetypes.best_match([MEDIA_TYPE, "application/json", "text/html"]) == "text/html"


def _respond(error: Exception) -> Response:
    problem_type, detail, errors, facts = explain(error)
    status = error.code if isinstance(error, HTTPException) else problem_type.status
    response = problem(problem_type, detail, status=status, errors=errors, facts=facts)
    if isinstance(error, HTTPException):
        headers = error.get_response().headers
        response.headers.extend({name: headers[name] for name in ("Allow", "Retry-After") if name in headers})
    elif isinstance(error, DatabaseUnavailable):
        response.headers["Retry-After"] = "1"
    elif isinstance(error, Overloaded):
        response.headers["Retry-After"] = str(error.retry_after)
    return response
