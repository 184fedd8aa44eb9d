"""``python -m app saga``: what an operator types, and what the shop then does."""

from functools import partial

import pytest
from sqlalchemy import update

from app import runtime
from app.runtime import Runtime
from app.sagas import sagas
from durable_sagas.models import SagaStep
from durable_sagas.operations import Operations
from tests.testkit.client import Typed
from tests.testkit.messages import Clock, Post
from tests.testkit.orders import refuse_to_resume
from tests.testkit.shop import UNKNOWN_ID
from tests.testkit.web import change_saga
from workflows.orders import Item, NewOrder, Pattern, PlacedOrder, place
from workflows.read_side import versions


@pytest.fixture
def saga_command(typed: Typed, here: Runtime, monkeypatch: pytest.MonkeyPatch) -> Typed:
    monkeypatch.setenv("STALL_SECONDS", "1")
    here.settings = here.settings.but(step_timeout_seconds=600)  # no deadline passes, however slow the commands are
    return partial(typed, "saga")


def order(**simulate: str) -> PlacedOrder:
    return place(NewOrder((Item("book-789", 1),), Pattern.ORCHESTRATION, simulate=tuple(simulate.items())))


def stuck() -> PlacedOrder:
    return order(shipping="decline", payments="undo-fail:7")


def status(placed: PlacedOrder) -> str:
    return versions.version(placed.saga_id).status


@pytest.mark.parametrize("name", ["saga_id", "order_id"])
def test_show_tells_where_a_saga_stands_and_every_attempt(saga_command: Typed, name: str) -> None:
    placed = stuck()

    shown = saga_command("show", getattr(placed, name))

    assert shown.exit_code == 0
    assert f"saga    {placed.saga_id} · order\n" in shown.output
    assert "status  stuck at process_payment\n" in shown.output
    assert "PAYMENT_COMPLETED → COMPENSATION_STARTED\n" in shown.output
    assert "compensated because  arrange_shipping: declined, as simulated\n" in shown.output
    assert "stuck on  payments.refund_payment: unavailable, as simulated (7 of 7)\n" in shown.output
    assert shown.output.count("compensation  failed") == 7


def test_resume_of_a_step_has_all_undone_that_are_stuck_on_it_and_says_which_could_not_be_resumed(
    saga_command: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Operations.resume_stuck, "__kwdefaults__", {"by": None, "after": None, "limit": 2})
    sagas = [stuck() for _ in range(3)]

    resumed = saga_command("resume", "--step", "process_payment")

    assert (resumed.exit_code, resumed.stdout) == (0, "3 resumed, 0 not\n")
    assert {status(placed) for placed in sagas} == {"compensated"}
    refuse_to_resume(other := stuck().saga_id, monkeypatch)
    resumed = saga_command("resume", "--step", "process_payment")
    assert (resumed.exit_code, resumed.stdout) == (1, "0 resumed, 1 not\n")
    assert f"saga {other} was not resumed: not this one" in resumed.stderr


def test_what_an_operator_did_is_kept_with_their_name(saga_command: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "bob")
    placed = stuck()
    saga_command("cancel", placed.saga_id, "--by", "Eve")  # refused: it is being undone already

    skipped = saga_command("skip", placed.saga_id, "--by", " Ann ", "--note", "by bank transfer")

    assert (skipped.exit_code, status(placed)) == (0, "compensated")
    shown = saga_command("show", placed.saga_id).output
    assert shown.endswith("  Ann: skip: by bank transfer\n")
    assert "by_hand" in shown
    assert "as Ann said: by bank transfer" in shown
    assert "Eve" not in shown
    one, two = stuck(), stuck()
    resumed = saga_command("resume", one.saga_id)
    assert (resumed.stdout, status(one)) == (f"saga {one.saga_id} is compensating\n", "compensated")
    saga_command("resume", "--step", "process_payment", "--by", "Ann")
    assert "  bob: resume\n" in saga_command("show", one.saga_id).output
    assert "  Ann: resume_stuck\n" in saga_command("show", two.saga_id).output
    assert "resume_stuck" not in saga_command("show", one.saga_id).output


def test_list_shows_what_needs_a_person(saga_command: Typed) -> None:
    placed, done = stuck(), order()

    listed = saga_command("list", "--status", "stuck", "--step", "process_payment")

    assert placed.saga_id in listed.output
    assert done.saga_id not in listed.output
    assert "and more than 1" in saga_command("list", "--limit", "1").output


def test_in_the_embedded_default_the_running_shop_sends_at_its_next_sweep_what_the_command_could_not(
    saga_command: Typed, post: Post, clock: Clock
) -> None:
    placed = order()
    change_saga(placed.saga_id, redrives=5)  # however often it was driven before
    cancelled = saga_command("cancel", placed.order_id)
    assert (cancelled.exit_code, cancelled.stdout) == (0, f"saga {placed.saga_id} is compensating\n")
    post.waiting.clear()  # messages of the command's own process reach nobody
    runtime.current().now = clock

    clock.catch_up()
    assert sagas.sweep().driven == 1
    post.deliver_all()

    assert status(placed) == "compensated"


def test_wrong_input_is_named_and_ends_with_2_and_what_does_not_fit_the_state_with_1(saga_command: Typed) -> None:
    done = order().saga_id
    for arguments, code, says in (
        (["show", "nobody"], 2, "there is no saga, and no order, nobody"),
        (["cancel", UNKNOWN_ID], 2, "there is no saga, and no order, "),
        (["resume"], 2, "say either which saga (ID) or which step (--step)"),
        (["resume", "x", "--step", "y"], 2, "say either which saga (ID) or which step (--step)"),
        (["skip", "x"], 2, "--by"),
        (["skip", "x", "--by", " "], 2, "must be a name of 1 to 200 characters"),
        (["list", "--status", "lost"], 2, "must be one of pending, running"),
        (["cancel", done], 1, "too late to cancel"),
        (["resume", done], 1, "nothing to resume"),
        (["skip", done, "--by", "Ann"], 1, "nothing to skip"),
    ):
        refused = saga_command(*arguments)
        assert (refused.exit_code, refused.stdout) == (code, ""), arguments
        assert says in refused.stderr


CONTROLS = "\x1b]0;owned\x07 \x1b[2J\r\n\u202e\x9b31m"


def test_stored_text_cannot_steer_the_terminal(saga_command: Typed) -> None:
    """An error that quotes somebody, an operator's name or a note is anybody's text."""
    placed = stuck()
    skipped = saga_command("skip", placed.saga_id, "--by", f"Ann{CONTROLS}!", "--note", f"paid back{CONTROLS}　店")
    change_saga(placed.saga_id, error=CONTROLS, stuck_reason=CONTROLS)
    with runtime.current().database.transaction() as session:
        session.execute(update(SagaStep).values(error=CONTROLS, failures=[]))

    shown = saga_command("show", placed.saga_id).output + saga_command("list").output + skipped.output

    assert shown.count(r"\x1b]0;owned\x07 \x1b[2J\r\n\u202e\x9b31m") >= 4
    assert "　店" in shown
    assert all(character.isprintable() or character in "\n　" for character in shown)
