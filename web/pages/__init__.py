"""The HTML pages. They work without JavaScript; scripts only save reloads."""

from flask import Blueprint
from flask_babel import lazy_gettext as _
from markupsafe import Markup

from web.diagrams import sequence
from web.pages import catalogue, compare, learn, live, operate, problem_types, saga, sagas, shop, stuck
from web.saga_view import icons
from web.text import duration

blueprint = Blueprint("pages", __name__)
for page in (shop, learn, sagas, saga, compare, live, catalogue, operate, stuck, problem_types):
    blueprint.register_blueprint(page.blueprint)

SITE = (
    ("pages.shop.home", _("Order")),
    ("pages.sagas.index", _("All sagas")),
    ("pages.catalogue.index", _("Catalogue")),
    ("pages.learn.index", _("Learn")),
)
"""The navigation links of every page: endpoint and label."""

blueprint.add_app_template_filter(duration)


@blueprint.app_template_filter("isolated")
def isolated(name: str) -> Markup:
    """Return user-written text isolated (``<bdi>``), so that its direction does not reorder the text around it."""
    return Markup("<bdi>{}</bdi>").format(name)


@blueprint.app_context_processor
def _vocabulary() -> dict[str, object]:
    return {
        "saga_mark": icons.of_saga,
        "operation_mark": icons.of_operation,
        "delivery_mark": sequence.mark_of,
        "site_pages": lambda: SITE,
    }
