"""How GraphQL is asked: by which method, in which form, how much at once, and what is said when it goes wrong."""

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from graphql import build_schema, get_introspection_query

from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.web import ask, data, error, get
from tests.web.graphql import seed_000
from web import create_app
from web.graphql.examples import EXAMPLES
from workflows.read_side import queries

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_a_query_may_be_sent_by_get(client: FlaskClient) -> None:
    response = client.get(
        "/graphql",
        query_string={
            "query": "query A($first: Int) { products(first: $first) { nodes { id } } } query B { __typename }",
            "variables": '{"first": 1}',
            "operationName": "A",
        },
    )

    assert response.status_code == 200
    assert response.get_json() == {"data": {"products": {"nodes": [{"id": "book-123"}]}}}


def test_a_mutation_is_refused_by_get(client: FlaskClient) -> None:
    before = get(client, "/api/v1/categories")

    response = client.get("/graphql", query_string={"query": seed_000.CREATE_CATEGORY})

    assert (response.status_code, response.mimetype) == (400, "application/problem+json")
    assert get(client, "/api/v1/categories") == before


def test_pages_of_other_sites_change_nothing(client: FlaskClient) -> None:
    body = {"query": seed_000.CREATE_CATEGORY}

    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://elsewhere.example"}):
        assert client.post("/graphql", json=body, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/graphql", ""],
)
def test_nothing_but_json_is_read(client: FlaskClient, content_type: str) -> None:
    body = json.dumps({"query": seed_000.CREATE_CATEGORY})

    response = client.post("/graphql", data=body, content_type=content_type)

    assert (response.status_code, response.get_json()["type"]) == (415, "/problems/unsupported-media-type")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("{", 400),
        ("[" * 100_000, 400),
        ('{"query": NaN}', 400),
        (b'{"query": "\xff"}', 400),
        ("null", 422),
        ('"{ __typename }"', 422),
        ('[{"query": "{ __typename }"}]', 422),
        ('{"query": "{ __typename }", "query": "{ __typename }"}', 400),
        ('{"query": "{ __typename }", "variables": {"a": 1, "a": 2}}', 400),
        ("{}", 422),
        ('{"query": null}', 422),
        ('{"query": ""}', 422),
        ('{"query": ["{ __typename }"]}', 422),
        ('{"query": "{ __typename }", "variables": []}', 422),
        ('{"query": "{ __typename }", "variables": "{}"}', 422),
        ('{"query": "{ __typename }", "operationName": 1}', 422),
        ('{"query": "{ __typename }", "operationName": "None"}', 400),
        ('{"query": "query A { __typename } query B { __typename }"}', 400),
        ('{"query": "subscription { x }"}', 400),
    ],
)
def test_a_request_that_is_none_is_refused(client: FlaskClient, body: str | bytes, status: int) -> None:
    response = client.post("/graphql", data=body, content_type="application/json")

    if response.status_code == 200:  # the document could be read, and is wrong by the schema
        assert response.get_json()["errors"][0]["extensions"]["status"] == status
    else:
        assert (response.status_code, response.mimetype) == (status, "application/problem+json")


def test_a_body_that_is_too_large_is_refused(client: FlaskClient) -> None:
    response = client.post("/graphql", json={"query": "{ __typename }" + " " * 1024 * 1024})

    assert (response.status_code, response.get_json()["type"]) == (413, "/problems/too-large")


@pytest.mark.parametrize("variables", ["[", "[1]", "1", "nonsense", '{"a": 1, "a": 2}', "[" * 1500])
def test_variables_in_an_address_are_read_as_strictly(client: FlaskClient, variables: str) -> None:
    response = client.get("/graphql", query_string={"query": "{ __typename }", "variables": variables})

    assert response.status_code in {400, 422}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused(client: FlaskClient, method: str) -> None:
    assert client.open("/graphql", method=method).status_code == 405


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "nonsense",
        "{ nothing }",
        "{ products { nodes { nothing } } }",
        "{ products }",
        "{ product { id } }",
        '{ product(id: "a", other: 1) { id } }',
        "query ($a: Int!) { products(first: $a) { nodes { id } } }",
        "query ($a: Nothing) { products(first: $a) { nodes { id } } }",
        "{ ...nothing }",
        "fragment f on Query { __typename }",
        "{ ...f } fragment f on Query { ...f }",
        "{ ...f } fragment f on Query { ...g } fragment g on Query { ...f }",
        "{ orders(status: PENDING) { nodes { id } } }",
        '{ orders(status: "pending") { nodes { id } } }',
        "{ products @skip { nodes { id } } }",
        "{ products @nothing { nodes { id } } }",
        '{ product(id: "\\ud800") { id } }',
        "{ \U0001f4da }",
    ],
)
def test_a_document_that_the_schema_does_not_allow_is_told_why(client: FlaskClient, document: str) -> None:
    response = client.post("/graphql", json={"query": document})

    if response.status_code == 200:
        for said in response.get_json()["errors"]:
            assert (said["extensions"]["type"], said["extensions"]["status"]) == ("/problems/bad-request", 400)
            assert said["message"]
    else:  # there is no operation in it at all
        assert (response.status_code, response.mimetype) == (400, "application/problem+json")


