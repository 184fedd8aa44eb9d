"""The application's database, as the engine uses it: transactions, the server's clock, and column types."""

from durable_sagas.database.session import (
    Database,
    Effects,
    after_commit,
    current,
    current_transaction,
    dialect_of,
    insert_if_absent,
    insert_in,
    prepare_sqlite,
    take_callbacks,
    watched_effects,
)
from durable_sagas.database.types import (
    JSON_TYPE,
    NAMING_CONVENTION,
    Base,
    UtcDateTime,
    UuidText,
    all_as_loaded,
    as_loaded,
    table_of,
)

__all__ = [
    "JSON_TYPE",
    "NAMING_CONVENTION",
    "Base",
    "Database",
    "Effects",
    "UtcDateTime",
    "UuidText",
    "after_commit",
    "all_as_loaded",
    "as_loaded",
    "current",
    "current_transaction",
    "dialect_of",
    "insert_if_absent",
    "insert_in",
    "prepare_sqlite",
    "table_of",
    "take_callbacks",
    "watched_effects",
]
