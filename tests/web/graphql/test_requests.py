"""How GraphQL is asked: by which method, in which form, how much at once, and what is said when it goes wrong."""

import logging

import pytest
from flask.testing import FlaskClient
from graphql import build_schema, get_introspection_query

from tests.testkit.web import BROWSES, ask, data, error, get
from tests.web.graphql.test_seed_000 import CREATE_CATEGORY
from web.graphql.examples import EXAMPLES


def test_a_query_may_be_sent_by_get_and_a_mutation_may_not(client: FlaskClient) -> None:
    two = "query A($first: Int) { products(first: $first) { nodes { id } } } query B { __typename }"
    asked = {"query": two, "variables": '{"first": 1}', "operationName": "A"}

    found = client.get("/graphql", query_string=asked)
    mutation = client.get("/graphql", query_string={"query": CREATE_CATEGORY})

    assert (found.status_code, found.get_json()) == (200, {"data": {"products": {"nodes": [{"id": "book-123"}]}}})
    assert (mutation.status_code, mutation.mimetype) == (400, "application/problem+json")
    assert len(get(client, "/api/v1/categories")["categories"]) == 1
    for variables in ("[", "[1]", "1", "nonsense", '{"a": 1, "a": 2}', "[" * 1500):
        answer = client.get("/graphql", query_string={"query": "{ __typename }", "variables": variables})
        assert answer.status_code in {400, 422}
    assert client.get("/graphql").status_code == 400
    for method in ("PUT", "PATCH", "DELETE"):
        assert client.open("/graphql", method=method).status_code == 405


NO_REQUESTS: dict[int, list[str | bytes]] = {
    400: [
        *("", "{", "[" * 100_000, '{"query": NaN}', b'{"query": "\xff"}'),
        '{"query": "{ __typename }", "query": "{ __typename }"}',
        '{"query": "{ __typename }", "variables": {"a": 1, "a": 2}}',
        '{"query": "{ __typename }", "operationName": "None"}',
        '{"query": "query A { __typename } query B { __typename }"}',
        '{"query": "subscription { x }"}',
    ],
    422: [
        *("null", '"{ __typename }"', '[{"query": "{ __typename }"}]', "{}", '{"query": null}', '{"query": ""}'),
        '{"query": ["{ __typename }"]}',
        '{"query": "{ __typename }", "variables": []}',
        '{"query": "{ __typename }", "variables": "{}"}',
        '{"query": "{ __typename }", "operationName": 1}',
    ],
    413: ['{"query": "{ __typename }' + " " * 1024 * 1024 + '"}'],
}


def test_a_request_that_is_none_is_refused(client: FlaskClient) -> None:
    for status, bodies in NO_REQUESTS.items():
        for body in bodies:
            response = client.post("/graphql", data=body, content_type="application/json")
            if response.status_code == 200:  # the document could be read, and is wrong by the schema
                assert response.get_json()["errors"][0]["extensions"]["status"] == status
            else:
                assert (response.status_code, response.mimetype) == (status, "application/problem+json"), body[:99]
    for content_type in ("text/plain", "multipart/form-data; boundary=x", "application/graphql", ""):
        answer = client.post("/graphql", data='{"query": "{ __typename }"}', content_type=content_type)
        assert (answer.status_code, answer.get_json()["type"]) == (415, "/problems/unsupported-media-type")


WRONG_DOCUMENTS = [
    *("{", "nonsense", "{ nothing }", "{ products }", "{ product { id } }", "{ ...nothing }", "{ \U0001f4da }"),
    "query ($a: Int!) { products(first: $a) { nodes { id } } }",
    "query ($a: Nothing) { products(first: $a) { nodes { id } } }",
    "fragment f on Query { __typename }",
    "{ ...f } fragment f on Query { ...g } fragment g on Query { ...f }",
    '{ orders(status: "pending") { nodes { id } } }',
    "{ products @nothing { nodes { id } } }",
    '{ product(id: "\\ud800") { id } }',
]


