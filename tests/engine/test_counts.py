"""What an order costs in what can be counted: messages, statements and commits. Each table is a promise to be argued.

Reads and writes are statements; one that is run for many rows at once counts once.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.errors import StepRejected
from app.sagas import sagas
from bench.statements import Counted
from durable_sagas.definition import Command, Step
from durable_sagas.history import History
from durable_sagas.ids import new_id
from durable_sagas.messages import Event, EventType
from durable_sagas.reactions import Compensate, Decision, Execute
from tests.simulation.orders import PLENTY, UNPAYABLE, an_order
from tests.simulation.store import template
from tests.simulation.verdict import judge
from tests.simulation.world import World, open_world

ORDERS = {
    "order: completed": """
  messages     reads    writes   commits
         0         2         4         1  the request
         1         4         3         1  orders.create_order
         1         3         5         1  inventory.reserve_stock
         1         4         4         2  payments.process_payment
         1         4         4         2  shipping.arrange_shipping
         1         2         5         1  inventory.ship_stock
         1         2         5         1  orders.complete_order
         1         1         2         1  notifications.notify_customer
         7        22        32        10  in all
""",
    "order: payment declined": """
  messages     reads    writes   commits
         0         2         4         1  the request
         1         4         3         1  orders.create_order
         1         3         5         1  inventory.reserve_stock
         1         5         3         2  payments.process_payment
         1         2         1         1  orchestrator.request_compensation
         1         5         2         2  payments.refund_payment
         1         2         5         1  inventory.release_stock
         1         2         5         1  orders.cancel_order
         1         1         2         1  notifications.notify_customer
         8        26        30        11  in all
""",
    "order-choreography: completed": """
  messages     reads    writes   commits
         0         4         6         1  the request
         1         4         4         1  inventory.reserve_on_order_created
         1         6         3         2  payments.charge_on_order_created
         2         9         3         3  shipping.ship_when_reserved_and_paid
         1         3         4         1  orders.complete_on_shipping_arranged
         1         3         5         1  inventory.hand_over_on_shipping_arranged
         1         1         2         1  notifications.notify_customer
         7        30        27        10  in all
""",
    "order-choreography: payment declined": """
  messages     reads    writes   commits
         0         4         6         1  the request
         1         4         4         1  inventory.reserve_on_order_created
         1        10         5         3  payments.charge_on_order_created
         1         3         0         1  shipping.ship_when_reserved_and_paid
         1         3         4         1  inventory.release_on_failure
         2         6         5         2  orders.cancel_when_settled
         1         1         2         1  notifications.notify_customer
         7        31        26        10  in all
""",
}
"""Whole orders. A step's figures are its service's and the engine's, without those of the gateway's own ledger."""

ALONE = """
     reads    writes   commits
         0         1         1  start of an orchestrated saga
         4         3         2  payments.call
         0         3         1  start of a choreographed saga
         6         2         2  payments.call_on_undone
"""
"""What the engine itself costs of what is never done together; the commands here ask the database for nothing."""

TOGETHER = """
     reads    writes   commits
         2         3         1  orders.act
         2         2         1  orders.check
         2         3         1  orders.act, refused
         2         1         1  orders.check, refused
         2         1         1  orchestrator.request_compensation, refused
         2         3         1  orders.undo, refused
         3         2         1  orders.act_on_opened
         3         0         1  orders.do_nothing_on_acted
         3         2         1  orders.undo_on_acted
