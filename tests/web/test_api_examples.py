"""``api_examples.http``: every call of the API, played from top to bottom."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient
from graphql import GraphQLObjectType, build_schema
from werkzeug.test import TestResponse

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
    until: tuple[str, str] | None
    method: str
    address: str
    headers: dict[str, str]
    body: str

    @classmethod
    def parse(cls, text: str) -> "Example":
        title, *lines = text.strip("\n").split("\n")
        at = next(number for number, line in enumerate(lines) if REQUEST.fullmatch(line))
        comments = [line.removeprefix("# ") for line in lines[:at]]
        head, _, body = "\n".join(lines[at:]).partition("\n\n")
        request, *headers = head.split("\n")
        method, address = request.split(" ")
        until = [comment.split() for comment in comments if comment.startswith("until ")]
        names = [comment.removeprefix("@name ") for comment in comments if comment.startswith("@name ")]
        return cls(
            title=title,
            status=next(int(comment) for comment in comments if comment.isdigit()),
            name=names[0] if names else None,
            until=(until[0][1], until[0][3]) if until else None,
            method=method,
            address=address,
            headers=dict(line.split(": ", 1) for line in headers if line),
            body=body.partition("\n\n\n")[0].strip(),
        )


def file() -> tuple[dict[str, str], list[Example]]:
    """Return the variables and the requests of the file."""
    head, *rest = re.split(r"^### ", (ROOT / "api_examples.http").read_text(), flags=re.MULTILINE)
    variables = dict(line[1:].split(" = ", 1) for line in head.splitlines() if line.startswith("@"))
    # a heading of several requests is at the end of the one before
    return variables, [Example.parse(re.sub(r"^#{8} .*$", "", text, flags=re.MULTILINE)) for text in rest]


class Player:
    """Sends the file's requests, as an editor does: what an answer said can be used in the next request."""

    def __init__(self, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
        self._client = client
        self._monkeypatch = monkeypatch
        self._variables = variables
        self._answers: dict[str, Any] = {}

    def play(self, example: Example) -> TestResponse:
        filled = self._filled(example.address)
        parts = urlsplit(filled)
        with self._monkeypatch.context() as patch:
            if '"hang"' in example.body:
                lose_messages(patch)  # so that it hangs: eager Celery knows no later
            response = self._client.open(
                parts.path,
                method=example.method,
                query_string=parts.query,
                headers={name: self._filled(value) for name, value in example.headers.items()},
                data=self._filled(example.body) or None,
            )
        if example.name:
            self._answers[example.name] = response.get_json()
        return response

    def _filled(self, text: str) -> str:
        return VARIABLE.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        name, path = found[1], found[2]
        if not path:
            return self._variables[name]
        value = self._answers[name]
        for part in path.removeprefix(".response.body.").split("."):
            value = value[part]
        return str(value)


@pytest.fixture
def examples() -> list[Example]:
    return file()[1]


def sent(examples: list[Example]) -> Iterator[tuple[str, str]]:
    """Return the method and the path of every request, with a placeholder for every value."""
    for example in examples:
        path = example.address.removeprefix("{{shop}}").partition("?")[0]
        yield example.method.lower(), VARIABLE.sub("{}", path)


def test_every_call_has_an_example(client: FlaskClient, examples: list[Example]) -> None:
    described = {
        (method, re.sub(r"\{\w+\}", "{}", path)) for path, method, _ in operations(get(client, "/openapi/openapi.json"))
    }
    # a book may be named in the file as it is in the catalogue
    found = {(method, path.replace("/inventory/book-123", "/inventory/{}")) for method, path in sent(examples)}

    assert len(described) > 20
    assert described - found == set()
    assert {path for _, path in found - described} == {"/graphql", "/graphql/schema.graphql"}


def test_every_field_of_graphql_has_an_example(examples: list[Example]) -> None:
    asked = " ".join(json.loads(example.body)["query"] for example in examples if '"query"' in example.body)
    known = build_schema(schema.as_str())

    for root in (known.query_type, known.mutation_type):
        assert isinstance(root, GraphQLObjectType)
        for name in root.fields:
            assert re.search(rf"\b{name}\b", asked), name


def test_the_examples_work_from_top_to_bottom(
    client: FlaskClient, here: Runtime, monkeypatch: pytest.MonkeyPatch, examples: list[Example]
) -> None:
    player = Player(client, monkeypatch, file()[0])

    for example in examples:
        response = player.play(example)
        assert response.status_code == example.status, (example.title, response.text)
        answer = response.get_json(silent=True) or {}
        assert "errors" not in answer or example.status >= 400, (example.title, answer)
        if example.until:
            field, value = example.until
            assert answer[field] == value, example.title

    undone = get(client, "/api/v1/sagas?status=compensated")["sagas"]
    assert len(undone) >= 3
    assert get(client, "/api/v1/sagas?status=stuck")["sagas"] == []
    assert list(audit()) == []
