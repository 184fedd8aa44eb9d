"""Limit the size of GraphQL documents, measured before validation in time linear in the document's length."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)
from strawberry.extensions import SchemaExtension

from web.fields import DEFAULT_PAGE, MAX_PAGE
from web.graphql.scalars import int_from_document, int_from_variable

MAX_TOKENS = 3000
MAX_DEPTH = 10
MAX_ALIASES = 20
MAX_FIELDS = 300
MAX_ROWS = 5000

PAGES = frozenset({"products", "categories", "orders", "sagas"})
"""The fields that return a page of a list; their argument ``first`` is its length."""
PAGE_ROW = 10
"""The cost of one row of a page, in rows: it is read with its JSON and its related rows."""
ROWS = {
    **dict.fromkeys(("steps", "events", "context", "payload", "result"), 10),
    "items": 15,
    "order": 1,
    "saga": 1,
    "category": 1,
}
"""The rows that a field adds to the row that it belongs to.

For lists and JSON it is more than an order usually has, because some orders have a hundred items.
"""

AMBIGUOUS = "the document has several operations: say in operationName which one is meant"


@dataclass(frozen=True)
class Size:
    """The size of a selection with its fragments expanded."""

    depth: int = 0
    aliases: int = 0
    fields: int = 0
    rows: int = 0

    def beside(self, other: "Size") -> "Size":
        """Return the combined size of two sibling selections."""
        return Size(
            max(self.depth, other.depth),
            self.aliases + other.aliases,
            self.fields + other.fields,
            self.rows + other.rows,
        )


class Measure:
    """Measures selections; each fragment once, however often it is used.

    Strawberry's own limiters traverse a fragment at every use, in exponential time: fragments that use each other
    twice, thirty deep, would take minutes.
    """

    def __init__(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        fragments = [node for node in document.definitions if isinstance(node, FragmentDefinitionNode)]
        self._fragments = {fragment.name.value: fragment.selection_set for fragment in fragments}
        self._known: dict[str, Size] = {}

    def of(self, selections: SelectionSetNode | None) -> Size:
        """Return the size of a selection."""
        return reduce(Size.beside, map(self._of_node, selections.selections if selections else ()), Size())

    def _of_node(self, node: object) -> Size:
        if isinstance(node, FragmentSpreadNode):
            return self._of_fragment(node.name.value)
        inner = self.of(getattr(node, "selection_set", None))
        if not isinstance(node, FieldNode):
            return inner
        aliases = inner.aliases + (node.alias is not None)
        if node.name.value.startswith("__"):
            return Size(0, aliases, 1)  # introspection: the validation has its own limit for it
        return Size(inner.depth + 1, aliases, inner.fields + 1, self._rows(node, inner.rows))

    def _rows(self, node: FieldNode, inner: int) -> int:
        """Return the rows that a field reads, given those that belong to one of its own rows."""
        name = node.name.value
        if name in PAGES:
            return self._page(node) * (PAGE_ROW + inner)
        # not multiplied: the fields of a saga's steps are read with the steps
        return ROWS.get(name, 0) + inner

    def _page(self, node: FieldNode) -> int:
        given = next((argument.value for argument in node.arguments or () if argument.name.value == "first"), None)
        if given is None:
            return DEFAULT_PAGE
        try:
            if isinstance(given, VariableNode):
                length = int_from_variable(self._variables.get(given.name.value))
            else:
                length = int_from_document(given)
        except GraphQLError:
            return MAX_PAGE  # either invalid and rejected later, or a variable with a default, which is not known here
        return length if 0 <= length <= MAX_PAGE else MAX_PAGE

    def _of_fragment(self, name: str) -> Size:
        if name not in self._known:
            self._known[name] = Size()  # ends the recursion of cyclic fragments, which the validation rejects
            self._known[name] = self.of(self._fragments.get(name))
        return self._known[name]


class Limits(SchemaExtension):
    """Rejects documents that request too much, and ambiguous ones: several operations without an operationName."""

    def on_validate(self) -> Iterator[None]:
        """Measure the document before the validation, which is skipped if an error is set here."""
        document = self.execution_context.graphql_document
        assert document is not None
        operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
        # Strawberry would execute the first of several operations
        ambiguous = len(operations) > 1 and self.execution_context._provided_operation_name is None
        measure = Measure(document, self.execution_context.variables or {})
        excess = AMBIGUOUS if ambiguous else _excess(measure, operations)
        if excess:
            self.execution_context.pre_execution_errors = [GraphQLError(excess)]
        yield


def _excess(measure: Measure, operations: Iterable[OperationDefinitionNode]) -> str | None:
    size = reduce(Size.beside, (measure.of(operation.selection_set) for operation in operations), Size())
    if size.depth > MAX_DEPTH:
        return f"the document is {size.depth} fields deep, at most {MAX_DEPTH} are allowed"
    if size.aliases > MAX_ALIASES:
        return f"the document has {size.aliases} aliases, at most {MAX_ALIASES} are allowed"
    if size.fields > MAX_FIELDS:
        return f"the document asks for {size.fields} fields, at most {MAX_FIELDS} are allowed"
    if size.rows > MAX_ROWS:
        return (
            f"the document asks for {size.rows} rows, at most {MAX_ROWS} are allowed "
            f"(one of a page counts as {PAGE_ROW}): ask for shorter pages, or in several requests"
        )
    return None
