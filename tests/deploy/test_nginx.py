"""What stands before the web servers: it hides their deaths, has nothing done twice for it, and keeps secrets in."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from app.runtime import Runtime
from app.settings import Settings
from tests.deploy.nginx import START, nginx, nginx_program
from tests.testkit.client import PASSWORD
from tests.testkit.processes import free_port, kill_group, listens, process_environment, running, wait_for
from tests.testkit.shop import Answer, Shop, http_transport
from web.auth.rate_limits import Limit

FIRST, SECOND, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"
PROXY = "127.0.0.7"
ORDER = {"items": [{"product_id": "item-001", "quantity": 1}]}
SHORT = {"bookId": "item-001", "quantity": 1}


def web(settings: Settings, address: str, log: Path) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    # one process, so that the attempts to log in are counted in one place also where there is no Redis
    bind = ["--bind", f"{address}:{settings.port}", "--workers", "1", "--no-control-socket"]
    command = [sys.executable, "-m", "gunicorn", "web:create_app()", *bind]
    return running(command, process_environment(settings), log, lambda: listens(settings.port, address))


class DiesAfterDoing(ThreadingHTTPServer):
    """A web server that does what it is asked, by asking the real one, and dies before it can answer: each time."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__((SECOND, port), Unanswered)
        self.real = f"http://{FIRST}:{port}"
        self.deaths = 0


class Unanswered(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, DiesAfterDoing)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = urllib.request.Request(self.server.real + self.path, body, dict(self.headers))
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status < 300
        self.server.deaths += 1  # and the connection ends with nothing written