"""
"""What it costs for all messages of one task that are done together, however many they are; and for one alone."""


class Note(BaseModel):
    """What the commands here are told."""

    refused: bool = False


Opened, Acted, Undone, Called, Voided, Lapsed, Recalled = map(
    EventType, ("Opened", "Acted", "Undone", "Called", "Voided", "Lapsed", "Recalled")
)


def publishing(name: str, event: EventType) -> Command:
    """Declare a command that only publishes an event."""

    @sagas.command(name)
    def publish(_session: Session, _note: Note) -> Event:
        return Event(event)

    return publish


open_plainly, act = publishing("orders.open_plainly", Opened), publishing("orders.act", Acted)
undo = publishing("orders.undo", Undone)


@sagas.command("orders.check")
def check(_session: Session, note: Note) -> None:
    if note.refused:
        raise StepRejected("no")


def answer(_note: Note, key: str) -> str:
    return key


def refused(_session: Session, _note: Note, _reason: str, _voided: str | None) -> Event:
    return Event(Voided)


@sagas.command("payments.call", call=answer, void=answer, on_rejected=refused)
def call(_session: Session, _note: Note, _answer: str) -> Event:
    return Event(Called)


@sagas.command("payments.void", call=answer)
def void(_session: Session, _note: Note, _answer: str) -> Event:
    return Event(Voided)


CONDUCTED = sagas.saga("plain", Step(act, undo), Step(check), Step(call, void, pivot=True))
DANCED = sagas.choreography(
    "plain-choreography", timed_out=Lapsed, cancel_requested=Recalled, point_of_no_return=Called
)


@DANCED.on(Opened, queue="orders")
def act_on_opened(_: History) -> Decision:
    return Execute(act)


@DANCED.on(Acted, Lapsed, Recalled, queue="orders")
def do_nothing_on_acted(_: History) -> Decision:
    return None


@DANCED.on(Acted, queue="orders")
def undo_on_acted(_: History) -> Decision:
    return Compensate(act, undo)


@DANCED.on(Undone, queue="payments")
def call_on_undone(_: History) -> Decision:
    return Execute(call)


class Account:
    """What was counted: a row for each thing done, in the order in which they were done first."""

    def __init__(self, counted: Counted) -> None:
        self.counted = counted
        self.rows: dict[str, Counter[str]] = {}

    @contextmanager
    def row(self, name: str, messages: int = 1) -> Iterator[None]:
        """Count what the block does in a row; it takes so many messages."""
        self.counted.clear()
        yield
        row = self.rows.setdefault(name, Counter())
        row["messages"] += messages
        for verb, count in self.counted.verbs.items():
            row["commits" if "commit" in verb else _KINDS.get(verb, "writes")] += count

    def text(self, *columns: str) -> str:
        """Return the rows as text."""
        lines = ["".join(f"{column:>10}" for column in columns)]
        lines += ["".join(f"{row[column]:10}" for column in columns) + f"  {name}" for name, row in self.rows.items()]
        return "\n".join(["", *lines, ""])

    def total(self) -> None:
        """Add a row for all."""
        self.rows["in all"] = sum(self.rows.values(), Counter())


_KINDS = {"SELECT": "reads", "BEGIN": "transactions"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(template()) as world:
        yield world


@pytest.fixture(scope="module")
def counted(world: World) -> Counted:
    """What the shop asks the database for; its gateways' ledgers stand for databases of somebody else."""
    counted = Counted(world.here.database.engine)
    write_elsewhere = world.outside.transaction

    @contextmanager
    def transaction() -> Iterator[Session]:
        before = counted.verbs.copy()
        with write_elsewhere() as session:
            yield session
        counted.verbs = before

    world.outside.transaction = transaction  # type: ignore[method-assign]
    return counted


@pytest.fixture
def account(counted: Counted) -> Account:
    return Account(counted)


@pytest.mark.parametrize("order", ORDERS)
def test_an_order(order: str, world: World, account: Account) -> None:
    kind, _, outcome = order.partition(": ")
    request = an_order(1, kind, PLENTY if outcome == "completed" else UNPAYABLE)
    world.reset(0)
    sagas.admission.reset()
    sagas.admission.status()  # sampled once a second, whatever is requested

    with account.row("the request", messages=0):
        world.place(request)
    while world.post:
        message = world.post[0]
        with account.row(message.task):
            world.deliver(message)

    judge(world, {"order-1": "completed" if outcome == "completed" else "cancelled"})
    account.total()
    assert account.text("messages", "reads", "writes", "commits") == ORDERS[order]


def start(
    world: World, number: int, *, conducted: bool = True, refused: Callable[[int], bool] = lambda _: False
) -> None:
    for which in range(number):
        with world.here.database.transaction() as session:
            payload = {"refused": refused(which)}
            if conducted:
                CONDUCTED.start(session, new_id(), payload)
            else:
                DANCED.start(session, open_plainly, new_id(), payload, "OPENED")


def deliver_all(world: World, account: Account, says: str = "") -> None:
    """Deliver everything, with as much company as it has."""
    while world.post:
        message = world.post[0]
        batch = [message, *world.company(message)]
        with account.row(message.task + says, len(batch)):
            if len(batch) > 1:
                world.deliver_together(batch)
            else:
                world.deliver(message)


def test_what_is_done_alone(world: World, account: Account) -> None:
    world.reset(0)

    for conducted, what in ((True, "orchestrated"), (False, "choreographed")):
        with account.row(f"start of an {what} saga" if conducted else f"start of a {what} saga"):
            start(world, 1, conducted=conducted)
        alone = Account(account.counted)
        deliver_all(world, alone)
        account.rows |= {name: row for name, row in alone.rows.items() if name.startswith("payments.")}

    assert account.text("reads", "writes", "commits") == ALONE


@pytest.mark.parametrize("number", [1, 2, 16])
def test_what_is_done_together_costs_no_more_than_what_is_done_alone(
    number: int, world: World, account: Account
) -> None:
    world.reset(0)

    start(world, number)
    deliver_all(world, account)
    start(world, number, refused=lambda _: True)
    deliver_all(world, account, ", refused")
    start(world, number, conducted=False)
    deliver_all(world, account)

    account.rows = {name: row for name, row in account.rows.items() if not name.startswith("payments.")}
    assert {row["messages"] for row in account.rows.values()} == {number}
    assert account.text("reads", "writes", "commits") == TOGETHER


def test_refusals_among_others_cost_no_more_the_more_they_are(world: World, counted: Counted) -> None:
    def cost(number: int) -> str:
        account = Account(counted)
        world.reset(0)
        start(world, number, refused=lambda which: which % 2 == 0)
        [task] = {message.task for message in world.post}
        while task != "orders.check":
            world.deliver_together(list(world.post))
            [task] = {message.task for message in world.post}
        with account.row(task, 0):
            world.deliver_together(list(world.post))
        return account.text("reads", "writes", "commits")

    assert cost(16) == cost(4)
