"""Serve the API documentation: Swagger UI in a page of our own, at ``/openapi/swagger``."""

from flask import Blueprint, Flask, redirect, url_for
from werkzeug.wrappers import Response

blueprint = Blueprint("api_docs", __name__)


def register(app: Flask) -> None:
    """Render the documentation with our own template: the library's has an inline script, which our CSP forbids."""
    app.config["SWAGGER_HTML_STRING"] = '{% include "api_docs.html" %}'
    app.config["OPENAPI_HTML_STRING"] = app.config["SWAGGER_HTML_STRING"]  # with one UI there is nothing to choose from
    app.register_blueprint(blueprint)


@blueprint.get("/docs")
def show() -> Response:
    """Redirect to the documentation."""
    return redirect(url_for("swagger.swagger"))
