"""The kinds of values that requests are made of, bounded as the database is."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from app.database import CENT
from app.faults import SYNTAX, Fault
from workflows.order_choreography import ORDER_CHOREOGRAPHY
from workflows.ordering import SAGAS, Pattern

PATTERN_OF = {**dict.fromkeys(SAGAS, Pattern.ORCHESTRATION), ORDER_CHOREOGRAPHY.name: Pattern.CHOREOGRAPHY}
"""Every saga type that a client may ask for, and which pattern it is of."""

MOST_COPIES = 1000
MOST_DIGITS = 12


def is_storable(text: str) -> bool:
    """Tell whether a text can be stored: PostgreSQL takes neither NUL nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def own_path(path: str) -> str | None:
    """Return a path of this site to go on to; None for what a browser would take for another site's address."""
    # "//host" and "/\\host" lead to another site; tabs and line ends are dropped before a browser looks
    plain = path.isprintable() and path.startswith("/") and path[1:2] not in {"/", "\\"}
    return path if plain else None


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("holds a character that cannot be stored (NUL or a lone surrogate)")
    return text


def _whole(value: Any) -> Any:
    # JSON knows one kind of number: 2.0 is a whole one. One that is far too large is not even written out
    if isinstance(value, Decimal) and value.adjusted() < MOST_DIGITS and value == value.to_integral_value():
        return int(value)
    return value


def _json_number(value: Any) -> Any:
    # neither a text that looks like a number nor true, which Python takes for 1
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
Id = Annotated[Text, Field(min_length=1, max_length=64)]
OwnId = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$",  # "." and ".." have a meaning of their own in a path
        max_length=64,
        description="An id of the client's own: letters, digits, dot, underscore and hyphen.",
    ),
]
Title = Annotated[Text, Field(min_length=1, max_length=500)]
Name = Annotated[Text, Field(min_length=1, max_length=200)]
Description = Annotated[Text, Field(max_length=5000)]
Address = Annotated[Text, Field(min_length=1, max_length=500)]
Quantity = Annotated[int, Field(strict=True, ge=1, le=MOST_COPIES), BeforeValidator(_whole)]
Stock = Annotated[int, Field(strict=True, ge=0, le=1_000_000), BeforeValidator(_whole)]
Delivered = Annotated[int, Field(strict=True, ge=1, le=1_000_000), BeforeValidator(_whole)]
Amount = Annotated[
    Decimal,
    BeforeValidator(_json_number),
    Field(ge=0, max_digits=MOST_DIGITS, decimal_places=2),
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
