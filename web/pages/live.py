"""Serve the event stream of a live page, which ``static/live.js`` reads."""

from collections.abc import Iterable
from typing import cast

from flask import Blueprint, Flask, Response, current_app, request
from flask_babel import get_locale, gettext

from app import runtime
from app.errors import DatabaseUnavailable
from web.live import stream
from web.live.stream import Client, Live, Snapshot
from web.pages import saga as saga_page
from web.saga_view import icons
from workflows.read_side import versions
from workflows.read_side.versions import Version

blueprint = Blueprint("live", __name__, url_prefix="/sagas")

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second: nginx must not buffer messages


def register(app: Flask) -> None:
    """Set up the streams, which may use half of the server's threads."""
    max_streams = runtime.current().settings.web_threads // 2
    app.extensions["live"] = Live(app, max_streams, _render)


@blueprint.get("/<saga_id>/live")
def saga(saga_id: str) -> Response:
    """Stream a saga's live part whenever it has changed, starting with a version that the client has not seen."""
    streams = cast(Live, current_app.extensions["live"])
    # browsers send Last-Event-ID only on reconnect; the first request has the page's version in its query
    seen = request.headers.get("Last-Event-ID") or request.args.get("seen")
    try:
        found = versions.version(saga_id)
    except DatabaseUnavailable:
        # browsers do not reconnect after any status other than 200
        return _stream([streams.retry_later()])
    if found.final and found.tag == seen:
        return Response(status=204, headers=HEADERS)
    if request.environ["REQUEST_METHOD"] == "HEAD":  # request.method is GET for HEAD, see StrictRequest
        return _stream([])
    client = Client(saga_id, str(get_locale()), seen, stream.disconnect_check(request.environ))
    return _stream(streams.stream(client, found))


def _stream(messages: Iterable[bytes]) -> Response:
    return Response(messages, mimetype="text/event-stream", headers=HEADERS)


def _render(saga_id: str, found: Version) -> Snapshot:
    word = icons.of_saga(found.status).word
    summary = gettext("%(status)s: %(step)s", status=word, step=found.current_step) if found.current_step else str(word)
    return Snapshot(saga_page.live_part(saga_id), summary)