def nested(depth: int) -> str:
    """Return a query that is so deep."""
    return "{ sagas { nodes { " + "order { saga { " * (depth // 2) + "id" + " } }" * (depth // 2) + " } } }"


def bomb(levels: int, leaf: str) -> str:
    """Return fragments of which each uses the next one twice."""
    links = "".join(f" fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(levels))
    return f"{{ ...f0 }}{links} fragment f{levels} on Query {{ {leaf} }}"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (nested(20), "fields deep"),
        ("{ " + " ".join(f"a{n}: __typename" for n in range(21)) + " }", "aliases"),
        ("{ " + "categories { nodes { id } } " * 200 + " }", "fields"),
        ("{ " + "__typename " * 4000 + " }", "tokens"),
        ("{ " + "".join(f"a{n}: sagas(first: 100) {{ nodes {{ id }} }} " for n in range(16)) + " }", "rows"),
        (
            "{ sagas(first: 100) { nodes { a: steps { name } b: events { sequence } order { c: events { sequence } "
            "d: events { sequence } e: items { quantity } } f: steps { name } } } }",
            "rows",
        ),
        (
            "{ sagas(first: 100) { nodes { " + "".join(f"a{n}: context " for n in range(5)) + "} } }",
            "rows",
        ),
        ("{ orders(first: 100) { nodes { items { id } a: items { id } b: items { id } } } }", "rows"),
        ("{ ...f ...f ...f ...f ...f ...f } fragment f on Query { orders(first: 100) { nodes { id } } }", "rows"),
        (
            "query ($n: Int = 100) { "
            + "".join(f"a{n}: products(first: $n) {{ nodes {{ id }} }} " for n in range(6))
            + "}",
            "rows",
        ),
        ("{ products(first: " + "[" * 1400 + "]" * 1400 + ") { nodes { id } } }", "nested too deeply"),
        (bomb(30, "a: __typename"), "aliases"),
        (bomb(30, "categories { nodes { id } }"), "fields"),
        (
            "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }",
            "depth",
        ),
    ],
    ids=[
        "deep",
        "aliases",
        "fields",
        "tokens",
        "rows",
        "rows within rows",
        "JSON within rows",
        "items within rows",
        "rows in fragments",
        "rows by default",
        "nested",
        "bomb of aliases",
        "bomb of fields",
        "introspection",
    ],
)
def test_a_document_that_asks_for_too_much_is_refused(client: FlaskClient, document: str, why: str) -> None:
    said = ask(client, document)["errors"]

    assert any(why in one["message"] for one in said), said
    assert {one["extensions"]["status"] for one in said} == {400}


def test_what_is_reasonable_is_within_the_limits(client: FlaskClient) -> None:
    data(client, nested(4))
    data(
        client, "{ sagas(first: 100) { nodes { steps { name } events { sequence } order { id items { quantity } } } } }"
    )
    for first, n in (("100", 4), ("$n", 16)):  # a variable's own value counts, not the longest page
        pages = "".join(f"a{n}: sagas(first: {first}) {{ nodes {{ id }} }} " for n in range(n))
        data(
            client, f"query ($n: Int) {{ {pages} }}".replace("($n: Int)", "" if first == "100" else "($n: Int!)"), n=10
        )
    items = " ".join('{ productId: "book-789" productName: "x" quantity: 1 unitPrice: 2800 }' for _ in range(100))

    placed = data(client, f"mutation {{ createOrder(input: {{ items: [{items}] }}) {{ totalAmount }} }}")

    assert placed["createOrder"]["totalAmount"] == 280000


@pytest.mark.parametrize("number", ["1.0", "1e0", "10E-1"])
def test_a_whole_number_may_have_a_fraction_of_zero(client: FlaskClient, number: str) -> None:
    """As the REST API takes it, and GraphQL's own Int in variables."""
    one = {"products": {"nodes": [{"id": "book-123"}]}}
    document = "query ($n: Int!) { products(first: $n) { nodes { id } } }"
    body = f'{{"query": "{document}", "variables": {{"n": {number}}}}}'

    assert data(client, f"{{ products(first: {number}) {{ nodes {{ id }} }} }}") == one
    assert client.post("/graphql", data=body, content_type="application/json").get_json() == {"data": one}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("1.5", "Int must be a whole number, not 1.5"),
        ("9" * 5000, "a number has 5000 characters, at most 100 are allowed"),
        ("1e400", "Int must lie between -2147483648 and 2147483647"),
        ("1e99999999999999999999", "1e99999999999999999999 is not a usable number"),
        ("1000000000000", "Int must lie between"),
        ("2147483648", "Int must lie between"),
        ('"1"', 'Int must be a whole number, not "1"'),
        ("true", "Int must be a whole number, not true"),
    ],
)
def test_a_number_that_is_no_int_is_refused_in_our_words(client: FlaskClient, number: str, words: str) -> None:
    said = error(client, f"{{ products(first: {number}) {{ nodes {{ id }} }} }}")

    assert said["extensions"]["status"] == 400
    assert said["message"].startswith(words)
    assert said["locations"]
    assert len(said["message"]) < 200


