"""Who is kept out: forged forms, other sites, guessed passwords, stale sessions, strangers' programs."""

import logging
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.database import stored_values
from app.redis import client as redis_client
from app.runtime import Runtime
from app.settings import Settings
from tests.testkit.client import HTML, PASSWORD, Browser
from tests.testkit.processes import wait_for
from tests.testkit.servers import BROKERS, require_redis
from tests.testkit.shop import UNKNOWN_ID
from tests.testkit.web import SEED_ORDER, STREAMS, STUCK, get, post, routes
from web import API, create_app
from web.auth import operators
from workflows.operations import operator_password

TOKEN = "a token that is long enough"
UNKNOWN = {"saga_id": UNKNOWN_ID, "order_id": "order-1"}
GUESSES = [403] * 5 + [429]
"""What six wrong passwords from one address are answered."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.but(operator_password=PASSWORD)


@pytest.fixture
def stranger(flask_app: Flask) -> FlaskClient:
    """A client that sends what it is told to, and no token."""
    return FlaskClient(flask_app, flask_app.response_class)


def posts(app: Flask, *, api: bool) -> list[tuple[str, str]]:
    """Return endpoint and path of what changes something: by the API, or by forms."""
    names = {"graphql", *(module.api.name for module in API)}
    changing = ((rule.endpoint, path) for rule, path in routes(app, **UNKNOWN) if "POST" in (rule.methods or ()))
    return [(endpoint, path) for endpoint, path in changing if (endpoint.partition(".")[0] in names) is api]


def is_operator(client: FlaskClient) -> bool:
    """Return whether the pages take a client for an operator."""
    return "Operator: <bdi>Ann</bdi>" in client.get("/").text


# ---- forms


def test_a_form_without_this_sessions_token_does_nothing(flask_app: Flask, stranger: FlaskClient) -> None:
    other = Browser(flask_app).token()
    paths = [path for _, path in posts(flask_app, api=False)]
    assert len(paths) >= 4

    for path in paths:
        for forged in ({}, {"csrf_token": "x"}, {"csrf_token": other}, {"csrf_token": "\ud7ff." * 3}):
            answer = stranger.post(path, data=forged, headers=HTML)
            assert answer.status_code == 400, (path, forged)
            assert "This page was too old" in answer.text


def test_no_other_sites_page_can_send_anything(flask_app: Flask, operator: Browser) -> None:
    paths = [path for api in (True, False) for _, path in posts(flask_app, api=api)]
    for origin in (
        *({"Sec-Fetch-Site": site} for site in ("cross-site", "same-site")),
        *({"Origin": it} for it in ("https://evil.example", "null", "http://[", "http://localhost.evil.example")),
    ):
        for path in paths:
            assert operator.post(path, data={}, headers=origin).status_code == 403, (path, origin)
    assert get(operator, "/api/v1/orders")["orders"] == []


def test_every_form_of_every_page_carries_the_token(flask_app: Flask, operator: Browser) -> None:
    saga_id = post(operator, "/api/v1/orders", STUCK)["saga_id"]
    forms = 0
    for rule, path in routes(flask_app, saga_id=saga_id):
        if "GET" in (rule.methods or ()) and rule.endpoint.startswith("pages.") and rule.endpoint not in STREAMS:
            page = operator.get(path, headers=HTML).text
            for form in re.findall(r'<form[^>]* method="post".*?</form>', page, re.DOTALL):
                forms += 1
                assert re.search(r'name="csrf_token" value="[^"]+"', form), (path, form)
            assert "<form" not in re.sub(r'<form[^>]* method="(post|get)"', "", page), path
    assert forms > 20


def test_what_was_entered_in_a_form_that_was_too_old_can_be_sent_once_more(stranger: FlaskClient) -> None:
    entered = {"shipping_address": 'Tokyo "1-2"', "quantity": "2", "csrf_token": "old"}
    own = {"Sec-Fetch-Site": "same-origin", **HTML}

    page = stranger.post("/place", data=entered, headers=own)
    of_unknown_origin = stranger.post("/place", data=entered, headers=HTML)
    login = stranger.post("/operator/login", data={"name": "Ann", "password": PASSWORD}, headers=own)

    assert page.status_code == 400
    assert 'action="/place"' in page.text
    assert 'name="shipping_address" value="Tokyo &#34;1-2&#34;"' in page.text
    assert 'value="old"' not in page.text
    for answer in (of_unknown_origin, login):
        assert answer.status_code == 400
        assert "Send it once more" not in answer.text
        assert PASSWORD not in answer.text


# ---- the login


def test_the_right_password_lets_in_and_logging_out_ends_it(client: Browser) -> None:
    before = client.get("/").headers
    assert not is_operator(client)
    assert "private" in before["Cache-Control"]
    assert "no-store" not in before["Cache-Control"]
    assert "Cookie" in before["Vary"]

    answer = client.log_in()

    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert is_operator(client)
    assert "no-store" in client.get("/").headers["Cache-Control"], "what operators see is not kept"
    assert client.post("/operator/logout").status_code == 303
    assert not is_operator(client)


def test_a_wrong_password_or_no_name_lets_nobody_in(client: Browser) -> None:
    for password in ("", PASSWORD + " ", PASSWORD.upper(), "x" * 1001, "\0"):
        answer = client.log_in(password=password)
        assert answer.status_code == 403, password
        assert "This is not the password." in answer.text
        assert 'value="Ann"' in answer.text
    for name in ("", "  ", "x" * 201, "\0"):
        answer = client.log_in(name=name)
        assert answer.status_code == 422, name
        assert "Enter your name" in answer.text
    assert not is_operator(client)


def test_the_login_leads_to_pages_of_this_site_only_however_often(client: Browser) -> None:
    elsewhere = ("//evil.example", "/\\evil.example", "/\t/evil.example", "/\n/evil.example", "https://evil.example")
    for wanted in ("/sagas/1?step=a", *elsewhere, "javascript:alert(1)", ""):
        form = {"name": "Ann", "password": PASSWORD, "next": wanted}
        leads_to = wanted if wanted.startswith("/sagas") else "/"
        assert client.post("/operator/login", data=form).headers["Location"] == leads_to
        assert client.get("/operator/login", query_string={"next": wanted}).headers["Location"] == leads_to


def guess(app: Flask, address: str, password: str = "guess") -> int:
    """Try to log in from an address; returns the status."""
    guesser = Browser(app)
    guesser.environ_base["REMOTE_ADDR"] = address
    return guesser.log_in(password=password).status_code


def test_passwords_cannot_be_guessed_by_trying(flask_app: Flask, client: Browser) -> None:
    answers = [client.log_in(password="guess") for _ in range(6)]

    assert [answer.status_code for answer in answers] == GUESSES
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    # not even the right one, or it could be told from the wrong ones
    assert client.log_in().status_code == 429
    assert not is_operator(client)
    assert guess(flask_app, "192.0.2.7", PASSWORD) == 303, "another address is not shut out"
    assert [guess(flask_app, f"2001:db8:1:2::{host}") for host in range(6)] == GUESSES, "a subscriber has many"


def test_one_address_cannot_use_up_the_attempts_of_all(flask_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "ACCOUNT_ATTEMPTS", 7)
    for _ in range(10):
        guess(flask_app, "127.0.0.1")

    # of the ten guesses five were answered, and two more are left to all
    assert [guess(flask_app, "192.0.2.7") for _ in range(3)] == [403, 403, 429]


def test_logging_in_gives_an_address_no_new_guesses(client: Browser) -> None:
    tried = (*["guess"] * 4, PASSWORD, "guess", "guess")

    assert [client.log_in(password=one).status_code for one in tried] == [403] * 4 + [303, 403, 429]


@pytest.fixture
def redis_settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Those of servers that count in the common Redis: however slow it is, and beside other runs of the tests."""
    require_redis()
    monkeypatch.setattr(redis_client, "TIMEOUT_SECONDS", 30)
    monkeypatch.setattr(operators, "ACCOUNT_ATTEMPTS", 1_000_000)
    return settings.but(broker_url="amqp://127.0.0.1", redis_url=BROKERS["redis"])


