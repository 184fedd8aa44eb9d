"""Authenticate operators: people by a login, programs by a bearer token."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address
from typing import Any, Self, TypeVar, cast

from flask import Flask, Response, current_app, redirect, request, session, url_for
from flask_babel import gettext
from flask_httpauth import HTTPTokenAuth
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_openapi3.models.security_scheme import SecurityScheme
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import TooManyRequests
from werkzeug.wrappers import Response as WerkzeugResponse

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

ADDRESS_ATTEMPTS = 5
"""The wrong passwords per minute that one address may try."""
ACCOUNT_ATTEMPTS = 100
"""The wrong passwords per minute that all addresses together may try: operators share one password, so one account.

It is much higher than the limit of an address, because no operator can log in once it is exceeded.
"""
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""The headers that proxies add to forwarded requests."""

EXTENSION = "login attempts"

View = TypeVar("View", bound=Callable[..., Any])

_tokens = HTTPTokenAuth("Bearer", realm="CloudMart operators")


@dataclass(eq=False)
class Operator(UserMixin):  # type: ignore[misc]
    """A logged-in operator, identified by the name entered; valid as long as the password stays the same."""

    name: str
    since: int
    fingerprint: str

    def get_id(self) -> str:
        """Return the value that the session stores."""
        return f"{self.since}:{self.fingerprint}:{self.name}"

    @classmethod
    def of_session(cls, stored: str) -> Self | None:
        """Return the operator of a session's stored value; None if the session has expired or cannot be verified."""
        since, _, rest = stored.partition(":")
        fingerprint, _, name = rest.partition(":")
        if not since.isdigit() or time.time() - int(since) > SESSION_SECONDS:
            return None
        try:
            now = operator_password.fingerprint(str(current_app.secret_key))
        except (DatabaseUnavailable, SQLAlchemyError):
            return None  # not verifiable now; the page that reports the database's failure must still be rendered
        return cls(name, int(since), fingerprint) if now and compare_digest(now, fingerprint) else None


def register(app: Flask) -> None:
    """Set up operator logins and tokens, and the rate limit on wrong passwords."""
    manager = LoginManager(app)
    manager.session_protection = None  # a client's address may change; the signed cookie identifies the operator
    manager.user_loader(Operator.of_session)
    manager.unauthorized_handler(_to_login)
    app.before_request(_refuse_programs)
    app.register_error_handler(Unauthorized, _unauthorized)
    app.extensions[EXTENSION] = RateLimiter(runtime.current().settings.shared_redis)


def log_in(name: str, password: str) -> bool:
    """Begin an operator's session if the password is right; return whether it is.

    Raises TooManyRequests, even for the right password, if too many wrong ones were tried.
    """
    attempts: RateLimiter = current_app.extensions[EXTENSION]
    limits = Limit(f"login:{_address()}", ADDRESS_ATTEMPTS), Limit("login", ACCOUNT_ATTEMPTS)
    # counted before the password is checked: otherwise parallel guesses could exceed the limit
    if wait := attempts.acquire(limits):
        detail = gettext("Too many wrong passwords were tried. Wait a minute, then try again.")
        raise TooManyRequests(detail, retry_after=math.ceil(wait))
    if not operator_password.verify(password):
        return False
    attempts.release(limits)
    fingerprint = operator_password.fingerprint(str(current_app.secret_key))
    assert fingerprint is not None  # there is a password: it was right
    session.clear()  # against session fixation
    session.permanent = True
    login_user(Operator(name, int(time.time()), fingerprint))
    return True


def log_out() -> None:
    """End the operator's session."""
    logout_user()
    session.clear()


def name_of_operator() -> str:
    """Return the name of the logged-in operator."""
    return str(current_user.name)


def for_operators(route: Callable[..., Any], rule: str, responses: Mapping[Any, Any]) -> Callable[[View], View]:
    """Return a decorator that adds a view to the API by ``route``, for operators only, and documented so."""

    def register(view: View) -> View:
        view.for_operators = True  # type: ignore[attr-defined]
        described = {**responses, **problems.responses(401)}
        return cast(View, route(rule, responses=described, security=[{"operator": []}])(view))

    return register


def require_operator() -> None:
    """Raise Unauthorized unless the request carries the operator token.

    Without a configured token, requests from this machine to a private installation are accepted.
    """
    settings = runtime.current().settings
    if settings.operator_token is not None:
        given, expected = _tokens.get_auth(), settings.operator_token.get_secret_value().encode()
        if given is None or not compare_digest((given.token or "").encode(errors="surrogateescape"), expected):
            raise Unauthorized("this is an operator's call: send Authorization: Bearer and the OPERATOR_TOKEN")
    elif not (settings.private and _comes_from_this_machine()):
        raise Unauthorized("this is an operator's call, and no OPERATOR_TOKEN is set here: set one, and send it")


def name_of_program() -> str:
    """Return the name under which an API call is recorded."""
    return "API token" if runtime.current().settings.operator_token else "API, without a token"


def _refuse_programs() -> None:
    # before the view validates the request, so that validation errors are not disclosed to unauthorized clients
    view = current_app.view_functions.get(request.endpoint or "")
    if getattr(view, "for_operators", False):
        require_operator()


def _unauthorized(error: Unauthorized) -> Response:
    response = problems.problem(problem_types.UNAUTHORIZED, error.detail)
    response.headers["WWW-Authenticate"] = _tokens.authenticate_header()
    return response


def _comes_from_this_machine() -> bool:
    # the server may be bound to another address than HOST, or run behind a proxy that is not configured
    return is_loopback(request.remote_addr or "") and not any(name in request.headers for name in FORWARDED)


def _to_login() -> WerkzeugResponse:
    target = request.full_path.rstrip("?") if request.method in SAFE else request.path
    return redirect(url_for("pages.operate.log_in", next=target), 303)


def _address() -> str:
    """Return the key by which attempts are counted: the IPv4 address, or the /64 network of an IPv6 address."""
    address = request.remote_addr or "unknown"
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address):
        return str(known.ipv4_mapped or known.exploded[:19])
    return address