@pytest.fixture(scope="module")
def real(seeded_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A web server for all the tests here: what it is asked stays undone, for there is no worker."""
    nginx_program()  # without one no web server has to be started
    folder = tmp_path_factory.mktemp("real")
    shutil.copy(seeded_database, folder / "shop.db")
    settings = Settings(
        database_url=f"sqlite:///{folder / 'shop.db'}",
        port=free_port(FIRST, SECOND, THIRD),
        proxies=1,
        operator_password=PASSWORD,  # type: ignore[arg-type]
        allowed_hosts="shop.example",
    )
    with web(settings, FIRST, folder / "log"):
        yield settings


def orders(shop: Shop) -> int:
    return int(shop.rows("SELECT count(*) FROM orders")[0][0])


@pytest.fixture(scope="module")
def dying(real: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, DiesAfterDoing]]:
    """A shop of two web servers, of which one dies of every request right after having done it."""
    folder = tmp_path_factory.mktemp("dying")
    with (
        DiesAfterDoing(real.port) as dies,
        nginx(folder, real.port, [FIRST, SECOND]) as base,
        closing(Runtime(real)) as here,
    ):
        threading.Thread(target=dies.serve_forever, args=(0.05,), daemon=True).start()
        yield Shop(http_transport(base), here), dies
        dies.shutdown()


def until_it_has_died(dies: DiesAfterDoing, ask: Callable[[], Answer]) -> list[Answer]:
    """Ask until some of what was asked has met the server that dies; which one is asked is nginx's choice."""
    answers: list[Answer] = []
    before = dies.deaths
    while dies.deaths < before + 3:
        answers.append(ask())
        assert len(answers) < 100
    return answers


@pytest.mark.parametrize(("path", "body"), [("/api/v1/orders", ORDER), ("/orders", SHORT), ("/saga/start", SHORT)])
def test_an_order_is_answered_and_placed_once_though_a_server_died_of_it(
    dying: tuple[Shop, DiesAfterDoing], path: str, body: dict[str, Any]
) -> None:
    shop, dies = dying
    before = orders(shop)
    answers = until_it_has_died(dies, lambda: shop.post(path, body))

    assert {answer.status for answer in answers} == {202}
    assert orders(shop) == before + len(answers)


def test_what_cannot_be_known_again_is_not_asked_twice(dying: tuple[Shop, DiesAfterDoing]) -> None:
    shop, dies = dying
    mutation = {
        "query": "mutation($input: CreateOrderInput!) { createOrder(input: $input) { id } }",
        "variables": {"input": {"userId": "customer-001", "items": [{"productId": "item-001", "quantity": 1}]}},
    }
    before = orders(shop)
    answers = until_it_has_died(dies, lambda: shop.post("/graphql", mutation))

    assert 502 in {answer.status for answer in answers} <= {200, 502}
    assert orders(shop) == before + len(answers)


def test_a_clients_own_key_is_its_own(dying: tuple[Shop, DiesAfterDoing]) -> None:
    shop, dies = dying
    before = orders(shop)
    answers = until_it_has_died(dies, lambda: shop.post("/api/v1/orders", ORDER, **{"Idempotency-Key": "one"}))

    assert len({answer.body["order_id"] for answer in answers}) == 1
    assert orders(shop) == before + 1


def test_a_killed_server_is_not_noticed(real: Settings, tmp_path: Path) -> None:
    with (
        web(real, THIRD, tmp_path / "third") as third,
        nginx(tmp_path, real.port, [FIRST, THIRD]) as base,
        ThreadPoolExecutor(6) as clients,
        closing(Runtime(real)) as here,
    ):
        shop = Shop(http_transport(base), here)
        before = orders(shop)
        answers = []
        for number, answer in enumerate(clients.map(lambda _: shop.post("/orders", SHORT), range(60))):
            if number == 20:
                kill_group(third)
            answers.append(answer.status)

        assert third.returncode == -signal.SIGKILL
        assert set(answers) == {202}
        assert orders(shop) == before + 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nginx")


@pytest.fixture(scope="module")
def address(real: Settings, folder: Path) -> Iterator[str]:
    """Where nginx listens before one web server."""
    with nginx(folder, real.port, [FIRST], trusted_proxies=f"192.0.2.0/24, {PROXY}") as base:
        yield base


def logged(folder: Path, path: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the access log's lines about requests whose path has this part, once there are so many.

    nginx writes a line after it has sent the answer.
    """
    found: list[dict[str, Any]] = []

    def complete() -> bool:
        lines = (folder / "access.log").read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        found[:] = [entry for entry in entries if path in entry["path"].split("/")]
        return len(found) >= count

    wait_for(f"{count} lines about {path} in nginx's access log", complete)
    return found


def test_live_pages_come_as_they_are_written_and_metrics_stay_inside(address: str, folder: Path) -> None:
    call = http_transport(address)
    saga_id = call("POST", "/orders", SHORT, {}).body["sagaId"]
    with closing(http.client.HTTPConnection(urlsplit(address).netloc, timeout=200)) as connection:
        connection.request("GET", f"/sagas/{saga_id}/live")
        stream = connection.getresponse()
        # the stream lasts: what can be read before its end was not held back
        assert next(line for line in iter(stream.readline, b"") if line.startswith(b"event: saga"))

    asked = ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/flower/metrics", "/flower/x/../metrics"]
    asked += ["/grafana/metrics", "/grafana/metrics/plugins/x"]
    assert {call("GET", path, None, {}).status for path in asked} == {404}
    inside = logged(folder, "metrics", len(asked))
    assert len(inside) == len(asked)
    assert {line["upstream"] for line in inside} == {""}


def ask(
    address: str, path: str, source: str = FIRST, body: str | None = None, **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    """Send a request from an address, a POST if it has a body; return the response and its text."""
    netloc = urlsplit(address).netloc
    with closing(http.client.HTTPConnection(netloc, timeout=200, source_address=(source, 0))) as connection:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, said)
        response = connection.getresponse()
        return response, response.read().decode()


def test_unknown_hosts_are_refused_and_redirects_name_none(address: str) -> None:
    statuses = [ask(address, "/healthz", Host=host)[0].status for host in ("localhost:8080", "evil.example")]

    assert statuses == [200, 400]
    for path, leads_to in (("/flower", "/flower/"), ("/api//v1/orders", "/api/v1/orders")):
        assert ask(address, path, Host="localhost:8080")[0].headers["Location"] == leads_to


def test_pages_of_other_sites_have_flower_do_nothing(address: str) -> None:
    call = http_transport(address)

    def status(method: str, site: str) -> int:
        return call(method, "/flower/api/worker/shutdown/x", None, {"Sec-Fetch-Site": site}).status

    assert [status("POST", site) for site in ("cross-site", "same-site")] == [403, 403]
    # nobody is called flower here: these were sent on
    assert [status(*asked) for asked in (("POST", "same-origin"), ("POST", "none"), ("GET", "cross-site"))] == [502] * 3


def test_what_is_too_large_or_finds_nobody_is_told_as_the_web_server_would(address: str, folder: Path) -> None:
    call = http_transport(address)
    answer = call("POST", "/api/v1/products", {"name": "x" * 2**20}, {})
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert [line["upstream"] for line in logged(folder, "products")] == [""]  # which was spared it
    answer = call("GET", "/flower/", None, {})  # nobody is called that here
    assert (answer.status, answer.headers["Content-Type"]) == (502, "application/problem+json")


def log_in(address: str, source: str, visitor: str, password: str = "guess") -> http.client.HTTPResponse:
    """Log in from an address as a proxy that ends TLS does for a visitor, who claims to be another one's proxy."""
    claims = {"Host": "shop.example", "X_Forwarded_For": f"10.0.0.1, {visitor}", "X_Forwarded_Proto": "https"}
    shown, page = ask(address, "/operator/login", source, **claims)
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token, page
    cookie = SimpleCookie(shown.headers["Set-Cookie"])["cloudmart"]
    kind = {"Content_Type": "application/x-www-form-urlencoded", "Cookie": f"cloudmart={cookie.value}"}
    form = urlencode({"csrf_token": token[1], "name": "Ann", "password": password})
    return ask(address, "/operator/login", source, form, **claims, **kind)[0]


def guess_within_a_minute(address: str, source: str, visitor: str) -> list[http.client.HTTPResponse]:
    """Return six answers to wrong passwords, all of which the server counts in the same minute."""
    while True:
        began = time.monotonic()
        answers = [log_in(address, source, visitor) for _ in range(6)]
        if time.monotonic() - began < Limit.seconds:
            return answers
        time.sleep(Limit.seconds)  # after a minute the server counts from nothing


def test_behind_a_tls_proxy_each_visitor_has_a_limit_and_a_secure_session(address: str, folder: Path) -> None:
    guesser, operator, around = "127.0.0.8", "127.0.0.9", "127.0.0.10"

    guesses = guess_within_a_minute(address, PROXY, guesser)
    let_in = log_in(address, PROXY, operator, PASSWORD)
    answers = guess_within_a_minute(address, around, operator)

    assert [answer.status for answer in guesses] == [403] * 5 + [429]
    assert (let_in.status, let_in.headers["Location"]) == (303, "/")
    assert "Secure" in let_in.headers["Set-Cookie"]
    assert "Strict-Transport-Security" in let_in.headers
    # from whom nginx does not know as a proxy, neither address nor scheme is believed
    assert [answer.status for answer in answers] == [403] * 5 + [429]
    assert "Strict-Transport-Security" not in answers[0].headers
    assert {line["from"] for line in logged(folder, "login", 26)} == {guesser, operator, around}


def test_what_is_no_address_is_no_trusted_proxy(tmp_path: Path) -> None:
    environment = {**os.environ, "TRUSTED_PROXIES": "10.0.0.1 any;"}

    refused = subprocess.run(
        ["sh", START, "unused", tmp_path / "proxies"], env=environment, capture_output=True, text=True
    )

    assert refused.returncode == 2
    assert "TRUSTED_PROXIES: any; is neither an address nor a network" in refused.stderr
