"""While a release is rolled out, the code of the release before works on the new schema: expand first, contract later.

What that code knows of the tables is what they were at the revision before; so those are read there, and used after.
"""

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from app.migrations import config, migrate
from tests.migrations.rows import rows, schema, use_as


def test_on_each_schema_the_code_of_the_one_before_goes_on(empty: str) -> None:
    nothing = create_engine(empty)
    revisions = [script.revision for script in ScriptDirectory.from_config(config(empty)).walk_revisions()][::-1]
    command.upgrade(config(empty), revisions[0])
    for revision in revisions[1:]:
        known = schema(nothing)

        command.upgrade(config(empty), revision)

        with nothing.begin() as connection:
            use_as(connection, known)
        assert not any(rows(nothing, known).values()), f"{revision}: something is left"
    nothing.dispose()


def test_what_the_code_before_could_not_live_with_is_found(empty: str) -> None:
    migrate(empty)
    engine = create_engine(empty)
    known = schema(engine)
    for change in (
        "ALTER TABLE orders ADD COLUMN channel text NOT NULL",
        "ALTER TABLE payments ADD CHECK (payment_method <> 'x')",
        "ALTER TABLE shipments ALTER COLUMN tracking_number TYPE integer USING 0",
        "ALTER TABLE customers RENAME COLUMN email TO address",
        "DROP TABLE notifications",
    ):
        with pytest.raises(Exception, match=r"column|constraint|relation|integer"), engine.begin() as connection:
            connection.execute(text(change))
            use_as(connection, known)
    engine.dispose()
