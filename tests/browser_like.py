"""A test client that sends forms as a browser does: with the token of the page that it has open."""

import re
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

PASSWORD = "correct horse battery"


class Browser(FlaskClient):
    """A client whose forms are this site's own. Plain FlaskClients are what attacks are tried with."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        if kwargs.get("method", "GET") == "POST" and "json" not in kwargs:
            kwargs["headers"] = {"X-CSRFToken": self.token(), **dict(kwargs.get("headers") or {})}
        return super().open(*args, **kwargs)

    def token(self) -> str:
        """Return the token that this site's forms carry now."""
        found = re.search(r'name="csrf_token" value="([^"]+)"', super().get("/nowhere", headers=HTML).text)
        assert found
        return found[1]

    def log_in(self, name: str = "Ann", password: str = PASSWORD) -> TestResponse:
        """Become an operator; the installation's password must be the one given."""
        return self.post("/operator/login", data={"name": name, "password": password})


HTML = {"Accept": "text/html"}
