"""Decorators that use the docstrings of classes and methods as the descriptions of GraphQL types and fields."""

import inspect
from typing import Any, TypeVar, dataclass_transform

import strawberry
from strawberry.types.base import get_object_definition

Class = TypeVar("Class")


@dataclass_transform(kw_only_default=True)
def output_type(cls: type[Class]) -> type[Class]:
    """Make a class a GraphQL type."""
    return _with_field_descriptions(strawberry.type(cls, description=inspect.getdoc(cls)))


@dataclass_transform(kw_only_default=True)
def input_type(cls: type[Class]) -> type[Class]:
    """Make a class a GraphQL input type."""
    return strawberry.input(cls, description=inspect.getdoc(cls))


def _with_field_descriptions(cls: type[Class]) -> type[Class]:
    for field in get_object_definition(cls, strict=True).fields:
        if field.base_resolver and not field.description:
            field.description = inspect.getdoc(_function(field.base_resolver))
    return cls


def _function(resolver: Any) -> Any:
    return resolver.wrapped_func
