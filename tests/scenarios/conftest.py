"""One suite, four stacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop

STACKS = ("eager", "memory", "postgresql+rabbitmq", "postgresql+redis")
PATIENT = {"step_timeout_seconds": 120, "order_timeout_seconds": 120, "stall_seconds": 30}
"""Deadlines that no good order misses, however slow the machine is."""
HASTY = {"step_timeout_seconds": 2, "order_timeout_seconds": 2}
"""Deadlines that are waited for."""


@pytest.fixture(scope="package", params=STACKS)
def shop(
    request: pytest.FixtureRequest, seeded_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A running CloudMart, in which no deadline passes unless its stack is a hasty one."""
    stack, _, hasty = str(request.param).partition("-")
    deadlines = HASTY if hasty else PATIENT
    with open_shop(stack, seeded_database, tmp_path_factory.mktemp("shop"), **deadlines) as shop:
        yield shop
