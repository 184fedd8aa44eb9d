"""Who may make a browser change something here: our own pages, and headers that keep others out."""

from flask import Flask, Response, request

from app.errors import Forbidden

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def register(app: Flask) -> None:
    """Have cross-site requests that change something refused, and pages kept to our own files."""
    app.before_request(_refuse_other_sites)
    app.after_request(_protect)


def _refuse_other_sites() -> None:
    if request.method in SAFE:
        return
    # browsers set these headers and pages cannot; whoever sends neither is no browser acting for another site
    fetch_site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    if fetch_site is not None:
        foreign = fetch_site not in {"same-origin", "none"}
    else:
        foreign = origin is not None and origin.partition("://")[2] != request.host
    if foreign:
        raise Forbidden("requests from pages of other sites are refused")


def _protect(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    # the API's documentation has scripts of its own, served from here
    if response.mimetype == "text/html" and not request.path.startswith("/openapi"):
        response.headers["Content-Security-Policy"] = POLICY
    return response
