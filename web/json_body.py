"""Parse request bodies and JSON strictly, with exact decimals."""

import json
from decimal import Decimal, InvalidOperation
from io import BytesIO
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, NoReturn

from flask import Request, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import FormDataParser

from app.errors import BadRequest, Invalid

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MAX_NUMBER_LENGTH = 100
"""The maximum length of a number in JSON; what fields accept is far shorter."""
MAX_SHOWN = 100
"""The maximum number of characters of client input that an error message quotes."""


class StrictFormParser(FormDataParser):
    """Parses forms, and rejects malformed ones, which werkzeug parses as empty."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        """Return the stream, the fields and the files. Raises BadRequest and HTTPException."""
        self.silent = False
        try:
            stream, fields, files = super().parse(*args, **kwargs)
        except ValueError as error:
            raise BadRequest("the form cannot be read: it is not what its Content-Type says") from error
        try:
            if None in fields or None in files:
                raise BadRequest("the form cannot be read: a part of it has no name")
            _refuse_repetition(fields, "the form has the field")
        except BadRequest:
            for file in chain.from_iterable(files.listvalues()):
                file.close()
            raise
        return stream, fields, files


class StrictRequest(Request):
    """A request whose body is read completely, and rejected with a reason if that fails.

    flask-openapi3 parses JSON silently: a malformed body, or one of another type, would look like an empty one.
    """

    form_data_parser_class = StrictFormParser

    def __init__(self, environ: "WSGIEnvironment", *args: Any, **options: Any) -> None:
        super().__init__(environ, *args, **options)
        # Flask routes HEAD to every view for GET, and CSRF checks skip it. Views see GET, so that a view which acts
        # unless the method is GET does not act on HEAD; werkzeug drops the body according to the environ's method.
        if self.method == "HEAD":
            self.method = "GET"

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ARG002
        """Return the body, numbers with a fraction as Decimal. Raises BadRequest, Invalid and HTTPException."""
        # not even application/*+json: a page of another site may send other types without a CORS preflight
        if self.mimetype != "application/json":
            raise UnsupportedMediaType("the body must be JSON, sent with Content-Type: application/json")
        return json_object(self._whole_body(), "the body")

    def _get_stream_for_parsing(self) -> IO[bytes]:
        return BytesIO(self._whole_body())

    def _whole_body(self) -> bytes:
        limit = self.max_content_length
        if self.content_length is None and limit is not None:
            # werkzeug truncates a chunked body at the limit without an error; one more byte shows that it is longer
            self.max_content_length = limit + 1
        try:
            data = self.get_data()
        except HTTPException:
            raise
        except Exception as error:  # each server raises its own errors for malformed HTTP bodies
            raise BadRequest("the body cannot be read: it is not framed as HTTP/1.1 says") from error
        finally:
            self.max_content_length = limit
        if limit is not None and len(data) > limit:
            raise RequestEntityTooLarge
        if self.content_length is not None and len(data) < self.content_length:
            raise BadRequest(f"the body has {len(data)} bytes, its Content-Length says {self.content_length}")
        return data


def refuse_repetition() -> None:
    """Raise BadRequest if a query parameter is repeated: only one of its values would be used."""
    _refuse_repetition(request.args, "the query has the parameter")


def _refuse_repetition(fields: MultiDict[str, str], what: str) -> None:
    for name, values in fields.lists():
        if len(values) > 1:
            raise BadRequest(f"{what} {name[:MAX_SHOWN]!a} more than once")


def json_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object, numbers with a fraction as Decimal. Raises BadRequest and Invalid."""
    try:
        read = json_value(text)
    except UnicodeDecodeError as error:
        raise BadRequest(f"{name} is not UTF-8") from error
    except ValueError as error:
        raise BadRequest(f"{name} is not JSON: {error}") from error
    if not isinstance(read, dict):
        raise Invalid(f"{name} must be a JSON object")
    return read


def json_value(text: str | bytes) -> Any:
    """Parse JSON, numbers with a fraction as Decimal. Raises ValueError if it is malformed or repeats a key."""
    try:
        return json.loads(
            text,
            parse_float=exact,
            parse_int=lambda number: int(_short(number)),
            parse_constant=_refuse,
            object_pairs_hook=_without_repetition,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def exact(text: str) -> Decimal:
    """Return the exact value of a number's text. Raises ValueError."""
    try:
        return Decimal(_short(text))
    except InvalidOperation as error:
        raise ValueError(f"{text[:MAX_SHOWN]} is not a usable number") from error


def _short(number: str) -> str:
    if len(number) > MAX_NUMBER_LENGTH:
        raise ValueError(f"a number has {len(number)} characters, at most {MAX_NUMBER_LENGTH} are allowed")
    return number


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict[str, Any]()
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:MAX_SHOWN]!a} is repeated")
        found[name] = value
    return found


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
