"""Amounts of money, exact on their way in and plain JSON numbers on their way out."""

from decimal import Decimal
from typing import Any, NewType

import strawberry
from graphql import FloatValueNode, GraphQLError, IntValueNode, ValueNode, print_ast
from strawberry.types.scalar import ScalarDefinition

from app.messages import number
from web.requests import exact

Amount = NewType("Amount", Decimal)


def _from_variable(value: Any) -> int | Decimal:
    # the body was read without floats, so a fraction arrives as it was written
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise GraphQLError("Amount must be a number")
    return value


def _from_document(node: ValueNode, _variables: Any = None) -> Decimal:
    if not isinstance(node, IntValueNode | FloatValueNode):
        raise GraphQLError(f"Amount must be a number, not {print_ast(node)}", node)
    try:
        return exact(node.value)
    except ValueError as error:
        raise GraphQLError(str(error), node) from error


AMOUNT: ScalarDefinition = strawberry.scalar(
    name="Amount",
    description="An amount of money: a number with at most two decimals. It is read exactly as it is written.",
    serialize=number,
    parse_value=_from_variable,
    parse_literal=_from_document,
)
