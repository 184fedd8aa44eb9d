"""An overloaded shop with real workers: what it rejects it accepts later, and what it accepted completes."""

from pathlib import Path

from app.runtime import Runtime
from durable_sagas.admission import Admission
from durable_sagas.options import Options
from tests.testkit.shop import Answer, Shop
from tests.testkit.stacks import open_shop

ORDERS = 12
CAP = 4


def settled(here: Runtime) -> int:
    """Return how many sagas the workers have reported as settled."""
    admission = Admission(lambda: here.database, Options, lambda: False)
    assert admission.status()
    return sum(admission._samples[-1].settled.values())


def test_rejected_orders_are_accepted_when_others_have_ended(seeded_database: Path, tmp_path: Path) -> None:
    patient = {"step_timeout_seconds": 120, "order_timeout_seconds": 120, "stall_seconds": 120}
    with open_shop("memory", seeded_database, tmp_path, max_unfinished=CAP, **patient) as shop:
        book_id = shop.add_book(stock=ORDERS)
        rejected: list[Answer] = []

        def accepted(number: int) -> Answer:
            answer: Answer = shop.wait_for(
                lambda: try_to_order(shop, book_id, number, rejected), lambda answer: answer.status == 202
            )
            return answer

        placed = [accepted(number).body["saga_id"] for number in range(ORDERS)]

        assert rejected
        assert {answer.body["type"] for answer in rejected} == {"/problems/overloaded"}
        assert {shop.settle(saga_id)["status"] for saga_id in placed} == {"completed"}
        assert shop.stock(book_id) == (0, 0)
        assert shop.violations() == []
        shop.wait_for(lambda: settled(shop.here), lambda number: number >= ORDERS - CAP)


def try_to_order(shop: Shop, book_id: str, number: int, rejected: list[Answer]) -> Answer:
    """Place an order with a key of its own; note if it is rejected."""
    order = {"customer_id": "customer-001", "items": [{"product_id": book_id, "quantity": 1}]}
    answer = shop.post("/api/v1/orders", order, **{"Idempotency-Key": f"order-{number}"})
    assert answer.status in {202, 503}
    if answer.status == 503:
        rejected.append(answer)
    return answer
