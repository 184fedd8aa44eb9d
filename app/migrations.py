"""Alembic, called from Python: the only way the schema is made."""

from alembic import command
from alembic.config import Config

from app.database_faults import faults_named
from app.settings import ROOT


def config(database_url: str) -> Config:
    """Return Alembic's configuration for one database."""
    settings = Config()
    settings.set_main_option("script_location", str(ROOT / "migrations"))
    settings.attributes["database_url"] = database_url
    return settings


def migrate(database_url: str) -> None:
    """Bring a database to the newest schema; nothing happens if it is there already. Raises DatabaseFault."""
    with faults_named():
        command.upgrade(config(database_url), "head")