def new_address() -> str:
    """Return an address of a network that no other run of the tests has: its count in Redis outlives the test."""
    return str(IPv6Address((0xFD << 120) | (secrets.randbits(56) << 64) | 1))


def test_web_servers_with_redis_count_together_and_each_for_itself_while_it_is_away(
    redis_settings: Settings, here: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    address = new_address()
    apps = [create_app(redis_settings) for _ in range(2)]
    alone = create_app(redis_settings.but(redis_url="redis://127.0.0.1:1/0"))

    assert [guess(apps[number % 2], address) for number in range(6)] == GUESSES
    with caplog.at_level(logging.INFO):
        assert [guess(alone, address) for _ in range(6)] == GUESSES
    assert [line for line in caplog.messages if "Redis" in line] == [
        "Redis does not answer: each web process counts attempts for itself"
    ]


@pytest.mark.parametrize("servers", [1, 2])
def test_of_guesses_sent_in_parallel_no_more_are_answered(
    request: pytest.FixtureRequest, settings: Settings, here: Runtime, monkeypatch: pytest.MonkeyPatch, servers: int
) -> None:
    if servers > 1:
        settings = request.getfixturevalue("redis_settings")
    apps = [create_app(settings) for _ in range(servers)]
    address = new_address()
    checked, refused = list[str](), list[int]()

    def check_slowly(password: str) -> bool:
        checked.append(password)
        wait_for("every other guess", lambda: len(checked) + len(refused) == 20)
        return False

    def guess_one(number: int) -> int:
        status = guess(apps[number % servers], address)
        refused.extend([status] if status == 429 else [])
        return status

    monkeypatch.setattr(operator_password, "verify", check_slowly)
    with ThreadPoolExecutor(20) as guessers:
        assert sorted(guessers.map(guess_one, range(20))) == [403] * 5 + [429] * 15


# ---- sessions, and the password


def test_a_session_that_was_there_before_the_login_is_not_gone_on_with(client: Browser) -> None:
    planted = client.token()
    with client.session_transaction() as session:
        session["planted"] = "by somebody else"

    client.log_in()

    with client.session_transaction() as session:
        assert "planted" not in session
    stale = FlaskClient.post(client, "/operator/logout", headers={"X-CSRFToken": planted})
    assert stale.status_code == 400


@pytest.mark.parametrize(("base", "secure"), [("http://localhost", False), ("https://localhost", True)])
def test_the_sessions_cookie_is_kept_from_scripts_other_sites_and_open_lines(
    client: Browser, base: str, secure: bool
) -> None:
    token = re.search(r'csrf_token" value="([^"]+)', client.get("/operator/login", base_url=base).text)
    assert token
    form = {"name": "Ann", "password": PASSWORD, "csrf_token": token[1]}

    answer = FlaskClient.open(client, "/operator/login", method="POST", data=form, base_url=base)

    [cookie] = [line for line in answer.headers.getlist("Set-Cookie") if line.startswith("cloudmart=")]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Expires=" in cookie
    assert "Domain" not in cookie
    assert ("Secure" in cookie) is secure


def test_a_session_ends_after_half_a_day_however_often_it_is_used(
    operator: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.time()
    for hours, lasts in ((6, True), (12.01, False)):
        monkeypatch.setattr(time, "time", lambda now=began + hours * 3600: now)
        with operator.session_transaction() as session:
            session["used"] = hours  # as a message that is shown once does: the cookie is signed anew
        assert is_operator(operator) is lasts


def test_a_session_is_good_on_every_server_of_one_key_and_password(operator: Browser, here: Runtime) -> None:
    cookie = operator.get_cookie("cloudmart")
    assert cookie

    def known() -> bool:
        other = Browser(create_app())
        other.set_cookie("cloudmart", cookie.value)
        return is_operator(other)

    settings = here.settings
    assert known()
    here.settings = settings.but(secret_key="another key, long enough")
    assert not known()
    here.settings = settings.but(operator_password="another password")
    assert not known()
    assert not is_operator(operator)


def test_a_password_made_here_works_until_another_is_made(client: Browser, here: Runtime) -> None:
    here.settings = here.settings.but(operator_password=None)
    assert "no operator password yet" in client.get("/operator/login").text
    assert client.log_in().status_code == 403

    made = operator_password.generate_first()

    assert made
    assert operator_password.generate_first() is None
    assert client.log_in(password=made).status_code == 303
    assert client.log_in(password=operator_password.generate()).status_code == 303
    assert client.log_in(password=made).status_code == 403


def test_shops_that_start_at_once_agree_on_the_password_and_the_key(here: Runtime) -> None:
    here.settings = here.settings.but(operator_password=None)
    makers = [lambda made=made: made for made in ("one", "two", "three", "four")]
    with ThreadPoolExecutor(4) as threads:
        made = [one for one in threads.map(lambda _: operator_password.generate_first(), range(4)) if one]
        keys = set(threads.map(lambda make: stored_values.get_or_create("a_key", make), makers))

    assert len(made) == len(keys) == 1
    assert operator_password.verify(made[0])
    assert stored_values.value_of("a_key") in keys


# ---- what every answer says


def test_every_answer_tells_the_browser_to_keep_others_out(client: Browser) -> None:
    for status, paths in {
        200: "/ /static/base.css /healthz /api/v1/orders /openapi/openapi.json /openapi/swagger",
        404: "/nothing /sagas/none /api/v1/orders/none",
        422: "/api/v1/orders?limit=x",
    }.items():
        for path in paths.split():
            with client.get(path, headers=HTML) as answer:
                said, policy = answer.headers, answer.headers["Content-Security-Policy"]
                assert answer.status_code == status, path
            assert said["X-Content-Type-Options"] == "nosniff"
            assert said["Referrer-Policy"] == said["Cross-Origin-Opener-Policy"] == "same-origin"
            assert "camera=()" in said["Permissions-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "Strict-Transport-Security" not in said
            with client.get(path, headers=HTML, base_url="https://localhost") as answer:
                assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


# ---- operators' programs


def operator_calls(app: Flask) -> dict[str, str]:
    """Return endpoint and path of every call that is an operator's."""
    views = app.view_functions
    return {name: path for name, path in posts(app, api=True) if getattr(views[name], "for_operators", False)}


def test_the_operators_calls_are_these_and_the_document_says_so(flask_app: Flask, client: Browser) -> None:
    names = {endpoint.rpartition(".")[2] for endpoint in operator_calls(flask_app)}
    saga_acts = {"cancel_saga", "resume_saga", "skip_compensation", "resume_stuck_sagas"}
    assert names == saga_acts | {"add_product", "add_category", "restock"}

    document = get(client, "/openapi/openapi.json")
    assert document["components"]["securitySchemes"]["operator"]["scheme"] == "bearer"
    secured = [one for item in document["paths"].values() for one in item.values() if one.get("security")]
    assert len(secured) == len(names)
    assert all("401" in operation["responses"] for operation in secured)


def test_with_a_token_set_operators_calls_need_it_and_nothing_else_does(settings: Settings, here: Runtime) -> None:
    app = create_app(settings.but(operator_token=TOKEN))
    client = app.test_client()
    wrong = ("", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer \xe9\xff")
    for path in operator_calls(app).values():
        for authorization in wrong:
            answer = client.post(path, headers={"Authorization": authorization} if authorization else {})
            assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), path
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="CloudMart operators"'
            assert TOKEN not in answer.text
        assert client.post(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code != 401

    order = post(client, "/api/v1/orders", SEED_ORDER)["order_id"]
    customers = [client.delete(f"/api/v1/orders/{order}"), client.post(f"/saga/{order}/cancel")]
    customers.append(client.patch(f"/api/v1/orders/{order}", json={"shipping_address": "x"}))
    assert [answer.status_code for answer in customers] == [409] * 3
    for path in ("/api/v1/sagas", "/api/v1/inventory", "/api/v1/categories", "/"):
        assert client.get(path).status_code == 200


def test_without_a_token_only_this_machine_operates(flask_app: Flask, client: Browser, settings: Settings) -> None:
    local, proxied = "http://127.0.0.1:8000", "X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Real-IP Forwarded"
    for path in operator_calls(flask_app).values():
        assert client.post(path, base_url=local).status_code != 401
        # a name that was made to lead here
        assert client.post(path, base_url="http://evil.example:8000").status_code == 400
        for address in ("192.0.2.9", "2001:db8::1", "::ffff:192.0.2.9", ""):
            remote = {"REMOTE_ADDR": address}
            assert client.post(path, base_url=local, environ_overrides=remote).status_code == 401, address
        for header in proxied.split():  # a proxy that the settings do not know of
            assert client.post(path, headers={header: "192.0.2.9"}).status_code == 401, header

    open_to_others = create_app(settings.but(host="0.0.0.0"))
    for path in operator_calls(open_to_others).values():
        assert "no OPERATOR_TOKEN is set" in open_to_others.test_client().post(path).get_json()["detail"]
