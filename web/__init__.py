"""The web: a JSON API, the seeds' short paths, GraphQL, and HTML pages. Views parse, call workflows and render.

=============================  ======================================================================================
``api/``                       the API and the seeds' paths: views, ``requests``, ``responses``, ``serializers``, docs
``graphql/``                   the same by GraphQL
``pages/``                     the pages, a module each, with ``templates/``, ``static/`` and ``translations/``
``forms/``                     the values and the errors of the pages' forms
``saga_view/``                 view models of a saga: details, status text, icons, actions, comparison of two sagas
``diagrams/``                  the layout of the diagrams
``live/``                      server-sent events that keep pages up to date
``auth/``                      logins and tokens, CSRF protection, sessions and headers, rate limits
``json_body``, ``fields``      strict parsing of bodies, field types; ``cursors`` of paginated lists
``order_placement``            places an order for each of these
``problems``                   errors as RFC 9457 problems; ``problem_types`` lists them
``i18n``, ``text``             the user's language, durations; ``gunicorn_response``: how gunicorn sends responses
``health``, ``metrics``        endpoints for orchestrators and Prometheus; ``tracing``: requests as spans
=============================  ======================================================================================
"""

from functools import cached_property
from secrets import token_urlsafe
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

from flask import Flask, Request
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from werkzeug.routing import RequestRedirect

import workflows  # noqa: F401  (declares every saga, so that orders can be started and sagas be moved)
from app import runtime
from app.celery import app as celery
from app.database import stored_values
from app.http_server.limits import MAX_REQUEST_BODY_BYTES
from app.runtime import Runtime
from app.settings import Settings
from web import health, i18n, metrics, pages, problems, tracing
from web.api import docs, inventory, orders, sagas, seed_paths
from web.auth import operators, security
from web.graphql import view as graphql
from web.json_body import StrictRequest, refuse_repetition

API = (orders, sagas, inventory, seed_paths, health, metrics)
"""The modules that accept only JSON, and so need no CSRF token."""


class Web(OpenAPI):
    """The Flask app; its API is documented at ``/openapi/swagger`` and ``/openapi/openapi.json``."""

    request_class = StrictRequest

    @cached_property
    def secret_key(self) -> str:  # type: ignore[override]
        """The key that signs sessions and form tokens; read on first use, because it may be stored in the database."""
        configured = runtime.current().settings.secret_key
        return configured.get_secret_value() if configured else stored_values.get_or_create("secret_key", token_urlsafe)

    def raise_routing_exception(self, request: Request) -> NoReturn:
        """Redirect URLs with superfluous or missing slashes to a path without a host, whatever Host was requested."""
        if isinstance(request.routing_exception, RequestRedirect):
            url = urlsplit(request.routing_exception.new_url)
            # a Location that begins with two slashes names another host
            path = "/" + url.path.lstrip("/")
            request.routing_exception.new_url = urlunsplit(("", "", path, url.query, ""))
        super().raise_routing_exception(request)


def create_app(settings: Settings | None = None) -> Flask:
    """Return the WSGI app for this process's runtime, or for a new one with the given settings."""
    if settings is not None:
        runtime.use(Runtime(settings))
    # Celery's current app is thread-local; the default app is the one that the server's threads see
    celery.set_default()
    app = Web(
        __name__,
        info=Info(title="CloudMart", version="1.0.0", description="Orders as sagas, orchestrated and choreographed."),
        security_schemes=operators.SECURITY_SCHEMES,
        validation_error_model=problems.Problem,
        validation_error_callback=problems.raise_validation_problem,
    )
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = MAX_REQUEST_BODY_BYTES
    tracing.register(app)
    security.register(app, without_forms=[graphql.blueprint, *(module.api for module in API)])
    app.before_request(refuse_repetition)
    i18n.register(app)
    docs.register(app)
    problems.register(app)
    for module in API:
        app.register_api(module.api)
    app.register_blueprint(graphql.blueprint)
    app.register_blueprint(pages.blueprint)
    pages.live.register(app)
    metrics.register(app)
    operators.register(app)
    return app
