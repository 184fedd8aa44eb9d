"""Who is kept out: forged forms, other sites, guessed passwords, stale sessions, strangers' programs."""

import logging
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import redis_client, runtime, stored_values
from app.errors import DatabaseUnavailable
from app.ids import new_id
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.browser import HTML, PASSWORD, Browser
from tests.testkit.private_servers import MissingServer, PrivateRedis
from tests.testkit.processes import wait_for
from tests.testkit.servers import BROKERS, not_here, require_redis
from tests.testkit.web import SEED_ORDER, get, post
from web import API, create_app
from web.auth import operators
from workflows.operations import operator_password

TOKEN = "a token that is long enough"
STREAMS = {"pages.live.saga"}
ANYTHING = {"saga_id": new_id(), "order_id": "order-1", "book_id": "book-123", "name": "ja", "step": "process_payment"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.but(operator_password=PASSWORD)


@pytest.fixture
def stranger(flask_app: Flask) -> FlaskClient:
    """A client that sends what it is told to, and no token."""
    return FlaskClient(flask_app, flask_app.response_class)


def posts(app: Flask, *, api: bool) -> Iterator[tuple[str, str]]:
    """Yield endpoint and a path of every route that changes something."""
    names = {"graphql", *(module.api.name for module in API)}
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if "POST" in (rule.methods or ()) and (rule.endpoint.partition(".")[0] in names) is api:
                known: dict[str, Any] = {name: ANYTHING.get(name, "x") for name in rule.arguments}
                yield rule.endpoint, app.url_for(rule.endpoint, **known)


def pages(app: Flask, **known: str) -> Iterator[str]:
    """Yield a path of every page."""
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            if "GET" in (rule.methods or ()) and rule.endpoint.startswith("pages.") and rule.endpoint not in STREAMS:
                values: dict[str, Any] = {name: {**ANYTHING, **known}.get(name, "x") for name in rule.arguments}
                yield app.url_for(rule.endpoint, **values)


def session_cookie(response: TestResponse) -> Any:
    """Return the session's cookie as a response sets it."""
    jar: SimpleCookie = SimpleCookie()
    for line in response.headers.getlist("Set-Cookie"):
        jar.load(line)
    return jar["cloudmart"]


def is_operator(client: FlaskClient) -> bool:
    """Tell whether the pages take a client for an operator."""
    return "Operator: <bdi>Ann</bdi>" in client.get("/").text


def test_a_form_without_this_sessions_token_does_nothing(flask_app: Flask, stranger: FlaskClient) -> None:
    other = Browser(flask_app).token()
    tried = 0
    for endpoint, path in posts(flask_app, api=False):
        for forged in ({}, {"csrf_token": "x"}, {"csrf_token": other}, {"csrf_token": "\ud7ff." * 3}):
            tried += 1
            answer = stranger.post(path, data=forged, headers=HTML)
            assert answer.status_code == 400, (endpoint, forged)
            assert "This page was too old" in answer.text
    assert tried >= 4 * 4


@pytest.mark.parametrize(
    "origin",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_no_other_sites_page_can_send_anything(
    flask_app: Flask, client: Browser, operator: Browser, origin: dict[str, str]
) -> None:
    for api in (True, False):
        for endpoint, path in posts(flask_app, api=api):
            answer = operator.post(path, data={}, headers=origin)
            assert answer.status_code == 403, endpoint


def test_every_form_of_every_page_carries_the_token(flask_app: Flask, operator: Browser) -> None:
    stuck = {**SEED_ORDER, "simulate": {"payments": "undo-fail:7", "shipping": "decline"}}
    saga_id = post(operator, "/api/v1/orders", stuck)["saga_id"]
    forms = 0
    for path in pages(flask_app, saga_id=saga_id):
        page = operator.get(path, headers=HTML).text
        for form in re.findall(r'<form[^>]* method="post".*?</form>', page, re.DOTALL):
            forms += 1
            assert re.search(r'name="csrf_token" value="[^"]+"', form), (path, form)
        assert "<form" not in re.sub(r'<form[^>]* method="(post|get)"', "", page), path
    assert forms > 20


def test_what_was_entered_in_a_form_that_was_too_old_can_be_sent_once_more(
    flask_app: Flask, stranger: FlaskClient
) -> None:
    entered = {"shipping_address": 'Tokyo "1-2"', "quantity": "2", "csrf_token": "old"}

    own = stranger.post("/place", data=entered, headers={"Sec-Fetch-Site": "same-origin", **HTML})

    assert own.status_code == 400
    assert 'action="/place"' in own.text
    assert 'name="shipping_address" value="Tokyo &#34;1-2&#34;"' in own.text
    assert 'value="old"' not in own.text


@pytest.mark.parametrize(
    ("path", "headers", "entered"),
    [
        ("/place", {}, {"quantity": "2"}),
        ("/operator/login", {"Sec-Fetch-Site": "same-origin"}, {"name": "Ann", "password": PASSWORD}),
    ],
)
def test_a_form_of_unknown_origin_is_not_offered_again_and_a_password_is_not_shown(
    stranger: FlaskClient, path: str, headers: dict[str, str], entered: dict[str, str]
) -> None:
    page = stranger.post(path, data=entered, headers={**headers, **HTML})

    assert page.status_code == 400
    assert "Send it once more" not in page.text
    assert PASSWORD not in page.text


def test_the_right_password_lets_in_and_logging_out_ends_it(client: Browser) -> None:
    assert not is_operator(client)

    answer = client.log_in()

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert is_operator(client)
    assert client.post("/operator/logout").status_code == 303
    assert not is_operator(client)


@pytest.mark.parametrize("password", ["", "x", PASSWORD + " ", PASSWORD.upper(), "x" * 1001, "\ud83d\ude00", "\0"])
def test_a_wrong_password_lets_nobody_in(client: Browser, password: str) -> None:
    answer = client.log_in(password=password.encode("utf-16", "surrogatepass").decode("utf-16"))

    assert answer.status_code == 403
    assert "This is not the password." in answer.text
    assert 'value="Ann"' in answer.text
    assert not is_operator(client)


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, "\0"])
def test_whoever_logs_in_says_who_they_are(client: Browser, name: str) -> None:
    answer = client.log_in(name=name)

    assert answer.status_code == 422
    assert "Say who you are" in answer.text


