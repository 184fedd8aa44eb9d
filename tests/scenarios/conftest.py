"""One suite, four stacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shop import Shop
from tests.stacks import open_shop

STACKS = ("eager", "memory", "postgresql+rabbitmq", "postgresql+redis")


@pytest.fixture(scope="package", params=STACKS)
def shop(
    request: pytest.FixtureRequest, seeded_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A running CloudMart with short deadlines."""
    stack = str(request.param)
    with open_shop(stack, seeded_database, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, rather than skip, what makes no sense on a stack: a test says so by ``not_on``."""
    senseless = [item for item in items if _is_senseless(item)]
    items[:] = [item for item in items if item not in senseless]
    config.hook.pytest_deselected(items=senseless)


def _is_senseless(item: pytest.Item) -> bool:
    marker, call = item.get_closest_marker("not_on"), getattr(item, "callspec", None)
    return marker is not None and call is not None and call.params.get("shop") in marker.args
