"""The shop's API, as a client sees it."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

TIMEOUT_SECONDS = 20
PAGE = 100


class RequestError(Exception):
    """Raised when the shop does not answer as it must under load."""


class Refused(RequestError):
    """Raised when the shop accepts no orders at present (503)."""


@dataclass(frozen=True)
class Seen:
    """A saga as the list of all shows it."""

    id: str
    status: str
    created_at: datetime
    updated_at: datetime

    @property
    def ended(self) -> bool:
        """Tell whether it will not move any more by itself."""
        return self.status in {"completed", "compensated", "stuck"}


@dataclass(frozen=True)
class Ran:
    """When a step of a saga had its last attempt."""

    step: str
    began: datetime
    ended: datetime


class Shop:
    """A running shop, at its address."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._token = token

    def ready(self) -> bool:
        """Tell whether it can take orders."""
        try:
            self._call("GET", "/readyz")
        except RequestError:
            return False
        return True

    def add_book(self, stock: int) -> str:
        """Put a book on the shelf that nobody else orders; returns its id."""
        body = {"name": f"Book of {uuid4().hex[:8]}", "price": 1000, "stock_quantity": stock}
        return str(self._call("POST", "/api/v1/products", body)["book_id"])

    def stock(self, book_id: str) -> tuple[int, int]:
        """Return what is available and what is reserved of a book."""
        book = self._call("GET", f"/api/v1/inventory/{book_id}")
        return book["available_stock"], book["reserved_stock"]

    def order(self, book_id: str) -> str:
        """Order one copy, orchestrated; returns the saga's id."""
        body = {"items": [{"product_id": book_id, "quantity": 1}], "saga_type": "order"}
        return str(self._call("POST", "/api/v1/orders", body)["saga_id"])

    def seen(self, wanted: set[str]) -> dict[str, Seen]:
        """Return these sagas: newest first, page by page, until each was seen."""
        found: dict[str, Seen] = {}
        cursor = ""
        while wanted - set(found):
            page = self._call("GET", f"/api/v1/sagas?limit={PAGE}{cursor}")
            for row in page["sagas"]:
                times = (datetime.fromisoformat(row[name]) for name in ("created_at", "updated_at"))
                found[row["saga_id"]] = Seen(row["saga_id"], row["status"], *times)
            if not page["next_cursor"]:
                break
            cursor = f"&cursor={page['next_cursor']}"
        return {saga_id: found[saga_id] for saga_id in wanted & set(found)}

    def steps(self, saga_id: str) -> list[Ran]:
        """Return what a saga did, in order; what it has not ended yet is left out."""
        history = self._call("GET", f"/api/v1/sagas/{saga_id}/history")["history"]
        times = ("started_at", "completed_at")
        return [
            Ran(row["step_name"], *(datetime.fromisoformat(row[name]) for name in times))
            for row in history
            if row["operation"] == "action" and "completed_at" in row
        ]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise RequestError(f"{method} {path} answered {error.code}: {error.read()[:300]!r}") from error
        except OSError as error:
            raise RequestError(f"{method} {path}: {error}") from error
