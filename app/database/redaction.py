"""Keep written values, which may be personal data, out of the database's error messages.

Errors are logged, stored in the saga log and shown to operators. SQLAlchemy is configured to leave out a statement's
parameters; but PostgreSQL itself quotes rows and keys in the lines after its message (``Failing row contains …``), and
the statement as the driver sent it, with the values filled in.
"""

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

_DATA_EXCEPTION = "22"
"""The class of SQLSTATEs for values that do not fit their type: there the first line quotes the value."""


def keep_values_out_of_errors(engine: Engine) -> None:
    """Remove values from the errors of an engine that was created with ``hide_parameters``."""
    event.listen(engine, "handle_error", _shorten)


def _shorten(context: ExceptionContext) -> None:
    original = context.original_exception
    sqlstate = getattr(original, "pgcode", None)
    if not sqlstate:
        return  # not PostgreSQL's answer to a statement: the connection broke, or it is SQLite, which quotes nothing
    message = str(original)
    short = message.partition("\n")[0]
    if sqlstate.startswith(_DATA_EXCEPTION):
        short = short.partition(': "')[0]
    original.args = (short,)
    if context.sqlalchemy_exception is not None:
        context.sqlalchemy_exception.args = (str(context.sqlalchemy_exception.args[0]).replace(message, short),)
