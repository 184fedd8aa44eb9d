"""Amounts of money."""

from decimal import Decimal

CENT = Decimal("0.01")


def number(amount: Decimal) -> int | float:
    """Return an amount as a JSON number: an int if it is whole, as in the seeds.

    Exact for every amount that the database can hold: a float preserves 12 digits.
    """
    return int(amount) if amount == amount.to_integral_value() else float(amount)
