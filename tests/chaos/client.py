"""A good client: sends each order until it is accepted, always under the same key, and remembers what it was told."""

import http.client
import json
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.plan import Wish
from tests.testkit.shop import Answer, http_transport

CLIENTS = 12
REPEAT_EVERY_SECONDS = 0.1
REFUSED = range(400, 500)

MayRefuse = Callable[[float], bool]
"""Tells of a request sent at a moment (monotonic seconds) whether 503 is an answer that it may get by now."""


class Client:
    """Places orders over HTTP; what it meets on the way is counted, and what it must not meet is a find."""

    def __init__(self, base_url: str, may_refuse: MayRefuse) -> None:
        self._call = http_transport(base_url)
        self._may_refuse = may_refuse
        self._lock = threading.Lock()
        self.order_ids: dict[str, str] = {}
        """What each key got."""
        self.repeats: Counter[str] = Counter()
        """Why requests were sent again."""
        self.finds: list[str] = []
        self.slowest_answer = 0.0

    def place_all(self, wishes: Sequence[Wish], stopping: threading.Event) -> None:
        """Place each order at its moment, counted from now; returns when all are accepted, or when told to stop."""
        start = time.monotonic()

        def place(wish: Wish) -> None:
            stopping.wait(max(0.0, start + wish.at - time.monotonic()))
            for _ in range(wish.answers):
                self._place(wish, stopping)

        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(place, wishes))

    def resume(self, saga_id: str) -> None:
        """Have a stuck saga go on. Raises AssertionError when that is refused."""
        answer = self._call("POST", f"/api/v1/sagas/{saga_id}/resume", None, {})
        assert answer.status == 202, answer

    def _place(self, wish: Wish, stopping: threading.Event) -> None:
        while not stopping.is_set():
            answer = self._answer(wish)
            if answer and answer.status == 202:
                self._note(wish, str(answer.body["order_id"]))
                return
            if answer and answer.status in REFUSED:
                return
            stopping.wait(REPEAT_EVERY_SECONDS)

    def _answer(self, wish: Wish) -> Answer | None:
        sent = time.monotonic()
        try:
            answer = self._call("POST", "/api/v1/orders", wish.body, {"Idempotency-Key": wish.key})
        except TimeoutError as error:
            self._find(f"{wish.key}: no answer in time: {error}")
            return None
        except json.JSONDecodeError as error:
            self._find(f"{wish.key}: an answer that is no JSON: {error.doc[:200]!r}")
            return None
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            self._repeat(_reason(error))
            return None
        with self._lock:
            self.slowest_answer = max(self.slowest_answer, time.monotonic() - sent)
        if answer.status == 503 and self._may_refuse(sent):
            self._repeat("503")
        elif answer.status != 202:
            self._find(f"{wish.key}: {answer.status} {answer.body}")
        return answer

    def _note(self, wish: Wish, order_id: str) -> None:
        with self._lock:
            first = self.order_ids.setdefault(wish.key, order_id)
        if first != order_id:
            self._find(f"{wish.key}: got the orders {first} and {order_id}")

    def _repeat(self, reason: str) -> None:
        with self._lock:
            self.repeats[reason] += 1

    def _find(self, find: str) -> None:
        with self._lock:
            self.finds.append(find)


def _reason(error: Exception) -> str:
    """Return why no answer came: web was killed before, or while, it answered."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return type(cause).__name__
