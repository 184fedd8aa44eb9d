"""Operating: logging in and out, and every act on a saga with a page that says what it will do before it is done."""

from flask import Blueprint, redirect, render_template, request, url_for
from flask_babel import gettext
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from web import operators
from web.fields import is_storable, own_path
from workflows import operator_password

blueprint = Blueprint("operate", __name__)

LONGEST_NAME = 200

Page = str | tuple[str, int] | Response


@blueprint.route("/operator/login", methods=["GET", "POST"])
def log_in() -> Page:
    """Show the login, and let in who has the password; they go on to where they wanted to go."""
    onward = own_path(request.values.get("next", "")) or url_for("pages.shop.home")
    if request.method == "GET":
        return redirect(onward, 303) if current_user.is_authenticated else _login(onward)
    name = request.form.get("name", "").strip()
    if not 1 <= len(name) <= LONGEST_NAME or not is_storable(name):
        return _login(onward, name, name=gettext("Say who you are, in 1 to 200 characters.")), 422
    if not operators.log_in(name, request.form.get("password", "")):
        return _login(onward, name, password=gettext("This is not the password.")), 403
    return redirect(onward, 303)


@blueprint.post("/operator/logout")
@login_required  # type: ignore[untyped-decorator]
def log_out() -> Page:
    """End the operator's session."""
    operators.log_out()
    return redirect(url_for("pages.shop.home"), 303)


def _login(onward: str, entered: str = "", **complaints: str) -> str:
    return render_template(
        "login.html",
        next=onward,
        name=entered,
        complaints=complaints,
        password_exists=operator_password.exists(),
    )