def test_a_document_that_the_schema_does_not_allow_is_told_why(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for document in WRONG_DOCUMENTS:
            response = client.post("/graphql", json={"query": document})
            if response.status_code == 200:
                for said in response.get_json()["errors"]:
                    assert (said["extensions"]["type"], said["extensions"]["status"]) == ("/problems/bad-request", 400)
                    assert said["message"]
            else:  # there is no operation in it at all
                assert (response.status_code, response.mimetype) == (400, "application/problem+json")
        error(client, '{ product(id: "none") { id } }')
    assert caplog.records == [], "a refusal is no error in the log"


def nested(depth: int) -> str:
    """Return a query that is so deep."""
    return "{ sagas { nodes { " + "order { saga { " * (depth // 2) + "id" + " } }" * (depth // 2) + " } } }"


def bomb(levels: int, leaf: str) -> str:
    """Return fragments of which each uses the next one twice."""
    links = "".join(f" fragment f{n} on Query {{ ...f{n + 1} ...f{n + 1} }}" for n in range(levels))
    return f"{{ ...f0 }}{links} fragment f{levels} on Query {{ {leaf} }}"


TOO_MUCH = {
    "fields deep": [nested(20)],
    "aliases": ["{ " + " ".join(f"a{n}: __typename" for n in range(21)) + " }", bomb(30, "a: __typename")],
    "fields": ["{ " + "categories { nodes { id } } " * 200 + " }", bomb(30, "categories { nodes { id } }")],
    "tokens": ["{ " + "__typename " * 4000 + " }"],
    "rows": [
        "{ " + "".join(f"a{n}: sagas(first: 100) {{ nodes {{ id }} }} " for n in range(16)) + " }",
        "{ sagas(first: 100) { nodes { a: steps { name } b: events { sequence } order { c: events { sequence } "
        "d: events { sequence } e: items { quantity } } f: steps { name } } } }",
        "{ sagas(first: 100) { nodes { " + "".join(f"a{n}: context " for n in range(5)) + "} } }",
        "{ orders(first: 100) { nodes { items { id } a: items { id } b: items { id } } } }",
        "{ ...f ...f ...f ...f ...f ...f } fragment f on Query { orders(first: 100) { nodes { id } } }",
        # by a default
        "query ($n: Int = 100) { "
        + "".join(f"a{n}: products(first: $n) {{ nodes {{ id }} }} " for n in range(6))
        + "}",
    ],
    "nested too deeply": ["{ products(first: " + "[" * 1400 + "]" * 1400 + ") { nodes { id } } }"],
    "depth": ["{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }"],
}


@pytest.mark.parametrize("why", TOO_MUCH)
def test_a_document_that_asks_for_too_much_is_refused(client: FlaskClient, why: str) -> None:
    for document in TOO_MUCH[why]:
        said = ask(client, document)["errors"]
        assert any(why in one["message"] for one in said), said
        assert {one["extensions"]["status"] for one in said} == {400}


def test_what_is_reasonable_is_within_the_limits(client: FlaskClient) -> None:
    data(client, nested(4))
    data(client, "{ sagas { nodes { steps { name } events { sequence } order { id items { quantity } } } } }")
    # a variable's own value counts, not the longest page
    pages = "".join(f"a{n}: sagas(first: $n) {{ nodes {{ id }} }} " for n in range(16))
    data(client, f"query ($n: Int!) {{ {pages} }}", n=10)
    items = " ".join('{ productId: "book-789" productName: "x" quantity: 1 unitPrice: 2800 }' for _ in range(100))

    placed = data(client, f"mutation {{ createOrder(input: {{ items: [{items}] }}) {{ totalAmount }} }}")

    assert placed["createOrder"]["totalAmount"] == 280000


def test_a_whole_number_may_have_a_fraction_of_zero_and_one_that_is_no_int_is_refused_in_our_words(
    client: FlaskClient,
) -> None:
    one = {"products": {"nodes": [{"id": "book-123"}]}}
    document = "query ($n: Int!) { products(first: $n) { nodes { id } } }"
    for number in ("1.0", "1e0", "10E-1"):  # as the REST API takes it, and GraphQL's own Int in variables
        body = f'{{"query": "{document}", "variables": {{"n": {number}}}}}'
        assert data(client, f"{{ products(first: {number}) {{ nodes {{ id }} }} }}") == one
        assert client.post("/graphql", data=body, content_type="application/json").get_json() == {"data": one}
    for number, words in {
        "1.5": "Int must be a whole number, not 1.5",
        "9" * 5000: "a number has 5000 characters, at most 100 are allowed",
        "1e400": "Int must lie between -2147483648 and 2147483647",
        "1e99999999999999999999": "1e99999999999999999999 is not a usable number",
        "2147483648": "Int must lie between",
        '"1"': 'Int must be a whole number, not "1"',
        "true": "Int must be a whole number, not true",
    }.items():
        said = error(client, f"{{ products(first: {number}) {{ nodes {{ id }} }} }}")
        assert said["extensions"]["status"] == 400
        assert said["message"].startswith(words)
        assert said["locations"]
        assert len(said["message"]) < 200


def test_the_schema_can_be_introspected_and_had_as_text_and_describes_all_of_itself(client: FlaskClient) -> None:
    found = data(client, get_introspection_query())["__schema"]
    response = client.get("/graphql/schema.graphql")

    assert {"Query", "Mutation"} <= {one["name"] for one in found["types"]}
    assert found["subscriptionType"] is None
    assert (response.status_code, response.mimetype) == (200, "text/plain")
    schema = build_schema(response.text)
    for name, kind in schema.type_map.items():
        assert kind.description, name
    assert schema.query_type and schema.mutation_type
    for root in (schema.query_type, schema.mutation_type):
        assert [name for name, field in root.fields.items() if not field.description] == []


def test_somebody_who_browses_gets_a_page_with_the_schema_and_examples_that_work(client: FlaskClient) -> None:
    page = client.get("/graphql", headers=BROWSES)

    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert "createOrder" in page.text
    assert "type Query" in page.text
    assert "<script" not in page.text
    for example in EXAMPLES:
        data(client, example.document)
        if example.safe:
            answer = client.get("/graphql", query_string={"query": example.document}, headers=BROWSES)
            assert "errors" not in answer.get_json()
