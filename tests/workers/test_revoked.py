"""A task that an operator revokes, by Flower's button or by ``celery control revoke``: its saga ends all the same."""

from functools import partial
from pathlib import Path

import pytest

from app.celery import app as celery
from tests.testkit.stacks import open_shop

REFUND_FAILS = {"shipping": "decline", "payments": "undo-fail:5"}


@pytest.mark.timeout(300)
def test_a_refund_that_is_revoked_while_it_waits_for_its_retry_is_made_nevertheless(
    seeded_database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "celery.worker.request")
    # the sweep drives the sagas on soon, and no deadline passes before the refunds wait
    settings = {"step_timeout_seconds": 120, "order_timeout_seconds": 120, "stall_seconds": 1}
    with open_shop("memory", seeded_database, tmp_path, **settings) as shop:
        book = shop.add_book(stock=2)
        orders = [
            shop.order(book, pattern=pattern, simulate=REFUND_FAILS) for pattern in ("choreography", "orchestration")
        ]
        waiting = "SELECT task_id FROM saga_steps WHERE saga_id = :saga_id AND status = 'retrying'"
        for order in orders:
            [[task_id]] = shop.wait_for(partial(shop.rows, waiting, saga_id=order["saga_id"]), bool)
            celery.control.revoke(task_id)

        assert [shop.settle(order["saga_id"])["status"] for order in orders] == ["compensated"] * 2
        discarded = "Discarding revoked task: payments.refund"  # each when its delay is over
        shop.wait_for(lambda: caplog.text.count(discarded), lambda count: count == 2)
        assert shop.violations() == []
