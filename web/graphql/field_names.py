"""Validate GraphQL input with the REST API's models, and report errors with GraphQL's field names."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import strawberry
from pydantic.alias_generators import to_camel

from app.errors import RequestError
from web.problems import FieldError, Model, ValidationProblem, validated


def validate(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Return the validated model of the given values; None counts as not given. Raises ValidationProblem."""
    return validated(model, {name: value for name, value in values.items() if value is not None})


def to_dict(input_object: object, **names: str) -> dict[str, Any]:
    """Return the non-null fields of an input object; ``names`` maps them to the model's names."""
    fields = strawberry.asdict(input_object)
    return {names.get(name, name): value for name, value in fields.items() if value is not None}


@contextmanager
def with_graphql_names(**names: str) -> Iterator[None]:
    """Rename the fields of errors raised in the block: by ``names``, else to camelCase."""
    try:
        yield
    except ValidationProblem as refusal:
        errors = [FieldError(field=_graphql_name(error.field, names), reason=error.reason) for error in refusal.errors]
        raise ValidationProblem(errors) from refusal
    except RequestError as refusal:
        if refusal.field:
            refusal.field = _graphql_name(refusal.field, names)
        raise


def _graphql_name(field: str, names: Mapping[str, str]) -> str:
    return ".".join(names.get(part) or (to_camel(part) if "_" in part else part) for part in field.split("."))
