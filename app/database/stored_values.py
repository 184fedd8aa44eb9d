"""Values shared by all processes of an installation, generated once and stored in the database."""

from collections.abc import Callable

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app import runtime
from app.database import Base
from app.database.statements import insert_once, upsert


class InstallationValue(Base):
    """A named value of the installation."""

    __tablename__ = "installation"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


def value_of(name: str) -> str | None:
    """Return a value, or None if it does not exist yet."""
    with runtime.current().database.reading() as session:
        stored = session.get(InstallationValue, name)
    return stored.value if stored else None


def get_or_create(name: str, make: Callable[[], str]) -> str:
    """Return a value, creating it with ``make`` if necessary; concurrent processes get the same one."""
    stored = value_of(name)
    if stored is not None:
        return stored
    with runtime.current().database.transaction() as session:
        return insert_once(session, InstallationValue(name=name, value=make())).value


def set_value(name: str, value: str) -> None:
    """Set a value, replacing an earlier one."""
    with runtime.current().database.transaction() as session:
        upsert(session, InstallationValue(name=name, value=value), key="name")
