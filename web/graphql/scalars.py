"""Scalars: amounts of money, parsed exactly and serialized as JSON numbers; and integers."""

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NewType

import strawberry
from graphql import (
    FloatValueNode,
    GraphQLError,
    GraphQLInt,
    GraphQLNamedType,
    GraphQLScalarType,
    IntValueNode,
    ValueNode,
    print_ast,
)
from strawberry.types.scalar import ScalarDefinition

from tasks.amounts import number
from web.fields import whole
from web.json_body import MAX_SHOWN, exact

Amount = NewType("Amount", Decimal)


def _from_variable(value: Any) -> int | Decimal:
    # the body is parsed without floats, so a fraction arrives as an exact Decimal
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise GraphQLError("Amount must be a number")
    return value


def _from_document(node: ValueNode, _variables: Any = None) -> Decimal:
    if not isinstance(node, IntValueNode | FloatValueNode):
        raise GraphQLError(f"Amount must be a number, not {print_ast(node)[:MAX_SHOWN]}", node)
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


def int_from_variable(value: Any) -> int:
    """Return the integer value of a variable. Raises GraphQLError."""
    try:
        return _int(value)
    except ValueError as error:
        raise GraphQLError(str(error)) from error


def int_from_document(node: ValueNode, _variables: Any = None) -> int:
    """Return the integer value of a literal in a document. Raises GraphQLError."""
    try:
        return _int(exact(node.value) if isinstance(node, IntValueNode | FloatValueNode) else print_ast(node))
    except ValueError as error:
        raise GraphQLError(str(error), node) from error


def _int(value: Any) -> int:
    number = whole(value)
    if isinstance(number, bool) or not isinstance(number, int):
        if isinstance(number, Decimal) and number.adjusted() >= len(str(MAX_INT)):
            raise ValueError(OUT_OF_RANGE)
        # lists and objects, which may be as large as a body, are not quoted
        shown = str(value)[:MAX_SHOWN] if isinstance(value, str | bool | Decimal) else f"{type(value).__name__}"
        raise ValueError(f"Int must be a whole number, not {shown}")
    if not -MAX_INT - 1 <= number <= MAX_INT:
        raise ValueError(OUT_OF_RANGE)
    return number


MAX_INT = 2**31 - 1
OUT_OF_RANGE = f"Int must lie between {-MAX_INT - 1} and {MAX_INT}"


class _Int(GraphQLScalarType):
    """A scalar type with a name that graphql-core reserves."""

    reserved_types: Mapping[str, GraphQLNamedType] = MappingProxyType({})


INT = ScalarDefinition(
    name=GraphQLInt.name,
    description=GraphQLInt.description,
    specified_by_url=None,
    serialize=GraphQLInt.coerce_output_value,
    parse_value=int_from_variable,
    parse_literal=int_from_document,
    implementation=_Int(
        GraphQLInt.name,
        description=GraphQLInt.description,
        coerce_output_value=GraphQLInt.coerce_output_value,
        coerce_input_value=int_from_variable,
        coerce_input_literal=int_from_document,
        value_to_literal=GraphQLInt.value_to_literal,
    ),
)
"""GraphQL's Int, which in addition accepts integral decimals such as 2.0, like the REST API."""
