"""The shop with very many finished orders: filled once, for all measures of one run that ask for it."""

from contextlib import ExitStack

from sqlalchemy import create_engine, text

from bench.million_orders import SERVER, shop


class Filled:
    """Databases by how many finished orders they have. All are dropped by ``close``."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._urls: dict[int, str] = {}

    def url(self, orders: int) -> str:
        """Return the database with so many finished orders, which is filled when it is first asked for.

        Its tables are logged as a real shop's are.
        """
        if orders not in self._urls:
            self._urls[orders] = self._stack.enter_context(shop(SERVER, orders, logged=True))
        return self._urls[orders]

    def close(self) -> None:
        """Drop them all."""
        self._stack.close()


def tidy(url: str) -> None:
    """Leave nothing to be written or cleaned up for others in the time that counts."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            connection.execute(text(statement))
    engine.dispose()
