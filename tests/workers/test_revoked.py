"""A task that an operator revokes, by Flower's button or by ``celery control revoke``: its saga ends all the same."""

from pathlib import Path

import pytest

from app.celery import app as celery
from tests.testkit.stacks import open_shop


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pattern", ["choreography", "orchestration"])
def test_a_refund_that_is_revoked_while_it_waits_for_its_retry_is_made_nevertheless(
    pattern: str, seeded_database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "celery.worker.request")
    # the sweep drives the saga on soon, and no deadline passes before the refund waits
    settings = {"step_timeout_seconds": 120, "order_timeout_seconds": 120, "stall_seconds": 1}
    with open_shop("memory", seeded_database, tmp_path, **settings) as shop:
        order = shop.order(
            shop.add_book(stock=1), pattern=pattern, simulate={"shipping": "decline", "payments": "undo-fail:5"}
        )
        waiting = "SELECT task_id FROM saga_steps WHERE saga_id = :saga_id AND status = 'retrying'"
        [[task_id]] = shop.wait_for(lambda: shop.rows(waiting, saga_id=order["saga_id"]), bool)

        celery.control.revoke(task_id)

        assert shop.settle(order["saga_id"])["status"] == "compensated"
        assert "Discarding revoked task: payments.refund" in caplog.text
        assert shop.violations() == []
