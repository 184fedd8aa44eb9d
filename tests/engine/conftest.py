"""The engine's tests run on a saga of their own."""

from collections.abc import Iterator

import pytest

from app.runtime import Runtime
from tests.engine import trip


@pytest.fixture
def agency(here: Runtime) -> Iterator[None]:
    with trip.agency():
        yield
