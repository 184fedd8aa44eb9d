"""Every action and every compensation twice in a row, and every one made to fail: a clean slate after each."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app import fault_injection
from app.fault_injection import Fault
from durable_sagas.deliveries import Attempt
from tests.simulation.orders import CHOREOGRAPHED, KINDS, an_order
from tests.simulation.single_faults import SCENARIOS, Scenario
from tests.simulation.verdict import judge, settle
from tests.simulation.world import World

PIVOT = "shipping.arrange_shipping"
UP_TO_THE_PIVOT = ("orders.create_order", "inventory.reserve_stock", "payments.process_payment", PIVOT)
GATEWAY_CALLS = ("payments.process_payment", PIVOT)
AFTER_THE_PIVOT = ("inventory.ship_stock", "orders.complete_order")
UNBOOKING = "shipping.cancel_shipment"
COMPENSATIONS = ("orders.cancel_order", "inventory.release_stock", "payments.refund_payment", UNBOOKING)
NOT_CHOREOGRAPHED = {"orders.create_order", UNBOOKING}
"""A choreographed order is created with its request, and shipping voids its own booking."""

REJECTED, NO_ANSWER = Fault("decline"), Fault("timeout")
UNAVAILABLE, NOT_COMPENSATED = Fault("fail", 9), Fault("undo-fail", 9)
"""Longer than any round of retries, shorter than two."""


def failures() -> Iterator[tuple[str, Fault, str, int]]:
    """Yield each command, how it fails, how the order ends, and how often an operator has to resume it."""
    for fault in (REJECTED, UNAVAILABLE):
        yield from ((command, fault, "cancelled", 0) for command in UP_TO_THE_PIVOT)
        yield from ((command, fault, "completed", 1) for command in AFTER_THE_PIVOT)
    yield from ((command, NO_ANSWER, "cancelled", 0) for command in GATEWAY_CALLS)
    yield from ((command, NOT_COMPENSATED, "cancelled", 1) for command in COMPENSATIONS)


def break_command(patch: pytest.MonkeyPatch, name: str, fault: Fault) -> None:
    """Have one command fail, where ``simulate`` breaks a whole service; a ``decline`` is injected only once."""
    requested_fault, inject = fault_injection.requested_fault, fault_injection.inject
    injected: list[Fault] = []

    def requested(attempt: Attempt) -> Fault | None:
        if attempt.command.name != name:
            return requested_fault(attempt)
        return None if fault.kind == "decline" and fault in injected else fault

    @contextmanager
    def inject_and_note(given: Fault, attempt: Attempt) -> Iterator[None]:
        injected.append(given)
        with inject(given, attempt):
            yield

    patch.setattr(fault_injection, "inject", inject_and_note)
    patch.setattr(fault_injection, "requested_fault", requested)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
def test_every_message_twice_in_a_row_is_as_good_as_once(scenario: Scenario, world: World) -> None:
    world.reset(0)
    world.place(scenario.request)

    deliveries = 0
    while world.post:
        message = world.post[0]
        world.deliver(message, again=True)
        world.deliver(message)
        deliveries += 2

    assert deliveries >= 14
    settle(world)
    judge(world, {"order-1": scenario.outcome})


@pytest.mark.parametrize(
    ("kind", "command", "fault", "outcome", "resumes"),
    [
        (kind, command, *rest)
        for kind in KINDS
        for command, *rest in failures()
        if kind != CHOREOGRAPHED or command not in NOT_CHOREOGRAPHED
    ],
)
def test_a_command_that_fails_leaves_a_clean_slate_if_need_be_after_an_operators_resume(
    kind: str, command: str, fault: Fault, outcome: str, resumes: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_command(monkeypatch, command, fault)
    request = an_order(1, kind, shipping="decline") if fault is NOT_COMPENSATED else an_order(1, kind)

    world.reset(0)
    world.place(request)
    settle(world)

    assert sum("resume order-1" in line for line in world.journal) == resumes
    judge(world, {"order-1": outcome})
