"""What the tests of GraphQL share."""

from typing import Any

from flask.testing import FlaskClient


def ask(client: FlaskClient, document: str, **variables: Any) -> dict[str, Any]:
    """Send a document by POST and return the whole answer."""
    response = client.post("/graphql", json={"query": document, "variables": variables})
    assert (response.status_code, response.mimetype) == (200, "application/json"), response.text
    return dict(response.get_json())


def data(client: FlaskClient, document: str, **variables: Any) -> dict[str, Any]:
    """Send a document and return its data; it must have no errors."""
    answer = ask(client, document, **variables)
    assert "errors" not in answer, answer["errors"]
    return dict(answer["data"])


def error(client: FlaskClient, document: str, **variables: Any) -> dict[str, Any]:
    """Send a document and return its one error."""
    (found,) = ask(client, document, **variables)["errors"]
    return dict(found)