@pytest.mark.parametrize(
    ("wanted", "gets"),
    [
        ("/sagas/1?step=a", "/sagas/1?step=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_the_login_leads_to_pages_of_this_site_only(client: Browser, wanted: str, gets: str) -> None:
    form = {"name": "Ann", "password": PASSWORD, "next": wanted}

    answer = client.post("/operator/login", data=form)

    assert answer.headers["Location"] == gets
    assert client.get("/operator/login", query_string={"next": wanted}).headers["Location"] == gets


def test_passwords_cannot_be_guessed_by_trying(client: Browser) -> None:
    answers = [client.log_in(password="guess") for _ in range(6)]

    assert [answer.status_code for answer in answers] == [403] * 5 + [429]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    # not even the right one, or it could be told from the wrong ones
    assert client.log_in().status_code == 429
    assert not is_operator(client)


def test_attempts_of_one_address_do_not_shut_out_another(flask_app: Flask, client: Browser) -> None:
    for _ in range(6):
        client.log_in(password="guess")
    elsewhere = Browser(flask_app)
    elsewhere.environ_base["REMOTE_ADDR"] = "192.0.2.7"

    assert elsewhere.log_in().status_code == 303


def test_one_subscribers_addresses_are_counted_as_one(flask_app: Flask) -> None:
    codes = []
    for host in range(6):
        guesser = Browser(flask_app)
        guesser.environ_base["REMOTE_ADDR"] = f"2001:db8:1:2::{host}"
        codes.append(guesser.log_in(password="guess").status_code)

    assert codes == [403] * 5 + [429]


def new_address() -> str:
    """Return an address of a network that no other run of the tests has: its count in Redis outlives the test."""
    return str(IPv6Address((0xFD << 120) | (secrets.randbits(56) << 64) | 1))


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a Redis that is there, however slow, and let other runs of the tests guess beside this one."""
    monkeypatch.setattr(redis_client, "PATIENCE_SECONDS", 30)
    monkeypatch.setattr(operators, "ACCOUNT_ATTEMPTS", 1_000_000)


def test_web_servers_with_redis_count_together_and_each_for_itself_while_it_is_away(
    settings: Settings, here: Runtime, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_redis()
    patient(monkeypatch)
    together = settings.but(broker_url="amqp://127.0.0.1", redis_url=BROKERS["redis"])
    address = new_address()

    def guess(app: Flask) -> int:
        guesser = Browser(app)
        guesser.environ_base["REMOTE_ADDR"] = address
        return guesser.log_in(password="guess").status_code

    apps = [create_app(together), create_app(together)]
    assert [guess(apps[number % 2]) for number in range(6)] == [403] * 5 + [429]

    alone = create_app(settings.but(broker_url="redis://127.0.0.1:1/0"))
    with caplog.at_level(logging.INFO):
        assert [guess(alone) for _ in range(6)] == [403] * 5 + [429]
    assert [line for line in caplog.messages if "Redis" in line] == [
        "Redis does not answer: each web process counts attempts for itself"
    ]


def test_guesses_are_counted_by_a_redis_that_can_be_read_but_not_written(
    settings: Settings, here: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "OPEN_SECONDS", 0)
    try:
        server = PrivateRedis(tmp_path)
    except MissingServer as missing:
        not_here(str(missing))
    server.start()
    try:
        with redis_client.connect(server.url) as client:
            client.config_set("maxmemory", "1")  # and nothing may be thrown out: what writes is refused
        guesser = Browser(create_app(settings.but(redis_url=server.url)))
        assert [guesser.log_in(password="guess").status_code for _ in range(6)] == [403] * 5 + [429]
    finally:
        server.end()


@pytest.mark.parametrize("together", [False, True])
def test_of_guesses_sent_in_parallel_no_more_are_answered(
    settings: Settings, here: Runtime, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    if together:
        require_redis()
        patient(monkeypatch)
        settings = settings.but(redis_url=BROKERS["redis"])
    apps = [create_app(settings) for _ in range(2 if together else 1)]
    address = new_address()
    checked, refused = list[str](), list[int]()

    def check_slowly(password: str) -> bool:
        checked.append(password)
        wait_for("every other guess", lambda: len(checked) + len(refused) == 20)
        return False

    def guess(number: int) -> int:
        guesser = Browser(apps[number % len(apps)])
        guesser.environ_base["REMOTE_ADDR"] = address
        status = guesser.log_in(password="guess").status_code
        refused.extend([status] if status == 429 else [])
        return status

    monkeypatch.setattr(operator_password, "is_right", check_slowly)
    with ThreadPoolExecutor(20) as guessers:
        answers = sorted(guessers.map(guess, range(20)))

    assert answers == [403] * 5 + [429] * 15


def test_one_address_cannot_use_up_the_attempts_of_all(
    flask_app: Flask, client: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "ACCOUNT_ATTEMPTS", 7)
    for _ in range(10):
        client.log_in(password="guess")
    elsewhere = Browser(flask_app)
    elsewhere.environ_base["REMOTE_ADDR"] = "192.0.2.7"

    # of the ten guesses five were answered, and two more are left to all
    assert [elsewhere.log_in(password="guess").status_code for _ in range(3)] == [403, 403, 429]


def test_logging_in_gives_an_address_no_new_guesses(client: Browser) -> None:
    wrong = ["guess"] * 4
    answers = [client.log_in(password=password).status_code for password in (*wrong, PASSWORD, "guess", "guess")]

    assert answers == [403] * 4 + [303, 403, 429]


def test_logging_in_often_is_no_guessing(client: Browser) -> None:
    for _ in range(7):
        assert client.log_in().status_code == 303


def test_a_session_that_was_there_before_the_login_is_not_gone_on_with(client: Browser) -> None:
    planted = client.token()
    with client.session_transaction() as session:
        session["planted"] = "by somebody else"

    client.log_in()

    with client.session_transaction() as session:
        assert "planted" not in session
    stale = FlaskClient.post(client, "/operator/logout", headers={"X-CSRFToken": planted})
    assert stale.status_code == 400


def test_the_sessions_cookie_is_kept_from_scripts_other_sites_and_open_lines(flask_app: Flask) -> None:
    for base, secure in (("http://localhost", ""), ("https://localhost", True)):
        client = Browser(flask_app)
        token = re.search(r'csrf_token" value="([^"]+)', client.get("/operator/login", base_url=base).text)
        assert token
        form = {"name": "Ann", "password": PASSWORD, "csrf_token": token[1]}
        answer = FlaskClient.open(client, "/operator/login", method="POST", data=form, base_url=base)
        cookie = session_cookie(answer)
        assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Lax", secure)
        assert cookie["expires"]
        assert cookie["domain"] == ""


def test_a_session_ends_after_half_a_day_however_often_it_is_used(
    operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.time()
    for hours, lasts in ((6, True), (12.01, False)):
        monkeypatch.setattr(time, "time", lambda now=began + hours * 3600: now)
        with operator.session_transaction() as session:
            session["used"] = hours  # as a message that is shown once does: the cookie is signed anew
        assert is_operator(operator) is lasts


def test_a_session_ends_when_the_password_changes(operator: Browser, here: Runtime) -> None:
    here.settings = here.settings.but(operator_password="another password")

    assert not is_operator(operator)


def test_a_password_made_here_works_until_another_is_made(client: Browser, here: Runtime) -> None:
    here.settings = here.settings.but(operator_password=None)
    assert "no operator password yet" in client.get("/operator/login").text
    assert client.log_in().status_code == 403

    made = operator_password.make_first()

    assert made
    assert operator_password.make_first() is None
    assert client.log_in(password=made).status_code == 303
    assert is_operator(client)
    assert client.log_in(password=operator_password.make()).status_code == 303
    assert client.log_in(password=made).status_code == 403


def test_of_shops_that_start_at_once_only_one_shows_a_password_and_it_is_the_one_that_works(here: Runtime) -> None:
    here.settings = here.settings.but(operator_password=None)
    with ThreadPoolExecutor(4) as threads:
        shown = list(threads.map(lambda _: operator_password.make_first(), range(4)))

    made = [password for password in shown if password]
    assert len(made) == 1
    assert operator_password.is_right(made[0])


def test_two_web_servers_with_one_database_know_each_others_sessions(operator: Browser, here: Runtime) -> None:
    cookie = operator.get_cookie("cloudmart")
    assert cookie
    other = Browser(create_app())
    other.set_cookie("cloudmart", cookie.value)

    assert is_operator(other)


def test_web_servers_that_start_at_once_agree_on_the_key(here: Runtime) -> None:
    makers = [lambda made=made: made for made in ("one", "two", "three", "four")]
    with ThreadPoolExecutor() as threads:
        kept = set(threads.map(lambda make: stored_values.get_or_create("a_key", make), makers))

    assert len(kept) == 1
    assert stored_values.value_of("a_key") in kept


def test_a_session_of_another_key_is_nobodys(operator: Browser, here: Runtime) -> None:
    cookie = operator.get_cookie("cloudmart")
    assert cookie
    here.settings = here.settings.but(secret_key="another key, long enough")
    other = Browser(create_app())
    other.set_cookie("cloudmart", cookie.value)

    assert not is_operator(other)
    assert is_operator(operator)


def test_the_database_being_away_is_said_to_whoever_has_a_session(
    operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(*_: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr("app.database.Database._reading", no_answer)

    assert operator.get("/", headers=HTML).status_code == 503
    assert operator.get("/healthz").status_code == 200


def test_making_the_app_needs_no_database(settings: Settings) -> None:
    app = create_app(settings.but(database_url="postgresql://nobody@127.0.0.1:1/nothing"))

    assert app.test_client().get("/healthz").status_code == 200
    runtime.current().close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/nothing", 404),
        ("/api/v1/orders", 200),
        ("/api/v1/orders/none", 404),
        ("/api/v1/orders?limit=x", 422),
        ("/static/base.css", 200),
        ("/healthz", 200),
        ("/openapi/openapi.json", 200),
        ("/openapi/swagger", 200),
        ("/sagas/none", 404),
    ],
)
def test_every_answer_tells_the_browser_to_keep_others_out(client: Browser, path: str, status: int) -> None:
    with client.get(path, headers=HTML) as answer:
        said = answer.headers

        assert answer.status_code == status
        assert said["X-Content-Type-Options"] == "nosniff"
        assert said["Referrer-Policy"] == "same-origin"
        assert said["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "camera=()" in said["Permissions-Policy"]
        assert "default-src 'none'" in said["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in said["Content-Security-Policy"]
        assert "unsafe" not in said["Content-Security-Policy"]
        assert "Strict-Transport-Security" not in said
    with client.get(path, headers=HTML, base_url="https://localhost") as answer:
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_pages_seen_while_logged_in_are_not_kept(client: Browser) -> None:
    before = client.get("/")
    client.log_in()
    after = client.get("/")

    assert "no-store" not in before.headers["Cache-Control"]
    assert "private" in before.headers["Cache-Control"]
    assert "no-store" in after.headers["Cache-Control"]
    assert "Cookie" in before.headers["Vary"]


def test_the_proxy_is_believed_only_where_there_is_one(settings: Settings, here: Runtime) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}

    direct = create_app(settings).test_client().get("/", headers=forwarded)
    behind = create_app(settings.but(proxies=1)).test_client().get("/", headers=forwarded)

    assert "Strict-Transport-Security" not in direct.headers
    assert "Strict-Transport-Security" in behind.headers


def test_behind_two_proxies_the_visitors_own_address_and_scheme_count(settings: Settings, here: Runtime) -> None:
    app = create_app(settings.but(proxies=2))

    def log_in(address: str, password: str) -> TestResponse:
        visitor = Browser(app)
        # what a visitor makes up stands before what our proxies add: the visitor's address, and the outer proxy's
        visitor.environ_base |= {"HTTP_X_FORWARDED_FOR": f"1.2.3.{secrets.randbelow(250)}, {address}, 10.0.0.1"}
        visitor.environ_base |= {"REMOTE_ADDR": "10.0.0.2", "HTTP_X_FORWARDED_PROTO": "https"}
        return visitor.log_in(password=password)

    answers = [log_in("192.0.2.1", "guess") for _ in range(6)]
    elsewhere = log_in("192.0.2.2", PASSWORD)

    assert [answer.status_code for answer in answers] == [403] * 5 + [429]
    assert elsewhere.status_code == 303
    assert "Strict-Transport-Security" in elsewhere.headers
    assert session_cookie(elsewhere)["secure"]


def operator_calls(app: Flask) -> list[tuple[str, str]]:
    """Return endpoint and path of every call that is an operator's."""
    calls = posts(app, api=True)
    return [(name, path) for name, path in calls if getattr(app.view_functions[name], "for_operators", False)]


def test_the_operators_calls_are_these_and_the_document_says_so(flask_app: Flask, client: Browser) -> None:
    names = {endpoint.rpartition(".")[2] for endpoint, _ in operator_calls(flask_app)}
    saga_acts = {"cancel_saga", "resume_saga", "skip_compensation", "resume_stuck_sagas"}
    assert names == saga_acts | {"add_product", "add_category", "restock"}

    document = get(client, "/openapi/openapi.json")
    assert document["components"]["securitySchemes"]["operator"]["scheme"] == "bearer"
    said = {
        path for path, item in document["paths"].items() for operation in item.values() if operation.get("security")
    }
    assert len(said) == len(names)
    for path in said:
        assert "401" in document["paths"][path]["post"]["responses"]


@pytest.mark.parametrize(
    ("authorization", "right"),
    [
        (None, False),
        ("Bearer", False),
        ("Bearer ", False),
        (f"Bearer {TOKEN}x", False),
        (f"Bearer {TOKEN[:-1]}", False),
        (f"Basic {TOKEN}", False),
        ("Bearer \xe9\xff", False),
        (f"Bearer {TOKEN}", True),
    ],
)
def test_with_a_token_set_operators_calls_need_it(
    settings: Settings, here: Runtime, authorization: str | None, right: bool
) -> None:
    app = create_app(settings.but(operator_token=TOKEN))
    client = app.test_client()
    headers = {"Authorization": authorization} if authorization else {}
    for endpoint, path in operator_calls(app):
        answer = client.post(path, headers=headers)
        assert (answer.status_code != 401) is right, endpoint
        if not right:
            assert answer.mimetype == "application/problem+json"
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="CloudMart operators"'
            assert TOKEN not in answer.text


@pytest.mark.parametrize("changes", [{"host": "0.0.0.0"}, {"broker_url": "redis://127.0.0.1"}, {"proxies": 1}])
def test_without_a_token_nobody_operates_from_elsewhere(
    settings: Settings, here: Runtime, changes: dict[str, Any]
) -> None:
    app = create_app(settings.but(**changes))
    for _, path in operator_calls(app):
        answer = app.test_client().post(path)
        assert answer.status_code == 401
        assert "no OPERATOR_TOKEN is set" in answer.get_json()["detail"]


def test_a_name_that_was_made_to_lead_here_does_not_operate(flask_app: Flask, client: Browser) -> None:
    for _, path in operator_calls(flask_app):
        assert client.post(path, base_url="http://evil.example:8000").status_code == 400
        assert client.post(path, base_url="http://127.0.0.1:8000").status_code != 401


@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::1", "::ffff:192.0.2.9", ""])
def test_another_machine_does_not_operate_by_asking_for_a_local_name(
    flask_app: Flask, client: Browser, address: str
) -> None:
    for _, path in operator_calls(flask_app):
        answer = client.post(path, base_url="http://127.0.0.1:8000", environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == 401


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Forwarded"])
def test_nobody_operates_through_a_proxy_that_the_settings_do_not_know_of(
    flask_app: Flask, client: Browser, name: str
) -> None:
    for _, path in operator_calls(flask_app):
        assert client.post(path, headers={name: "192.0.2.9"}).status_code == 401


def test_the_mutations_that_are_operators_calls_need_the_token_too(settings: Settings, here: Runtime) -> None:
    client = create_app(settings.but(operator_token=TOKEN)).test_client()
    for mutation in (
        'createCategory(input: {name: "a", description: "b"}) { id }',
        'createProduct(input: {name: "a", price: 1, stockQuantity: 1}) { id }',
    ):
        body = {"query": f"mutation {{ {mutation} }}"}
        refused = client.post("/graphql", json=body).get_json()
        allowed = client.post("/graphql", json=body, headers={"Authorization": f"Bearer {TOKEN}"}).get_json()
        assert refused["errors"][0]["extensions"]["status"] == 401
        assert "errors" not in allowed
    assert len(get(client, "/api/v1/categories")["categories"]) == 2


def test_reading_and_ordering_stay_open_and_so_does_a_customers_cancelling(settings: Settings, here: Runtime) -> None:
    client = create_app(settings.but(operator_token=TOKEN)).test_client()

    order = post(client, "/api/v1/orders", SEED_ORDER)["order_id"]

    assert client.delete(f"/api/v1/orders/{order}").status_code == 409
    assert client.post(f"/saga/{order}/cancel").status_code == 409
    assert client.patch(f"/api/v1/orders/{order}", json={"shipping_address": "x"}).status_code == 409
    for path in ("/api/v1/sagas", "/api/v1/inventory", "/api/v1/categories", "/"):
        assert client.get(path).status_code == 200
