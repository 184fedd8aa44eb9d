"""The problem types of error responses, with the texts of their pages ``/problems/<slug>``.

A status that has none of its own has the generic type of 4xx or 5xx.
"""

from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import HTTPException

from app import errors


def N_(text: str) -> str:  # noqa: N802  (the conventional gettext marker for texts that are translated when displayed)
    """Mark a text for translation."""
    return text


@dataclass(frozen=True)
class ProblemType:
    """A type of problem. ``example`` is a sample detail, ``fix`` what a client should do."""

    slug: str
    status: int
    title: str
    summary: str
    cause: str
    fix: str
    example: str
    instance: str = "/api/v1/orders"
    field: str | None = None
    facts: tuple[tuple[str, object], ...] = ()

    @property
    def reference(self) -> str:
        """The ``type`` of problem documents: the path of the page that explains it."""
        return f"/problems/{self.slug}"

    @property
    def document(self) -> dict[str, Any]:
        """A sample problem document."""
        return {
            "type": self.reference,
            "title": self.title,
            "status": self.status,
            "detail": self.example,
            "instance": self.instance,
            "errors": [{"field": self.field, "reason": self.example}] if self.field else [],
            "facts": dict(self.facts),
        }


BAD_REQUEST = ProblemType(
    "bad-request",
    400,
    N_("Bad request"),
    N_("The request cannot be read at all."),
    N_(
        "The body is no JSON, is not UTF-8, or is nested too deeply; or a GraphQL document has a syntax error, asks for"
        " what the schema does not have, or asks for too much at once; or the Host header names a host that is not"
        " known here."
    ),
    N_("Correct the request; sent again unchanged, it gets the same response."),
    "the body is not JSON: Expecting value: line 1 column 1 (char 0)",
)
UNAUTHORIZED = ProblemType(
    "unauthorized",
    401,
    N_("Unauthorized"),
    N_("The request asks for something that only an operator may do, and does not show that it comes from one."),
    N_("A call of the API that changes sagas or the catalogue has no bearer token, or a wrong one."),
    N_("Send the operator token: Authorization: Bearer …"),
    "this is an operator's call: send Authorization: Bearer and the OPERATOR_TOKEN",
    "/api/v1/stuck-sagas/resume",
)
FORBIDDEN = ProblemType(
    "forbidden",
    403,
    N_("Not allowed here"),
    N_("The request is understood, and this installation does not do what it asks."),
    N_(
        "An order asks for a simulated fault where faults are switched off, or a page of another site made a browser"
        " send the request."
    ),
    N_("Leave out what is not allowed; an administrator of the installation can enable it in its settings."),
    "faults cannot be simulated here: set FAULT_INJECTION=1 to allow it",
    field="simulate",
)
NOT_FOUND = ProblemType(
    "not-found",
    404,
    N_("Not found"),
    N_("There is nothing at this address."),
    N_("The order, the saga, the book or the page that the address names does not exist."),
    N_("Check the id; lists show the ids that exist."),
    "there is no order 0198c0de-0000-7000-8000-000000000000",
    "/api/v1/orders/0198c0de-0000-7000-8000-000000000000",
)
METHOD_NOT_ALLOWED = ProblemType(
    "method-not-allowed",
    405,
    N_("Method not allowed"),
    N_("The address exists, but not for this method."),
    N_("For instance PUT is sent where only GET and POST are understood."),
    N_("Use one of the methods that the response's Allow header names."),
    "The method is not allowed for the requested URL.",
)
CONFLICT = ProblemType(
    "conflict",
    409,
    N_("Conflict"),
    N_("The request is well formed and does not fit the present state of what it is about."),
    N_("The order is past its point of no return, the saga has ended already, or the id is taken."),
    N_("Check the current state, which is in the facts, and decide again."),
    "too late to cancel: it is past the point of no return",
    "/api/v1/orders/0198c0de-0000-7000-8000-000000000000",
    facts=(("status", "running"),),
)
PRICE_DIFFERS = ProblemType(
    "price-differs",
    409,
    N_("The price differs"),
    N_("The order names a price or an amount that is not the catalogue's. Nothing has been ordered."),
    N_("The price was changed since the client read it, or the client made a mistake in adding up."),
    N_(
        "Show the customer the actual figure, which the facts give, and order again if they agree. An order without a"
        " price takes the catalogue's."
    ),
    "the price of book-123 is 3500, not 3000",
    field="items.0.price",
    facts=(("requested", 3000), ("actual", 3500)),
)
TOO_LARGE = ProblemType(
    "too-large",
    413,
    N_("Too large"),
    N_("The body of the request is larger than one megabyte."),
    N_("Before the body is parsed."),
    N_("Send less at a time."),
    "The data value transmitted exceeds the capacity limit.",
)
UNSUPPORTED_MEDIA_TYPE = ProblemType(
    "unsupported-media-type",
    415,
    N_("Unsupported media type"),
    N_("The body is not declared as JSON."),
    N_("The request has no Content-Type header, or another one than application/json."),
    N_("Send the body as JSON, with Content-Type: application/json."),
    "the body must be JSON, sent with Content-Type: application/json",
)
INVALID = ProblemType(
    "invalid",
    422,
    N_("Invalid request"),
    N_("The request can be read, but some of its fields are wrong. Nothing has been changed."),
    N_("A field is missing, unknown, out of its bounds, or names something that does not exist."),
    N_("Correct the fields that the errors name; each has a reason."),
    "there is no book book-000",
    field="items.0.product_id",
)
RATE_LIMITED = ProblemType(
    "rate-limited",
    429,
    N_("Too many requests"),
    N_("The same was tried too often in a short time."),
    N_("Wrong passwords were tried again and again, from one address or from many."),
    N_("Wait as long as the response's Retry-After header says."),
    "Too many wrong passwords were tried. Wait a minute, then try again.",
    "/operator/login",
)
INTERNAL = ProblemType(
    "internal",
    500,
    N_("Internal server error"),
    N_("An unexpected error occurred; it has been logged."),
    N_("Never, if all is well: it is a defect."),
    N_(
        "Check whether the request took effect before sending it again; an order can be sent again "
        "safely with the same Idempotency-Key."
    ),
    "something went wrong here; it has been logged",
)
UNAVAILABLE = ProblemType(
    "unavailable",
    503,
    N_("Service unavailable"),
    N_("The database did not respond, or aborted the statement."),
    N_("It is being restarted, or too busy."),
    N_(
        "Send the same request again after as many seconds as the response's Retry-After header "
        "says; an order with the same Idempotency-Key."
    ),
    "the database does not answer, try again",
)
OVERLOADED = ProblemType(
    "overloaded",
    503,
    N_("Too many orders at the moment"),
    N_("More orders are unfinished than can be served in an acceptable time. Nothing has been ordered."),
    N_("More is ordered than the services can process; or one of them is down, and orders wait for it."),
    N_(
        "Send the same order again, with the same Idempotency-Key, after as many seconds as the response's Retry-After"
        " header says. Everything but placing orders goes on."
    ),
    "too much is waiting to be served, try again in 12 s",
    facts=(("retry_after", 12),),
)
NOT_READY = ProblemType(
    "not-ready",
    503,
    N_("Not ready"),
    N_("This process runs, but something that it depends on does not respond."),
    N_("Only at /readyz, for load balancers and administrators."),
    N_("Send requests elsewhere until it is ready."),
    "broker does not answer",
    "/readyz",
    facts=(("database", "ok"), ("broker", "no answer")),
)

ALL = {declared.slug: declared for declared in list(vars().values()) if isinstance(declared, ProblemType)}
"""All problem types by slug."""

_BY_STATUS = {problem_type.status: problem_type for problem_type in reversed(ALL.values())}
"""The first, most general problem type of each status."""


def of(error: Exception) -> ProblemType:
    """Return the problem type of an error."""
    match error:
        case errors.PriceMismatch():
            return PRICE_DIFFERS
        case errors.Overloaded():
            return OVERLOADED
        case errors.RequestError():
            return with_status(error.status)
        case HTTPException():
            return with_status(error.code or 500)
        case errors.DatabaseUnavailable():
            return UNAVAILABLE
    return INTERNAL


def with_status(status: int) -> ProblemType:
    """Return the problem type of a status; the most general one if there are several."""
    return _BY_STATUS.get(status, BAD_REQUEST if 400 <= status < 500 else INTERNAL)
