"""The web: a JSON API, the seeds' short paths, GraphQL, and pages for people. Views parse, call workflows and render.

===============================  ====================================================================================
what is answered
``api_*``, ``short_paths``       the API, and the seeds' own addresses; ``health``, ``api_docs`` with ``samples``
``graphql/``                     the same by GraphQL
``pages/``                       what people see, a module each, with ``templates/``, ``static/`` and ``translations/``
what is asked
``requests``, ``fields``         how a body is read, and the kinds of values in it
``schemas``, ``cursors``         what the API is told; ``placing`` places an order, whichever way it came
``*_form``                       what the pages' forms are told
what is said
``replies``, ``presenters``      what the API tells; ``seed_forms`` the forms of the short paths
``problems``, ``problem_types``  what it and the pages tell of an error
``whole_answers``                how gunicorn writes all of it: see ``gunicorn.conf.py``
``language``                     in which language; ``durations``, ``glyphs`` and ``ways`` are words for people
a saga told to people
``story``                        all of it, put together; ``telling`` says in a sentence what it is doing
``requests_to_saga``             what may be asked of it, and why the rest may not
``comparing``                    two of them, step by step
``drawing/``                     where everything stands in the diagrams
``live``, ``hearing``            the streams that keep a page up to date, and who tells them when to look
who may what
``operators``, ``security``      login and token; forms, sessions and headers; ``rate_limits`` of wrong passwords
who watches
``metrics``, ``traced``          what Prometheus fetches; requests as spans
===============================  ====================================================================================
"""

from secrets import token_urlsafe
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

from flask import Flask, Request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.routing import RequestRedirect

import workflows  # noqa: F401  (declares every saga, so that orders can be started and sagas be moved)
from app import installation, runtime
from app.celery import app as celery
from app.http_limits import LARGEST_BODY
from app.runtime import Runtime
from app.settings import Settings
from web import (
    api_docs,
    api_inventory,
    api_orders,
    api_sagas,
    health,
    language,
    metrics,
    operators,
    pages,
    problems,
    security,
    short_paths,
    traced,
)
from web.graphql import view as graphql
from web.requests import StrictRequest, refuse_repetition

API = (api_orders, api_sagas, api_inventory, short_paths, health, metrics)
"""What takes JSON only, and so needs no token in a form."""


class Web(OpenAPI):
    """The Flask app; its API is documented at ``/openapi/swagger`` and ``/openapi/openapi.json``."""

    request_class = StrictRequest
    _secret_key: str | None = None

    @property
    def secret_key(self) -> str:  # type: ignore[override]
        """What sessions and forms are signed with: read when it is first needed, for it may lie in the database."""
        if self._secret_key is None:
            configured = runtime.current().settings.secret_key
            kept = configured.get_secret_value() if configured else installation.value_or("secret_key", token_urlsafe)
            self._secret_key = kept
        return self._secret_key

    def raise_routing_exception(self, request: Request) -> NoReturn:
        """Answer an address with too many slashes, or one too few, by a redirect to a path, whatever host was asked."""
        if isinstance(request.routing_exception, RequestRedirect):
            url = urlsplit(request.routing_exception.new_url)
            # two slashes at the beginning would lead to another host
            path = "/" + url.path.lstrip("/")
            request.routing_exception.new_url = urlunsplit(("", "", path, url.query, ""))
        super().raise_routing_exception(request)


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI app, serving this process's runtime, or one of these settings."""
    if settings is not None:
        runtime.use(Runtime(settings))
    # Celery's current app is a thread's own: those that the server starts must find this one
    celery.set_default()
    app = Web(
        __name__,
        info=Info(title="CloudMart", version="1.0.0", description="Orders as sagas, orchestrated and choreographed."),
        security_schemes=operators.SECURITY_SCHEMES,
        validation_error_model=problems.Problem,
        validation_error_callback=problems.refuse_fields,
    )
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = LARGEST_BODY
    traced.register(app)
    security.register(app, without_forms=[graphql.blueprint, *(module.api for module in API)])
    app.before_request(refuse_repetition)
    language.register(app)
    api_docs.register(app)
    problems.register(app)
    for module in API:
        app.register_api(module.api)
    app.register_blueprint(graphql.blueprint)
    app.register_blueprint(pages.blueprint)
    pages.live.register(app)
    metrics.register(app)
    operators.register(app)
    return app
