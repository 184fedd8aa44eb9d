"""Field types of requests, with the bounds of the database's columns."""

import unicodedata
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from app.fault_injection import SYNTAX, Fault
from tasks.amounts import CENT
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.orders import SAGAS, Pattern

PATTERN_OF = {**dict.fromkeys(SAGAS, Pattern.ORCHESTRATION), ORDER_CHOREOGRAPHY.name: Pattern.CHOREOGRAPHY}
"""The saga types that a client may request, with the pattern of each."""

MAX_COPIES = 1000
MAX_DIGITS = 12
MAX_ID_LENGTH = 64
DEFAULT_PAGE = 20
MAX_PAGE = 100
MAX_TITLE_LENGTH = 500
MAX_PATH_LENGTH = 2000
"""Servers and proxies reject long paths: gunicorn those of more than 4094 characters."""

BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Invisible characters that Unicode classifies as letters or symbols: Hangul fillers, the blank Braille pattern."""


def is_storable(text: str, max_length: int | None = None) -> bool:
    """Return whether a text fits a column of this length: PostgreSQL accepts neither NUL nor lone surrogates."""
    is_valid = "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    return is_valid and (max_length is None or len(text) <= max_length)


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character: it is empty, or has only spaces, controls and combining marks."""
    # categories C* are controls, formats such as the zero-width space, and unassigned code points; Z* is white space;
    # M* are combining marks, some of which, such as the variation selectors, are invisible
    return all(unicodedata.category(character)[0] in "CZM" or character in BLANK_LETTERS for character in text)


def own_path(path: str) -> str | None:
    """Return a redirect target if it is a path of this site; None if a browser would resolve it to another site."""
    # browsers resolve "//host" and "/\\host" to another site, after dropping tabs and line ends
    plain = path.isprintable() and path.startswith("/") and path[1:2] not in {"/", "\\"}
    return path if plain and len(path) <= MAX_PATH_LENGTH and len(quote(path)) <= MAX_PATH_LENGTH else None


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("holds a character that cannot be stored (NUL or a lone surrogate)")
    return text


def _visible(text: str) -> str:
    if is_blank(text):
        raise ValueError("must have a character that can be seen")
    return text


def whole(value: Any) -> Any:
    """Return an integral number as int, also if written as a decimal such as 2.0; any other value unchanged."""
    # JSON has one kind of number: 2.0 is integral. Huge ones, such as 1e999999, are not expanded to an int
    if isinstance(value, Decimal) and value.adjusted() < MAX_DIGITS and value == value.to_integral_value():
        return int(value)
    return value


def _json_number(value: Any) -> Any:
    # neither a numeric string nor true, which is an int in Python
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number")
    return value


def _fault(text: str) -> str:
    Fault.parse(text)
    return text


def _saga_type(name: str) -> str:
    if name not in PATTERN_OF:
        raise ValueError(f"must be one of {', '.join(PATTERN_OF)}")
    return name


Text = Annotated[str, AfterValidator(_storable), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})]
VisibleText = Annotated[
    str,
    AfterValidator(_storable),
    AfterValidator(_visible),
    Field(json_schema_extra={"pattern": r"^[^\u0000]*[^\u0000-\u0020\u007f-\u00a0\s][^\u0000]*$"}),
]
PathId = Annotated[Text, Field(max_length=MAX_ID_LENGTH)]
Id = Annotated[Text, Field(min_length=1, max_length=MAX_ID_LENGTH)]
OwnId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$",  # "." and ".." are special in a path
        max_length=MAX_ID_LENGTH,
        description="An id of the client's own: letters, digits, dot, underscore and hyphen.",
    ),
]
Title = Annotated[VisibleText, Field(min_length=1, max_length=MAX_TITLE_LENGTH)]
Name = Annotated[VisibleText, Field(min_length=1, max_length=200)]
Description = Annotated[Text, Field(max_length=5000)]
Address = Annotated[VisibleText, Field(min_length=1, max_length=500)]
Quantity = Annotated[int, Field(strict=True, ge=1, le=MAX_COPIES), BeforeValidator(whole)]
Stock = Annotated[int, Field(strict=True, ge=0, le=1_000_000), BeforeValidator(whole)]
Delivered = Annotated[int, Field(strict=True, ge=1, le=1_000_000), BeforeValidator(whole)]
Amount = Annotated[
    Decimal,
    BeforeValidator(_json_number),
    Field(ge=0, max_digits=MAX_DIGITS, decimal_places=2),
    AfterValidator(lambda amount: amount.quantize(CENT)),
    WithJsonSchema(
        {
            "type": "number",
            "minimum": 0,
            "maximum": 9999999999.99,
            "multipleOf": 0.01,
            "description": "With at most two decimals.",
        }
    ),
]
FaultText = Annotated[
    str,
    AfterValidator(_fault),
    Field(
        description="decline, timeout, hang, fail:N or undo-fail:N, with N from 1 to 99.",
        json_schema_extra={"pattern": f"^({SYNTAX})$"},
    ),
]
SagaType = Annotated[str, AfterValidator(_saga_type), Field(json_schema_extra={"enum": list(PATTERN_OF)})]
