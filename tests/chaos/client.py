"""A good client: sends each order until it is accepted, always under the same key, and remembers what it was told."""

import http.client
import json
import threading
import time
import urllib.error
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
    """Places orders over HTTP; what it meets on the way is kept, and what it must not meet is a find."""

    def __init__(self, base_url: str, may_refuse: MayRefuse) -> None:
        self._call = http_transport(base_url)
        self._may_refuse = may_refuse
        self.order_ids: dict[str, str] = {}
        """What each key got."""
        self.repeats: list[str] = []
        """Why requests were sent again."""
        self.finds: list[str] = []

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
                order_id = str(answer.body["order_id"])
                first = self.order_ids.setdefault(wish.key, order_id)
                if first != order_id:
                    self.finds.append(f"{wish.key}: got the orders {first} and {order_id}")
                return
            if answer and answer.status in REFUSED:
                return
            stopping.wait(REPEAT_EVERY_SECONDS)

    def _answer(self, wish: Wish) -> Answer | None:
        sent = time.monotonic()
        try:
            answer = self._call("POST", "/api/v1/orders", wish.body, {"Idempotency-Key": wish.key})
        except (TimeoutError, json.JSONDecodeError) as error:
            self.finds.append(f"{wish.key}: no answer in time, or one that is no JSON: {error!r}")
            return None
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            # web was killed before, or while, it answered
            self.repeats.append(type(error.reason if isinstance(error, urllib.error.URLError) else error).__name__)
            return None
        if answer.status == 503 and self._may_refuse(sent):
            self.repeats.append("503")
        elif answer.status != 202:
            self.finds.append(f"{wish.key}: {answer.status} {answer.body}")
        return answer
