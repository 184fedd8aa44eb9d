"""How a JSON body is read: strictly, and exactly."""

import json
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NoReturn

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from app.errors import BadRequest, Invalid

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class StrictRequest(Request):
    """A request whose JSON body is an object, or refused with a reason.

    flask-openapi3 reads the body silently: a malformed one, or one of another type, would look like an empty one.
    """

    def __init__(self, environ: "WSGIEnvironment", *args: Any, **options: Any) -> None:
        super().__init__(environ, *args, **options)
        # Flask routes HEAD to every view that takes GET. A view sees it as GET, so that a view which acts unless the
        # method is GET cannot be made to act without a form token; werkzeug drops the body by the environ's method.
        if self.method == "HEAD":
            self.method = "GET"

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002
        """Return the body, numbers with a fraction as Decimal. Raises BadRequest, Invalid and HTTPException."""
        # not even application/*+json: a page of another site can send anything but this without being asked
        if self.mimetype != "application/json":
            raise UnsupportedMediaType("the body must be JSON, sent with Content-Type: application/json")
        return json_object(self._whole_body(), "the body")

    def _whole_body(self) -> bytes:
        data = self.get_data()
        # werkzeug cuts a chunked body off where the limit is, and does not say so
        if self.content_length is None and self.max_content_length and len(data) >= self.max_content_length:
            raise RequestEntityTooLarge
        return data


def json_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Return the JSON object that a text is, numbers with a fraction as Decimal. Raises BadRequest and Invalid."""
    try:
        read = json.loads(text, parse_float=exact, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise BadRequest(f"{name} is not UTF-8") from error
    except ValueError as error:
        raise BadRequest(f"{name} is not JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest(f"{name} is nested too deeply") from error
    if not isinstance(read, dict):
        raise Invalid(f"{name} must be a JSON object")
    return read


def exact(text: str) -> Decimal:
    """Return a number as it is written. Raises ValueError."""
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text} is not a usable number") from error


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
