"""The GraphQL schema: queries, mutations and limits."""

from collections.abc import Sequence

import strawberry
from graphql import GraphQLError
from strawberry.extensions import MaxTokensLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.name_converter import NameConverter
from strawberry.types import ExecutionContext
from strawberry.types.enum import EnumValue, StrawberryEnumDefinition

from web.graphql.limits import MAX_TOKENS, Limits
from web.graphql.mutations import Mutation
from web.graphql.queries import Query
from web.graphql.scalars import AMOUNT, INT, Amount


class _OneVocabulary(NameConverter):
    """Names enum values by their values, as everywhere else: ``completed``, not ``COMPLETED``."""

    def from_enum_value(self, enum: StrawberryEnumDefinition, enum_value: EnumValue) -> str:  # noqa: ARG002
        """Return the name of a value of an enum."""
        return str(enum_value.value)


class _Schema(strawberry.Schema):
    def process_errors(self, errors: Sequence[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log nothing here: most errors are the client's, and the others are logged when they are formatted."""


schema = _Schema(
    query=Query,
    mutation=Mutation,
    config=StrawberryConfig(name_converter=_OneVocabulary(), scalar_map={Amount: AMOUNT, int: INT}),
    extensions=[lambda: MaxTokensLimiter(MAX_TOKENS), Limits],
)
