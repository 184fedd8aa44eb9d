"""One suite, four stacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testkit.shop import Shop
from tests.testkit.stacks import open_shop

STACKS = ("eager", "memory", "postgresql+rabbitmq", "postgresql+redis")
PATIENT = {"step_timeout_seconds": 120, "order_timeout_seconds": 120}
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, rather than skip, what makes no sense on a stack: a test says so by ``not_on``."""
    senseless = [item for item in items if _is_senseless(item)]
    items[:] = [item for item in items if item not in senseless]
    config.hook.pytest_deselected(items=senseless)


def _is_senseless(item: pytest.Item) -> bool:
    marker, call = item.get_closest_marker("not_on"), getattr(item, "callspec", None)
    return marker is not None and call is not None and call.params.get("shop") in marker.args
