"""Who may operate: people who have logged in, and programs that carry the token."""

import math
import time
from collections.abc import Callable, Sequence
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address
from typing import Any, Self, TypeVar

from flask import Flask, Response, current_app, redirect, request, session, url_for
from flask_babel import gettext
from flask_httpauth import HTTPTokenAuth
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_openapi3.models.security_scheme import SecurityScheme
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import TooManyRequests

from app import runtime
from app.errors import DatabaseUnavailable, Unauthorized
from app.settings import is_loopback
from web import problem_types, problems
from web.auth.rate_limits import Limit, RateLimiter
from web.auth.security import SAFE, SESSION_SECONDS
from workflows.operations import operator_password

SECURITY_SCHEMES: dict[str, SecurityScheme | dict[str, Any]] = {
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "The OPERATOR_TOKEN of the settings. The embedded default without one asks for none on the "
        "machine that it runs on.",
    }
}
OPERATOR_ONLY: list[dict[str, list[Any]]] = [{"operator": []}]
"""An operation's ``security`` in the OpenAPI document."""

ADDRESS_ATTEMPTS = 5
"""How many wrong passwords are answered per minute to one address."""
ACCOUNT_ATTEMPTS = 100
"""How many to all addresses together: operators share one password, so one account.

It is much higher than an address's, because no operator can log in once it is exceeded.
"""
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""What a proxy says of a request that it did not make itself."""

LOGIN = "pages.operate.log_in"
EXTENSION = "login attempts"

View = TypeVar("View", bound=Callable[..., Any])

_tokens = HTTPTokenAuth("Bearer", realm="CloudMart operators")


class Operator(UserMixin):  # type: ignore[misc]
    """Somebody who has logged in, by the name that they gave, for as long as the password stays the same."""

    def __init__(self, name: str, since: int, mark: str) -> None:
        self.name = name
        self.since = since
        self.mark = mark

    def get_id(self) -> str:
        """Return what the session keeps."""
        return f"{self.since}:{self.mark}:{self.name}"

    @classmethod
    def of_session(cls, kept: str) -> Self | None:
        """Return who a session is of; None if it has ended."""
        since, _, rest = kept.partition(":")
        mark, _, name = rest.partition(":")
        if not since.isdigit() or time.time() - int(since) > SESSION_SECONDS:
            return None
        try:
            now = operator_password.mark(_key())
        except (DatabaseUnavailable, SQLAlchemyError):
            return None  # who it is cannot be known now; the page that says so must not fail at that
        return cls(name, int(since), mark) if now and compare_digest(now, mark) else None


def register(app: Flask) -> None:
    """Have operators told from everybody else, and passwords not be guessed by trying."""
    manager = LoginManager(app)
    manager.session_protection = None  # an address may change on the way; the cookie is what shows who it is
    manager.user_loader(Operator.of_session)
    manager.unauthorized_handler(_to_login)
    app.before_request(_refuse_programs)
    app.register_error_handler(Unauthorized, _unauthorized)
    app.extensions[EXTENSION] = RateLimiter(runtime.current().settings.shared_redis)


def log_in(name: str, password: str) -> bool:
    """Begin an operator's session if the password is right; return whether it is.

    Raises TooManyRequests, whatever the password is, where too many wrong ones were tried.
    """
    attempts: RateLimiter = current_app.extensions[EXTENSION]
    limits = _limits()
    # counted before the password is checked: of guesses sent in parallel no more are answered than of others
    if wait := attempts.acquire(limits):
        detail = gettext("Too many wrong passwords were tried. Wait a minute, then try again.")
        raise TooManyRequests(detail, retry_after=math.ceil(wait))
    if not operator_password.is_right(password):
        return False
    attempts.release(limits)
    mark = operator_password.mark(_key())
    assert mark is not None  # there is a password: it was right
    session.clear()  # nothing that somebody else may have put there goes on
    session.permanent = True
    login_user(Operator(name, int(time.time()), mark))
    return True


def log_out() -> None:
    """End the operator's session."""
    logout_user()
    session.clear()


def name_of_operator() -> str:
    """Return who has logged in."""
    return str(current_user.name)


def for_operators(view: View) -> View:
    """Have a view of the API answer only to operators. It goes right above the function, below its route."""
    view.for_operators = True  # type: ignore[attr-defined]
    return view


def require_operator() -> None:
    """Raise Unauthorized unless the request carries the operators' token, or may do without."""
    settings = runtime.current().settings
    if settings.operator_token is not None:
        given = _tokens.get_auth()
        if given is None or not _equal(given.token or "", settings.operator_token.get_secret_value()):
            raise Unauthorized("this is an operator's call: send Authorization: Bearer and the OPERATOR_TOKEN")
    elif not (settings.private and _comes_from_this_machine()):
        raise Unauthorized("this is an operator's call, and no OPERATOR_TOKEN is set here: set one, and send it")


def name_of_program() -> str:
    """Return who a call of the API is recorded as."""
    return "API token" if runtime.current().settings.operator_token else "API, without a token"


def _refuse_programs() -> None:
    # before the view reads the request: a stranger learns nothing of what it would have said
    view = current_app.view_functions.get(request.endpoint or "")
    if getattr(view, "for_operators", False):
        require_operator()


def _unauthorized(error: Unauthorized) -> Response:
    response = problems.problem(problem_types.UNAUTHORIZED, error.detail)
    response.headers["WWW-Authenticate"] = _tokens.authenticate_header()
    return response


def _comes_from_this_machine() -> bool:
    # a server may have been bound elsewhere than HOST says, or a proxy that nobody told of stand before it
    return is_loopback(request.remote_addr or "") and not any(name in request.headers for name in FORWARDED)


def _to_login() -> Response:
    wanted = request.full_path.rstrip("?") if request.method in SAFE else request.path
    return _plain(redirect(url_for(LOGIN, next=wanted), 303))


def _limits() -> Sequence[Limit]:
    return Limit(f"login:{_address()}", ADDRESS_ATTEMPTS), Limit("login", ACCOUNT_ATTEMPTS)


def _address() -> str:
    """Return what attempts are counted by: an address, or the network that one subscriber has of IPv6."""
    address = request.remote_addr or "unknown"
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address):
        return str(known.ipv4_mapped or known.exploded[:19])
    return address


def _equal(given: str, wanted: str) -> bool:
    return compare_digest(given.encode(errors="surrogateescape"), wanted.encode())


def _key() -> str:
    return str(current_app.secret_key)


def _plain(response: Any) -> Response:
    return Response(response.response, response.status, response.headers)
