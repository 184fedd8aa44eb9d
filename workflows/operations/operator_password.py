"""The operators' password: the one in the settings, else one that was made here, of which only the hash is kept."""

import hmac
import secrets

from werkzeug.security import check_password_hash, generate_password_hash

from app import runtime, stored_values

MAX_LENGTH = 1000
"""What is longer is not even hashed."""

_HASH = "operator_password_hash"
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without those that are taken for one another."""


def is_configured() -> bool:
    """Tell whether the settings hold the password."""
    return runtime.current().settings.operator_password is not None


def exists() -> bool:
    """Tell whether there is a password at all."""
    return _credential() is not None


def make() -> str:
    """Make a new password in place of the one made before, and return it: it is not kept, only its hash is."""
    password = _random()
    stored_values.put(_HASH, generate_password_hash(password))
    return password


def make_first() -> str | None:
    """Make a password and return it, if there is none yet; None also if another process was quicker."""
    if exists():
        return None
    password = _random()
    mine = generate_password_hash(password)
    return password if stored_values.get_or_create(_HASH, lambda: mine) == mine else None


def is_right(password: str) -> bool:
    """Tell whether this is the password; how long that takes does not tell how nearly it is."""
    if len(password) > MAX_LENGTH:
        return False
    configured = runtime.current().settings.operator_password
    if configured is not None:
        return hmac.compare_digest(_mixed(password, "guess"), _mixed(configured.get_secret_value(), "guess"))
    made = stored_values.value_of(_HASH)
    return made is not None and check_password_hash(made, password)


def mark(key: str) -> str | None:
    """Return what changes with the password and, without the key, says nothing of it; None if there is no password.

    It is for a session to carry: one that was begun with another password has ended.
    """
    credential = _credential()
    return _mixed(credential, key).hex()[:32] if credential else None


def _random() -> str:
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))


def _credential() -> str | None:
    configured = runtime.current().settings.operator_password
    return configured.get_secret_value() if configured else stored_values.value_of(_HASH)


def _mixed(text: str, key: str) -> bytes:
    return hmac.digest(key.encode(), text.encode(errors="surrogatepass"), "sha256")
