"""The event stream behind a live page; ``static/live.js`` listens to it."""

from collections.abc import Iterable
from typing import cast

from flask import Blueprint, Flask, Response, current_app, request
from flask_babel import get_locale, gettext

from app import runtime
from app.errors import DatabaseUnavailable
from web.live import stream
from web.live.stream import Live, Reader, Snapshot
from web.pages import saga as saga_page
from web.saga_view import icons
from workflows.read_side import versions
from workflows.read_side.versions import Version

blueprint = Blueprint("live", __name__, url_prefix="/sagas")

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second: nginx must not hold messages back


def register(app: Flask) -> None:
    """Let half of the server's threads serve streams."""
    most = runtime.current().settings.web_threads // 2
    app.extensions["live"] = Live(app, most, _render)


@blueprint.get("/<saga_id>/live")
def saga(saga_id: str) -> Response:
    """Send a saga's live part whenever it has changed, beginning with what the reader has not seen yet."""
    streams = cast(Live, current_app.extensions["live"])
    # a browser says what it saw last only when it comes back; at first the page says what it was made from
    seen = request.headers.get("Last-Event-ID") or request.args.get("seen")
    try:
        found = versions.version(saga_id)
    except DatabaseUnavailable:
        # any other status than 200 would be the last that the browser asks
        return _stream([streams.later()])
    if found.settled and found.tag == seen:
        return Response(status=204, headers=HEADERS)
    if request.environ["REQUEST_METHOD"] == "HEAD":  # to every view HEAD looks like GET
        return _stream([])
    reader = Reader(saga_id, str(get_locale()), seen, stream.gone_of(request.environ))
    return _stream(streams.stream(reader, found))


def _stream(messages: Iterable[bytes]) -> Response:
    return Response(messages, mimetype="text/event-stream", headers=HEADERS)


def _render(saga_id: str, found: Version) -> Snapshot:
    word = icons.of_saga(found.status).word
    words = gettext("%(status)s: %(step)s", status=word, step=found.current_step) if found.current_step else str(word)
    return Snapshot(saga_page.live_part(saga_id), words)
