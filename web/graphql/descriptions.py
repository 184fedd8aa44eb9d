"""Decorators that use the docstrings of classes and methods as the descriptions of GraphQL types and fields."""

import inspect
from typing import Any, TypeVar, dataclass_transform

import strawberry
from strawberry.types.base import get_object_definition

Class = TypeVar("Class")


@dataclass_transform(kw_only_default=True)
def output_type(cls: type[Class]) -> type[Class]:
    """Make a class a GraphQL type."""
    made = strawberry.type(cls, description=inspect.getdoc(cls))
    for field in get_object_definition(made, strict=True).fields:
        resolver: Any = field.base_resolver
        if resolver and not field.description:
            field.description = inspect.getdoc(resolver.wrapped_func)
    return made


@dataclass_transform(kw_only_default=True)
def input_type(cls: type[Class]) -> type[Class]:
    """Make a class a GraphQL input type."""
    return strawberry.input(cls, description=inspect.getdoc(cls))
