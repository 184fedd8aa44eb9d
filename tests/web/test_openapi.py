"""The API's description, and its page, which loads nothing from elsewhere and asks for no more trust than others."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import TypeAdapter

from tests.testkit.web import get
from web.api import responses
from web.problem_types import ALL
from web.problems import Problem

OPERATIONS = {"get", "post", "patch", "delete", "put"}
PAGES = ("pages.", "graphql.", "api_docs.", "language.", "openapi.", "swagger.", "static")


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    return get(client, "/openapi/openapi.json")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Return path, method and description of every operation."""
    for path, item in document["paths"].items():
        for method in OPERATIONS & set(item):
            yield path, method, item[method]


def test_every_route_of_the_api_is_described(flask_app: Flask, document: dict[str, Any]) -> None:
    routed = {
        (re.sub(r"<(.+?)>", r"{\1}", rule.rule), method.lower())
        for rule in flask_app.url_map.iter_rules()
        if not rule.endpoint.startswith(PAGES)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }

    assert len(routed) > 20
    assert {(path, method) for path, method, _ in operations(document)} == routed


def test_every_operation_says_what_it_takes_and_what_it_answers_well_and_badly(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        declared = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert declared == set(re.findall(r"\{(.+?)\}", path))
        good = [status for status in operation["responses"] if status.startswith("2")]
        assert len(good) == 1, (method, path)
        media_type = "text/plain" if path == "/metrics" else "application/json"
        assert "schema" in operation["responses"][good[0]]["content"][media_type]
        assert operation["summary"]
        problems = {
            status: response["content"]["application/problem+json"]["example"]
            for status, response in operation["responses"].items()
            if "application/problem+json" in response["content"]
        }
        assert {"422", "500", "503"} <= set(problems), (method, path)
        for status, example in problems.items():
            assert example["status"] == int(status)
            assert Problem.model_validate(example).type in {kind.reference for kind in ALL.values()}
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_every_request_and_every_field_of_an_answer_has_an_example_that_fits(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    bodies = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for _, _, operation in operations(document)
        if "requestBody" in operation
    }

    assert len(bodies) > 5
    for name in bodies:
        assert schemas[name]["example"], name
    models = {name: model for name, model in vars(responses).items() if name.endswith("Reply")}
    assert len(models) > 20
    for name, model in models.items():
        for field, described in model.model_json_schema(by_alias=False)["properties"].items():
            if "example" in described:
                TypeAdapter(model.model_fields[field].annotation).validate_python(described["example"])
            else:  # what is an answer itself, or one of a set of words, shows what it may be
                assert "$ref" in str(described), (name, field)


def test_the_page_has_no_script_or_style_of_its_own_and_its_policy_allows_none_from_elsewhere(
    client: FlaskClient,
) -> None:
    page = client.get("/docs", follow_redirects=True)
    policy = page.headers["Content-Security-Policy"]

    assert (page.status_code, page.mimetype, page.request.path) == (200, "text/html", "/openapi/swagger")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=", page.text)
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"unsafe|http|\*", policy)
    for link in ("/openapi/openapi.json", "/graphql", "/problems"):
        assert f'href="{link}"' in page.text
        assert client.get(link, headers={"Accept": "text/html"}).status_code == 200
    # where one would choose between pages there is the one
    assert client.get("/openapi/").text.replace("/openapi/?", "/openapi/swagger?").count("api_docs.js") == 1
