"""A test client that sends forms as a browser does: with the token of the page that it has open; and a terminal."""

import re
from collections.abc import Callable
from typing import Any

from click.testing import Result
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

Typed = Callable[..., Result]
"""Types a command of ``python -m app`` in this process."""

PASSWORD = "correct horse battery"


class Browser(FlaskClient):
    """A client whose forms are this site's own. Plain FlaskClients are what attacks are tried with."""

    _kept: str | None = None
    """The token, as long as the session lasts: to fetch it takes a page."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        if kwargs.get("method", "GET") != "POST" or "json" in kwargs:
            return super().open(*args, **kwargs)
        self._kept = self._kept or self.token()
        kwargs["headers"] = {"X-CSRFToken": self._kept, **dict(kwargs.get("headers") or {})}
        answer = super().open(*args, **kwargs)
        if answer.request.path.startswith("/operator/"):
            self._kept = None  # logging in and out begins another session
        return answer

    def token(self) -> str:
        """Return the token that this site's forms carry now."""
        found = re.search(r'name="csrf_token" value="([^"]+)"', super().get("/nowhere", headers=HTML).text)
        assert found
        return found[1]

    def log_in(self, name: str = "Ann", password: str = PASSWORD) -> TestResponse:
        """Become an operator; the installation's password must be the one given."""
        return self.post("/operator/login", data={"name": name, "password": password})


HTML = {"Accept": "text/html"}
