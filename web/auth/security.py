"""Protect forms against CSRF, sign sessions, check hosts and origins, and set security headers."""

import logging
import re
from collections.abc import Iterable

from flask import Blueprint, Flask, Request, Response, render_template, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_login import current_user
from flask_wtf.csrf import CSRFError, CSRFProtect, generate_csrf
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.middleware.proxy_fix import ProxyFix

from app import runtime
from app.errors import DatabaseUnavailable, Forbidden
from web import problem_types, problems

logger = logging.getLogger(__name__)

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PAGES = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
# Swagger UI's styles contain images as data URLs
DOCUMENTATION = PAGES.replace("img-src 'self'", "img-src 'self' data:")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
A_YEAR = "max-age=31536000"
SESSION_SECONDS = 12 * 3600
NEVER_SHOWN_AGAIN = frozenset({"csrf_token", "password"})


class Sessions(SecureCookieSessionInterface):
    """Sessions in a signed cookie. The key is read only if there is a cookie to verify or a session to sign."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Return the request's session; an empty one if the request has none, or if the key cannot be read."""
        if not request.cookies.get(self.get_cookie_name(app)):
            return self.session_class()
        try:
            return super().open_session(app, request)
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            # requests that need no session still work; the others are refused for the missing one
            logger.warning("the session's key could not be read", extra={"reason": error})
            return self.session_class()

    def get_cookie_secure(self, app: Flask) -> bool:  # noqa: ARG002
        """Return whether the cookie is restricted to HTTPS: if it is set by an HTTPS response."""
        return request.is_secure


def register(app: Flask, *, without_forms: Iterable[Blueprint]) -> None:
    """Protect every form, session and response of the app.

    ``without_forms`` are exempt from CSRF tokens: they accept only JSON, which a page of another site cannot send.
    """
    if proxies := runtime.current().settings.proxies:
        # Each proxy appends its client's address; the outermost one sets the scheme, and the others forward it.
        # X-Forwarded-Host is not trusted: a proxy that keeps Host may forward one that a page has set.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=1, x_host=0)  # type: ignore[method-assign]
    app.config.update(
        SESSION_COOKIE_NAME="cloudmart",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
        PERMANENT_SESSION_LIFETIME=SESSION_SECONDS,
        WTF_CSRF_TIME_LIMIT=None,  # a form stays valid as long as its session, for slow customers
        WTF_CSRF_SSL_STRICT=False,  # it rejects browsers without Referer; the origin is checked here instead
    )
    app.session_interface = Sessions()
    app.before_request(_refuse_unknown_hosts)
    app.before_request(_refuse_other_sites)
    forms = CSRFProtect(app)
    for blueprint in without_forms:
        forms.exempt(blueprint)
    app.register_error_handler(CSRFError, _too_old)
    app.jinja_env.globals["csrf_token"] = form_token
    app.after_request(_protect)


def form_token() -> str:
    """Return the CSRF token that every form must carry; an empty one while the signing key cannot be read.

    The page that reports the unavailable database has forms as well, and must still be rendered.
    """
    try:
        return str(generate_csrf())
    except (DatabaseUnavailable, SQLAlchemyError):
        return ""


def _refuse_unknown_hosts() -> Response | None:
    """Refuse a request whose Host is not one of this shop.

    Against DNS rebinding: to the browser, a page whose host name was re-pointed to this machine has the same origin.
    Requests without Host pass: browsers always send one.
    """
    if "HTTP_HOST" not in request.environ:
        return None
    name = re.sub(r":\d+$", "", request.host).strip("[]").lower()
    if runtime.current().settings.knows_host(name):
        return None
    detail = "the request's Host is not known here: ask by one of this shop's names, or add it to ALLOWED_HOSTS"
    return problems.problem(problem_types.BAD_REQUEST, detail, never_page=True)


def _refuse_other_sites() -> None:
    if request.method not in SAFE and _from_elsewhere() is True:
        raise Forbidden("requests from pages of other sites are refused")


def _from_elsewhere() -> bool | None:
    """Return whether a page of another site sent the request; None if its headers do not show the origin."""
    # browsers set these headers and pages cannot; a request without either is no cross-site request of a browser
    fetch_site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if fetch_site is not None:
        return fetch_site not in {"same-origin", "none"}
    return origin.partition("://")[2] != request.host if origin is not None else None


def _too_old(error: CSRFError) -> Response:
    """Render a page that reports the invalid CSRF token, and offers to resend the entered values.

    It does so only if the browser's headers show that the form came from one of our pages: otherwise another site
    could have filled in the form.
    """
    logger.info("a form was refused", extra={"reason": error.description})
    own = _from_elsewhere() is False
    shown = [(name, text) for name, text in request.form.items(multi=True) if name not in NEVER_SHOWN_AGAIN]
    page = render_template(
        "form_too_old.html",
        values=shown if own else (),
        again=request.path if own and "password" not in request.form else None,
    )
    return Response(page, 400, mimetype="text/html")


def _protect(response: Response) -> Response:
    page = response.mimetype == "text/html"
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Content-Security-Policy"] = (
        NO_PAGE if not page else DOCUMENTATION if request.path.startswith("/openapi") else PAGES
    )
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = A_YEAR
    if page:
        response.cache_control.private = True  # its forms carry a session's CSRF token
        if current_user.is_authenticated:
            response.cache_control.no_store = True
    return response
