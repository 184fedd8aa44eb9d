"""Ids from outside: one spelling only, for a gateway is told an id as it came and would know another one by another."""

import pytest

from durable_sagas.ids import is_uuid, new_id


def test_an_id_of_ours_is_one() -> None:
    assert is_uuid(new_id())


@pytest.mark.parametrize(
    "other",
    [
        "01890000-0000-7000-8000-00000000ABCD",
        "{01890000-0000-7000-8000-00000000abcd}",
        "018900000000700080000000" + "0000abcd",
        "",
        7,
        None,
        ["01890000-0000-7000-8000-00000000abcd"],
    ],
)
def test_nothing_else_is(other: object) -> None:
    assert not is_uuid(other)
