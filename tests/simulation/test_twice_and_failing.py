"""Every action and every compensation twice in a row, and every one made to fail: a clean slate after each."""

import pytest

from app.fault_injection import Fault
from tests.simulation.failing import break_command
from tests.simulation.orders import CHOREOGRAPHED, KINDS, an_order
from tests.simulation.single_faults import SCENARIOS, Scenario
from tests.simulation.verdict import judge, settle
from tests.simulation.world import World
from workflows.orders import NewOrder

BEFORE_THE_PIVOT = ("orders.create_order", "inventory.reserve_stock", "payments.process_payment")
PIVOT = "shipping.arrange_shipping"
AFTER_THE_PIVOT = ("inventory.ship_stock", "orders.complete_order")
COMPENSATIONS = ("orders.cancel_order", "inventory.release_stock", "payments.refund_payment")
UNBOOKING = "shipping.cancel_shipment"

REJECTED = Fault("decline")
UNAVAILABLE = Fault("fail", 9)  # longer than any round of retries, shorter than two
NO_ANSWER = Fault("timeout")


def runs_in(command: str, kind: str) -> bool:
    """Tell whether the engine runs a command in this kind of saga where a fault can strike.

    A choreographed order is created with its request, and shipping voids its own booking.
    """
    return kind != CHOREOGRAPHED or command not in {"orders.create_order", UNBOOKING}


def cases(*commands: str) -> list[tuple[str, str]]:
    return [(kind, command) for kind in KINDS for command in commands if runs_in(command, kind)]


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


@pytest.mark.parametrize("fault", [REJECTED, UNAVAILABLE], ids=["rejected", "unavailable"])
@pytest.mark.parametrize(("kind", "command"), cases(*BEFORE_THE_PIVOT, PIVOT))
def test_an_action_that_fails_up_to_the_pivot_leaves_a_clean_slate(
    kind: str, command: str, fault: Fault, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_command(monkeypatch, command, fault)

    order(world, an_order(1, kind))

    judge(world, {"order-1": "cancelled"})


@pytest.mark.parametrize(("kind", "command"), cases("payments.process_payment", PIVOT))
def test_a_gateway_that_acts_and_never_answers_leaves_a_clean_slate(
    kind: str, command: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_command(monkeypatch, command, NO_ANSWER)

    order(world, an_order(1, kind))

    judge(world, {"order-1": "cancelled"})


@pytest.mark.parametrize("fault", [REJECTED, UNAVAILABLE], ids=["rejected", "unavailable"])
@pytest.mark.parametrize(("kind", "command"), cases(*AFTER_THE_PIVOT))
def test_an_action_that_fails_after_the_pivot_waits_for_an_operator_and_goes_on(
    kind: str, command: str, fault: Fault, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_command(monkeypatch, command, fault)

    order(world, an_order(1, kind))

    assert resumed(world) == 1
    judge(world, {"order-1": "completed"})


@pytest.mark.parametrize(("kind", "command"), cases(*COMPENSATIONS, UNBOOKING))
def test_a_compensation_that_fails_waits_for_an_operator_and_ends_in_a_clean_slate(
    kind: str, command: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_command(monkeypatch, command, Fault("undo-fail", 9))

    order(world, an_order(1, kind, shipping="decline"))

    assert resumed(world) == 1
    judge(world, {"order-1": "cancelled"})


def order(world: World, request: NewOrder) -> None:
    world.reset(0)
    world.place(request)
    settle(world)


def resumed(world: World) -> int:
    return sum("resume order-1" in line for line in world.journal)
