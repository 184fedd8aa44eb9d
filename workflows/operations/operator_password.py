"""Generate and check the operators' password: that of the settings, else a generated one, stored as a hash."""

import hmac
import secrets

from werkzeug.security import check_password_hash, generate_password_hash

from app import runtime
from app.database import stored_values

MAX_LENGTH = 1000
"""Longer passwords are rejected without hashing them."""

_HASH = "operator_password_hash"
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Lower-case letters and digits, without those that are easily confused (i, l, o, 0, 1)."""


def is_configured() -> bool:
    """Return whether the settings contain the password."""
    return runtime.current().settings.operator_password is not None


def exists() -> bool:
    """Return whether there is a password, configured or generated."""
    return _credential() is not None


def generate() -> str:
    """Generate a password, replace the previously generated one, and return it; only its hash is stored."""
    password = _random()
    stored_values.set_value(_HASH, generate_password_hash(password))
    return password


def generate_first() -> str | None:
    """Generate and return a password if there is none yet; return None otherwise, or if another process was faster."""
    if exists():
        return None
    password = _random()
    password_hash = generate_password_hash(password)
    return password if stored_values.get_or_create(_HASH, lambda: password_hash) == password_hash else None


def verify(password: str) -> bool:
    """Return whether this is the password; the comparison takes constant time."""
    if len(password) > MAX_LENGTH:
        return False
    configured = runtime.current().settings.operator_password
    if configured is not None:
        return hmac.compare_digest(_keyed_hash(password, "guess"), _keyed_hash(configured.get_secret_value(), "guess"))
    stored = stored_values.value_of(_HASH)
    return stored is not None and check_password_hash(stored, password)


def fingerprint(key: str) -> str | None:
    """Return a keyed hash of the password, or None if there is no password.

    Sessions carry it, so that they end when the password changes. Without the key it reveals nothing of the password.
    """
    credential = _credential()
    return _keyed_hash(credential, key).hex()[:32] if credential else None


def _random() -> str:
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))


def _credential() -> str | None:
    configured = runtime.current().settings.operator_password
    return configured.get_secret_value() if configured else stored_values.value_of(_HASH)


def _keyed_hash(text: str, key: str) -> bytes:
    return hmac.digest(key.encode(), text.encode(errors="surrogatepass"), "sha256")
