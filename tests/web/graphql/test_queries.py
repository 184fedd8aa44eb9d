"""What can be asked, page by page, and how few statements it takes."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.testkit.web import SEED_ORDER, data, error, get, post, reads

EVERYTHING = """
query ($first: Int!, $after: String) {
  orders(first: $first, after: $after) {
    nodes {
      id
      items { productName quantity unitPrice }
      payment { status amount transactionId }
      shipment { status trackingNumber }
      events { sequence eventType payload }
      saga { id status steps { name operation status failures { error } } events { sequence } order { id } }
    }
    pageInfo { endCursor hasNextPage }
  }
}
"""


@pytest.fixture
def orders(client: FlaskClient) -> list[str]:
    """The ids of five orders, the newest first: of both patterns, one undone."""
    changes: list[dict[str, Any]] = [
        {},
        {"pattern": "choreography"},
        {"saga_type": "order-payment-first"},
        {"simulate": {"shipping": "decline"}},
        {"customer_id": "user-123"},
    ]
    placed = [post(client, "/api/v1/orders", {**SEED_ORDER, **change})["order_id"] for change in changes]
    return placed[::-1]


def pages(client: FlaskClient, field: str, selection: str, first: int) -> list[dict[str, Any]]:
    """Read a whole list page by page."""
    nodes: list[dict[str, Any]] = []
    after = None
    document = (
        f"query ($first: Int!, $after: String) {{ {field}(first: $first, after: $after) "
        f"{{ nodes {{ {selection} }} pageInfo {{ endCursor hasNextPage }} }} }}"
    )
    for _ in range(20):
        page = data(client, document, first=first, after=after)[field]
        nodes += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return nodes
    raise AssertionError("the list does not end")


def test_orders_and_sagas_come_newest_first_page_by_page(client: FlaskClient, orders: list[str]) -> None:
    assert [order["id"] for order in pages(client, "orders", "id", 2)] == orders
    assert [saga["orderId"] for saga in pages(client, "sagas", "orderId", 2)] == orders
    empty = data(client, '{ orders(userId: "none") { nodes { id } pageInfo { endCursor hasNextPage } } }')["orders"]
    assert empty == {"nodes": [], "pageInfo": {"endCursor": None, "hasNextPage": False}}


def test_lists_can_be_narrowed(client: FlaskClient, orders: list[str]) -> None:
    for query, found in {
        "orders(status: cancelled) { nodes { status } }": [{"status": "cancelled"}],
        'orders(userId: "user-123") { nodes { userId } }': [{"userId": "user-123"}],
        "sagas(status: compensated) { nodes { status } }": [{"status": "compensated"}],
        'sagas(sagaType: "order-choreography") { nodes { sagaType } }': [{"sagaType": "order-choreography"}],
        'sagas(step: "nothing") { nodes { id } }': [],
        'products(categoryId: "none") { nodes { id } }': [],
    }.items():
        (page,) = data(client, f"{{ {query} }}").values()
        assert page["nodes"] == found, query


def test_what_is_shown_is_what_the_rest_api_shows(client: FlaskClient, orders: list[str]) -> None:
    for order_id in orders:
        rest = get(client, f"/api/v1/orders/{order_id}")
        history = get(client, f"/api/v1/sagas/{rest['saga_id']}/history")["history"]

        shown = data(
            client,
            """query ($id: ID!) { order(id: $id) {
                 userId status totalAmount paymentMethod shippingAddress createdAt
                 saga { id sagaType status state context steps { name operation status startedAt result } }
               } events(orderId: $id) { sequence eventType payload } }""",
            id=order_id,
        )

        order, saga = shown["order"], shown["order"]["saga"]
        names = (
            "customer_id status total_amount payment_method shipping_address saga_id saga_type saga_status saga_state"
        )
        of_saga = (saga["id"], saga["sagaType"], saga["status"], saga["state"])
        assert [*list(order.values())[:5], *of_saga] == [rest[name] for name in names.split()]
        assert saga["context"] == get(client, f"/api/v1/sagas/{rest['saga_id']}")["context"]
        assert [(step["name"], step["operation"], step["status"], step["result"]) for step in saga["steps"]] == [
            (step["step_name"], step["operation"], step["status"], step["result"]) for step in history
        ]
        assert [tuple(one.values()) for one in shown["events"]] == [
            (one["sequence"], one["event_type"], one["payload"])
            for one in get(client, f"/api/v1/orders/{order_id}/events")["events"]
        ]


def test_a_list_takes_as_many_statements_for_five_rows_as_for_one_and_none_for_what_is_not_asked_for(
    client: FlaskClient, orders: list[str]
) -> None:
    with reads() as one:
        data(client, EVERYTHING, first=1)
    with reads() as five:
        assert len(data(client, EVERYTHING, first=5)["orders"]["nodes"]) == 5

    # orders and their items twice (the page, and the way back from the saga), and what belongs to them
    assert len(five) == len(one) <= 12
    with reads() as sent:
        assert len(data(client, "{ products { nodes { id category { name } } } }")["products"]["nodes"]) > 3
    assert len(sent) == 2
    with reads() as sent:
        data(client, "{ sagas { nodes { id status } } }")
    assert sent
    assert not any(table in statement for table in ("saga_steps", "events", "payments") for statement in sent)


def test_what_cannot_be_shown_is_refused_by_the_arguments_name(client: FlaskClient) -> None:
    for query, status, field in (
        ('order(id: "none") { id }', 404, None),
        ('saga(id: "none") { id }', 404, None),
        ('product(id: "none") { id }', 404, None),
        ('events(orderId: "none") { sequence }', 404, None),
        ("orders(first: 0) { nodes { id } }", 422, "first"),
        ("sagas(first: 101) { nodes { id } }", 422, "first"),
        ("products(first: -1) { nodes { id } }", 422, "first"),
        ('orders(after: "nonsense") { nodes { id } }', 422, "after"),
        ('sagas(after: "WyJub25lIl0") { nodes { id } }', 422, "after"),
        ('sagas(sagaType: "none") { nodes { id } }', 422, "sagaType"),
        ('orders(userId: "") { nodes { id } }', 422, "userId"),
        (r'products(categoryId: "\u0000") { nodes { id } }', 422, "categoryId"),
        (r'product(id: "\u0000") { id }', 422, "id"),
    ):
        said = error(client, f"{{ {query} }}")["extensions"]
        assert (said["status"], said.get("field")) == (status, field), query
