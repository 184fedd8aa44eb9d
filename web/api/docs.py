"""The API's documentation: a page of ours around Swagger UI, at ``/openapi/swagger``."""

from flask import Blueprint, Flask, redirect, url_for
from werkzeug.wrappers import Response

blueprint = Blueprint("api_docs", __name__)


def register(app: Flask) -> None:
    """Have the documentation shown by a template of ours: the one that comes with it has its script in the page."""
    app.config["SWAGGER_HTML_STRING"] = '{% include "api_docs.html" %}'
    app.config["OPENAPI_HTML_STRING"] = app.config["SWAGGER_HTML_STRING"]  # a choice of one is none
    app.register_blueprint(blueprint)


@blueprint.get("/docs")
def show() -> Response:
    """Lead to the documentation."""
    return redirect(url_for("swagger.swagger"))
