"""Select the user's language: the one chosen on the page, else the browser's preference."""

from babel import Locale
from flask import Blueprint, Flask, Response, redirect, request, url_for
from flask_babel import Babel, get_locale, gettext
from werkzeug.wrappers import Response as WerkzeugResponse

from app.errors import NotFound
from web.fields import own_path

LANGUAGES = ("en", "ja")
OWN_NAMES = {name: (Locale.parse(name).get_display_name() or name).capitalize() for name in LANGUAGES}
COOKIE = "language"
A_YEAR = 365 * 24 * 3600

blueprint = Blueprint("language", __name__)


def register(app: Flask) -> None:
    """Render every page in the user's language. The message catalogues are in ``web/translations``."""
    Babel(app, locale_selector=select_language)
    app.register_blueprint(blueprint)
    app.context_processor(lambda: {"language": str(get_locale()), "languages": OWN_NAMES})
    app.after_request(_vary_by_language)


def select_language() -> str:
    """Return the language of the response to this request."""
    chosen = request.cookies.get(COOKIE)
    return chosen if chosen in LANGUAGES else request.accept_languages.best_match(LANGUAGES, LANGUAGES[0])


def translate(text: str, **values: object) -> str:
    """Return a text in the user's language, with its placeholders filled in."""
    return str(gettext(text, **values))


@blueprint.post("/language/<name>")
def choose(name: str) -> WerkzeugResponse:
    """Store the user's choice in a cookie, and redirect back to the page."""
    if name not in LANGUAGES:
        raise NotFound(f"there are no pages in {name}")
    response = redirect(own_path(request.form.get("back", "")) or url_for("pages.shop.home"), 303)
    response.set_cookie(COOKIE, name, max_age=A_YEAR, samesite="Lax", httponly=True, secure=request.is_secure)
    return response


def _vary_by_language(response: Response) -> Response:
    if response.mimetype == "text/html":
        response.vary.update(("Accept-Language", "Cookie"))
    return response
