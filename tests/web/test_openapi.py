"""The API's description, its page, and ``api_examples.http``: every call, played from top to bottom."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from graphql import GraphQLObjectType, build_schema
from pydantic import TypeAdapter

from app.runtime import Runtime
from app.settings import ROOT
from tests.testkit.web import get, lose_messages
from web.api import responses
from web.graphql.schema import schema
from web.problem_types import ALL
from web.problems import Problem
from workflows.operations.audit import audit

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


# ---- api_examples.http


REQUEST = re.compile(r"(GET|POST|PATCH|PUT|DELETE) (\S+)")
VARIABLE = re.compile(r"\{\{(\w+)((?:\.\w+)*)\}\}")


@dataclass(frozen=True)
class Example:
    """A request of the file, and what its comments say of it."""

    title: str
    status: int
    name: str | None
    until: list[str] | None
    method: str
    address: str
    headers: dict[str, str]
    body: str


def parse(text: str) -> Example:
    """Read a request: its title, its comments, its first line, its headers, and after an empty line its body."""
    title, *lines = text.strip("\n").split("\n")
    at = next(number for number, line in enumerate(lines) if REQUEST.fullmatch(line))
    comments = [line.removeprefix("# ").split() for line in lines[:at]]
    method, _, address = lines[at].partition(" ")
    head, _, body = "\n".join(lines[at + 1 :]).partition("\n\n")
    return Example(
        title,
        next(int(comment[0]) for comment in comments if comment and comment[0].isdigit()),
        next((comment[1] for comment in comments if comment[:1] == ["@name"]), None),
        next((comment[1:4:2] for comment in comments if comment[:1] == ["until"]), None),
        method,
        address,
        dict(line.split(": ", 1) for line in head.split("\n") if line),
        body.partition("\n\n\n")[0].strip(),
    )


HEAD, *REST = re.split(r"^### ", (ROOT / "api_examples.http").read_text(), flags=re.MULTILINE)
VARIABLES: dict[str, Any] = dict(line[1:].split(" = ", 1) for line in HEAD.splitlines() if line.startswith("@"))
EXAMPLES = [parse(re.sub(r"^#{8} .*$", "", text, flags=re.MULTILINE)) for text in REST]
"""A heading of several requests is at the end of the one before."""


def filled(text: str, known: dict[str, Any]) -> str:
    """Put in variables, and what earlier answers said: ``{{name}}``, ``{{name.response.body.field}}``."""

    def value(found: re.Match[str]) -> str:
        path = found[2].removeprefix(".response.body").split(".")[1:]
        return str(reduce(lambda seen, part: seen[part], path, known[found[1]]))

    return VARIABLE.sub(value, text)


def test_every_call_has_an_example(client: FlaskClient) -> None:
    described = {
        (method, re.sub(r"\{\w+\}", "{}", path)) for path, method, _ in operations(get(client, "/openapi/openapi.json"))
    }
    paths = [(one.method.lower(), one.address.removeprefix("{{shop}}").partition("?")[0]) for one in EXAMPLES]
    found = {(method, VARIABLE.sub("{}", path).replace("/book-123", "/{}")) for method, path in paths}

    assert len(described) > 20
    assert described - found == set()
    assert {path for _, path in found - described} == {"/graphql", "/graphql/schema.graphql"}


def test_every_field_of_graphql_has_an_example() -> None:
    asked = " ".join(json.loads(example.body)["query"] for example in EXAMPLES if '"query"' in example.body)
    known = build_schema(schema.as_str())

    for root in (known.query_type, known.mutation_type):
        assert isinstance(root, GraphQLObjectType)
        assert [name for name in root.fields if not re.search(rf"\b{name}\b", asked)] == []


def test_the_examples_work_from_top_to_bottom(
    client: FlaskClient, here: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(VARIABLES)
    for example in EXAMPLES:
        url = urlsplit(filled(example.address, known))
        headers = {name: filled(text, known) for name, text in example.headers.items()}
        body = filled(example.body, known) or None
        with monkeypatch.context() as patch:
            if '"hang"' in example.body:
                lose_messages(patch)  # so that it hangs: eager Celery knows no later
            response = client.open(url.path, method=example.method, query_string=url.query, headers=headers, data=body)
        assert response.status_code == example.status, (example.title, response.text)
        answer = response.get_json(silent=True) or {}
        assert "errors" not in answer or example.status >= 400, (example.title, answer)
        if example.until:
            field, value = example.until
            assert answer[field] == value, example.title
        if example.name:
            known[example.name] = answer

    undone = get(client, "/api/v1/sagas?status=compensated")["sagas"]
    assert len(undone) >= 3
    assert get(client, "/api/v1/sagas?status=stuck")["sagas"] == []
    assert list(audit()) == []
