"""The log: one line per thing that happened, with all that belongs to it, for people and for machines."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.errors import format_error
from app.observability import tracing
from app.observability.logging import configure_logging
from app.settings import LogFormat
from durable_sagas.log_context import add_to_log_context, log_context
from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop

logger = logging.getLogger("a.module")

PATIENT = {"step_timeout_seconds": 120, "order_timeout_seconds": 120, "stall_seconds": 120}
"""No deadline passes and nothing stalls, however slow the machine is."""


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Give logging back to pytest after the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def log_a_failure(message: str, **extra: object) -> None:
    try:
        raise ValueError("torn\nin two")
    except ValueError:
        logger.exception(message, extra=extra)


def test_a_line_for_people_says_nothing_twice_and_a_traceback_stands_below_it(log: io.StringIO) -> None:
    configure_logging("INFO", LogFormat.TEXT, log)

    logger.info("Step %s completed", "ship", extra={"saga_id": "s-1", "attempt": 2, "reason": None})
    logger.info("Step ship completed for saga s-1", extra={"saga_id": "s-1", "order_id": "o-1", "step": "ship"})
    log_a_failure("it failed", saga_id="s-1")

    first, second, failed, *traceback = (line[9:] for line in log.getvalue().splitlines())
    assert first == "INFO    Step ship completed  saga_id=s-1 attempt=2"
    assert second == "INFO    Step ship completed for saga s-1  order_id=o-1"
    assert failed == "ERROR   it failed  saga_id=s-1"
    assert traceback
    assert log.getvalue().endswith("ValueError: torn\nin two\n")


def test_a_line_for_machines_has_the_trace_and_nothing_that_libraries_hang_onto_it(
    log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging("INFO", LogFormat.JSON, log)
    monkeypatch.setattr(tracing, "current_trace_id", lambda: "4bf92f3577b34da6a3ce929d0e0e4736")

    log_a_failure("日本語", saga_id="s-1", password="hidden", data={"kwargs": "{'shipping_address': '東京都'}"})

    (line,) = lines(log)
    assert line.pop("time").startswith("20")
    assert "in two" in line.pop("traceback")
    assert line.pop("trace_id") == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert line == {"level": "ERROR", "logger": "a.module", "message": "日本語", "saga_id": "s-1"}


def test_lines_carry_what_the_blocks_around_them_say(log: io.StringIO) -> None:
    configure_logging("INFO", LogFormat.JSON, log)

    with log_context(task_id="t-1"):
        with log_context(saga_id="s-1"):
            add_to_log_context(step="ship")
            logging.getLogger("another.module").info("inside")
            logger.info("its own word wins", extra={"step": "pay"})
        logger.info("between")
    logger.info("outside")

    inside, own, between, outside = lines(log)
    assert (inside["task_id"], inside["saga_id"], inside["step"]) == ("t-1", "s-1", "ship")
    assert own["step"] == "pay"
    assert between["task_id"] == "t-1"
    assert {"saga_id", "step"}.isdisjoint(between)
    assert {"task_id", "saga_id", "step"}.isdisjoint(outside)


def test_every_line_of_a_step_says_whose_it_is_and_none_has_personal_data(
    log: io.StringIO, seeded_database: Path, tmp_path: Path
) -> None:
    address = "東京都千代田区1-1"
    faults = {"payments": "fail:1", "shipping": "decline"}
    with open_shop("memory", seeded_database, tmp_path, **PATIENT) as shop:
        configure_logging("DEBUG", LogFormat.JSON, log)
        orders = {
            pattern: place(shop, pattern, faults, shipping_address=address)
            for pattern in ("orchestration", "choreography")
        }
        for order in orders.values():
            shop.settle(order["saga_id"])

    said = [line for line in lines(log) if line["logger"].startswith("durable_sagas")]
    for order in orders.values():
        of_steps = [line for line in said if "step" in line["message"].lower() and line["saga_id"] == order["saga_id"]]
        assert {"Executing", "Compensating", "Step"} <= {line["message"].partition(" ")[0] for line in of_steps}
        for line in of_steps:
            assert line["order_id"] == order["order_id"]
            assert {"step", "operation", "attempt"} <= line.keys(), line
            assert "task_id" in line or line["step"] == "create_order", line  # done by the request itself
    assert address not in log.getvalue()
    assert "customer-001" not in log.getvalue()


def test_the_lines_of_seed_000(log: io.StringIO, seeded_database: Path, tmp_path: Path) -> None:
    with open_shop("memory", seeded_database, tmp_path, **PATIENT) as shop:
        configure_logging("INFO", LogFormat.TEXT, log)
        good = place(shop, "orchestration", {})["saga_id"]
        bad = place(shop, "orchestration", {"payments": "decline"})["saga_id"]
        choreographed = place(shop, "choreography", {})["saga_id"]
        for saga_id in (good, bad, choreographed):
            shop.settle(saga_id)

    said = log.getvalue()
    assert f"INFO    Starting saga {good} with OrderSaga  " in said
    assert f"INFO    Starting saga {choreographed} with OrderChoreographySaga  " in said
    assert f"INFO    Executing step reserve_stock for saga {good}  " in said
    assert f"INFO    Saga {good} completed successfully  " in said
    assert f"ERROR   Step process_payment failed for saga {bad}: " in said
    assert f"INFO    Starting compensation for saga {bad}  " in said


def place(shop: Shop, pattern: str, simulate: dict[str, str], **more: Any) -> dict[str, Any]:
    return shop.order("book-123", pattern=pattern, simulate=simulate, **more)


def test_what_does_not_fit_is_not_repeated() -> None:
    class Order(BaseModel):
        shipping_address: int

    try:
        Order.model_validate({"shipping_address": "東京都千代田区1-1"})
    except ValidationError as error:
        said = format_error(error)

    assert said.startswith("shipping_address: Input should be a valid integer")
    assert "東京都" not in said
