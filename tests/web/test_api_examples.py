"""``api_examples.http``: every call of the API, played from top to bottom."""

import json
import re
from dataclasses import dataclass
from functools import reduce
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from graphql import GraphQLObjectType, build_schema

from app.runtime import Runtime
from app.settings import ROOT
from tests.testkit.web import get, lose_messages
from tests.web.test_openapi import operations
from web.graphql.schema import schema
from workflows.operations.audit import audit

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