def test_the_schema_may_be_introspected(client: FlaskClient) -> None:
    found = data(client, get_introspection_query())["__schema"]

    assert {"Query", "Mutation"} <= {one["name"] for one in found["types"]}
    assert found["subscriptionType"] is None


def test_the_schema_can_be_had_as_text_and_describes_all_of_itself(client: FlaskClient) -> None:
    response = client.get("/graphql/schema.graphql")

    assert (response.status_code, response.mimetype) == (200, "text/plain")
    schema = build_schema(response.text)
    for name, kind in schema.type_map.items():
        assert kind.description, name
    assert schema.query_type and schema.mutation_type
    for root in (schema.query_type, schema.mutation_type):
        for name, field in root.fields.items():
            assert field.description, name


def test_the_seeds_documents_fit_the_schema(client: FlaskClient) -> None:
    for document in (seed_000.CREATE_CATEGORY, seed_000.CREATE_PRODUCT, seed_000.CREATE_ORDER):
        for said in ask(client, document).get("errors", []):
            assert said["extensions"]["status"] == 422, said  # only its placeholders of ids name nothing


def test_a_database_that_does_not_answer_is_said_so(here: Runtime, settings: Settings, tmp_path: Path) -> None:
    client = create_app(settings.but(database_url=f"sqlite:///{tmp_path}")).test_client()

    said = error(client, "{ products { nodes { id } } }")

    assert said["message"] == "the database does not answer, try again"
    assert (said["extensions"]["type"], said["extensions"]["status"]) == ("/problems/unavailable", 503)


def test_an_unforeseen_error_tells_the_log_and_not_the_client(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_book_id: str) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(queries, "book", fail)

    with caplog.at_level(logging.ERROR):
        response = client.post("/graphql", json={"query": '{ product(id: "book-123") { id } }'})

    (said,) = response.get_json()["errors"]
    assert "secret" not in response.text
    assert (said["extensions"]["type"], said["extensions"]["status"]) == ("/problems/internal", 500)
    assert "a secret" in caplog.text


def test_a_refusal_is_no_error_in_the_log(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        error(client, '{ product(id: "none") { id } }')
        error(client, "{ nothing }")

    assert caplog.records == []


def test_somebody_who_browses_gets_a_page_with_the_schema(client: FlaskClient) -> None:
    page = client.get("/graphql", headers=BROWSER)

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "createOrder" in page.text
    assert "type Query" in page.text
    assert "<script" not in page.text


def test_a_client_that_asks_nothing_is_told_how(client: FlaskClient) -> None:
    response = client.get("/graphql")

    assert (response.status_code, response.mimetype) == (400, "application/problem+json")


def test_every_example_on_the_page_works(client: FlaskClient) -> None:
    for example in EXAMPLES:
        data(client, example.document)
        if example.safe:
            answer = client.get("/graphql", query_string={"query": example.document}, headers=BROWSER)
            assert "errors" not in answer.get_json()


def test_texts_of_every_language_come_back_as_they_went(client: FlaskClient) -> None:
    text = "電子機器 Книги ℵ \U0001f4da \u202e"
    document = "mutation ($n: String!) { createCategory(input: { name: $n }) { name } }"

    assert data(client, document, n=text)["createCategory"]["name"] == text
    answer = client.post("/graphql", json={"query": document, "variables": {"n": text}})
    assert "電子機器" in answer.text


def test_mangled_documents_are_refused_and_never_fail(client: FlaskClient) -> None:
    rng = random.Random(20260101)
    whole = [seed_000.CREATE_CATEGORY, seed_000.CREATE_ORDER, EXAMPLES[-1].document, EXAMPLES[-2].document]
    odd = [
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        '"',
        '"""',
        ":",
        "$",
        "@",
        "!",
        "...",
        "\0",
        "\ud800",
        "null",
        "-",
        "1e",
        "#",
        "\\u",
    ]
    for _ in range(300):
        text = rng.choice(whole)
        for _ in range(rng.randint(1, 4)):
            cut = rng.randrange(len(text))
            text = text[:cut] + rng.choice([*odd, ""]) + text[cut + rng.randint(0, 5) :]
        response = client.post("/graphql", json={"query": text})
        assert response.status_code in {200, 400, 422}, text
        errors: list[dict[str, Any]] = response.get_json().get("errors", []) if response.status_code == 200 else []
        assert all(one["extensions"]["status"] < 500 for one in errors), (text, errors)
