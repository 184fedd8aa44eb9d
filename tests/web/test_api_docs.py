"""The documentation's page loads nothing from elsewhere, and asks for no more trust than any other page."""

import re

import pytest
from flask.testing import FlaskClient

FETCHED = re.compile(
    r"""(?:\bsrc|\bhref|\baction|\bposter|\bdata)\s*=\s*["'](https?:)?//"""  # what a page loads
    r"""|url\(\s*["']?(https?:)?//|@import"""  # what a style loads
    r"""|(?:fetch|importScripts|import)\(\s*["'`](https?:)?//"""  # what a script loads
)


@pytest.fixture
def page(client: FlaskClient) -> str:
    response = client.get("/docs", follow_redirects=True)
    assert (response.status_code, response.mimetype) == (200, "text/html")
    assert response.request.path == "/openapi/swagger"
    return response.text


def loaded(page: str) -> list[str]:
    """Return what a page loads: scripts, styles and images."""
    return re.findall(r'<(?:script|img)[^>]*\bsrc="([^"]+)"|', page) + re.findall(r'<link[^>]*\bhref="([^"]+)"', page)


def test_all_that_the_page_loads_is_served_from_here(client: FlaskClient, page: str) -> None:
    files = [link for link in loaded(page) if link]

    assert len(files) >= 5
    for link in files:
        assert re.match(r"/[^/]", link), link
        with client.get(link) as file:
            assert file.status_code == 200, link
            found = FETCHED.search(file.get_data(as_text=True))
            assert not found or link.endswith(".js"), (link, found)


def test_the_page_has_no_script_or_style_of_its_own_and_its_policy_allows_none(client: FlaskClient, page: str) -> None:
    policy = client.get("/openapi/swagger").headers["Content-Security-Policy"]

    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=", page)
    assert not FETCHED.search(page)
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"unsafe|http|\*", policy)
    # Swagger UI knows the address of a validator elsewhere, and would load a badge from there
    with client.get("/static/api_docs.js") as script:
        assert "validatorUrl: null" in script.get_data(as_text=True)
        assert not re.search(r"https?:", script.get_data(as_text=True))


def test_it_leads_to_the_document_to_graphql_and_to_the_errors(client: FlaskClient, page: str) -> None:
    for link in ("/openapi/openapi.json", "/graphql", "/problems"):
        assert f'href="{link}"' in page
        assert client.get(link, headers={"Accept": "text/html"}).status_code == 200
    # where one would choose between pages there is the one
    assert client.get("/openapi/").text.replace("/openapi/?", "/openapi/swagger?").count("api_docs.js") == 1
