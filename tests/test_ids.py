"""Ids from outside: one spelling only, for a gateway is told an id as it came and would know another one by another."""

import pytest

from durable_sagas.ids import is_uuid, new_id

ID = "01890000-0000-7000-8000-00000000abcd"


@pytest.mark.parametrize("other", [ID.upper(), f"{{{ID}}}", ID.replace("-", ""), "", 7, None, [ID]])
def test_an_id_of_ours_is_one_and_nothing_else_is(other: object) -> None:
    assert is_uuid(new_id())
    assert is_uuid(ID)
    assert not is_uuid(other)
