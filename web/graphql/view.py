"""``/graphql``: operations by POST, queries also by GET, and an HTML page for browsers."""

import json
from typing import Any

from cross_web import HTTPException, SyncHTTPRequestAdapter
from flask import Blueprint, Request, Response, render_template, request
from flask.typing import ResponseReturnValue
from graphql import GraphQLError
from pydantic import BaseModel, Field
from strawberry.flask.views import GraphQLView
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.types import ExecutionResult

from app.errors import BadRequest
from web.fields import Text
from web.graphql.examples import EXAMPLES
from web.graphql.schema import schema
from web.json_body import json_object
from web.problems import explain, validated

blueprint = Blueprint("graphql", __name__, url_prefix="/graphql")

SCHEMA_TEXT = schema.as_str()


class OperationRequest(BaseModel):
    """An operation in the format of GraphQL over HTTP; other fields are ignored."""

    query: str = Field(min_length=1)
    variables: dict[str, Any] | None = None
    operation_name: Text | None = Field(None, alias="operationName")


class View(GraphQLView[None, None]):
    """Strawberry's view, with the request parsing and error handling of the other interfaces."""

    methods = ["GET", "POST"]  # noqa: RUF012  (declared so by Flask)

    def dispatch_request(self) -> ResponseReturnValue:
        """Return the response to one operation, or the page. Raises BadRequest."""
        if request.method == "GET" and "query" not in request.args:
            return _page()
        try:
            return self.run(request=request)
        except HTTPException as error:
            raise BadRequest(error.reason) from error

    def get_context(self, request: Request, response: Response) -> None:
        """Return None: resolvers need only their arguments."""

    def parse_http_body(self, _request: SyncHTTPRequestAdapter) -> GraphQLRequestData:
        """Return the requested operation; batches and uploads are not supported."""
        if request.method == "POST":
            values = request.get_json()
        else:
            variables = request.args.get("variables")
            values = {**request.args, "variables": json_object(variables, "variables") if variables else None}
        operation = validated(OperationRequest, values)
        return GraphQLRequestData(
            query=operation.query,
            variables=operation.variables,
            operation_name=operation.operation_name,
            extensions=None,
        )

    def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:  # noqa: ARG002
        """Return the response, with formatted errors."""
        response: GraphQLHTTPResponse = {"data": result.data}
        if result.errors:
            response["errors"] = list(map(_formatted, result.errors))
        return response

    def encode_json(self, data: object) -> bytes:
        """Return JSON in UTF-8; a lone surrogate stays an escape, as it was received."""
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")


def _formatted(error: GraphQLError) -> dict[str, Any]:
    """Return an error in GraphQL's response format, with the same types as the REST API's problems."""
    cause = error.original_error
    if cause is None or isinstance(cause, GraphQLError):
        cause = BadRequest(error.message)
    elif isinstance(cause, RecursionError) and error.path is None:
        cause = BadRequest("the document is nested too deeply")
    problem_type, message, fields, facts = explain(cause)
    extensions: dict[str, Any] = {
        "type": problem_type.reference,
        "title": problem_type.title,
        "status": problem_type.status,
    }
    if fields:
        extensions["field"] = fields[0].field
        extensions["errors"] = [field.model_dump() for field in fields]
    if facts:
        extensions["facts"] = facts
    return {**error.formatted, "message": message, "extensions": extensions}


def _page() -> str:
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) != "text/html":
        raise BadRequest("say in query what is asked, or send it as JSON by POST")
    return render_template("graphql.html", examples=EXAMPLES, schema=SCHEMA_TEXT)


blueprint.add_url_rule("", view_func=View.as_view("answer", schema=schema, graphql_ide=None))


@blueprint.get("/schema.graphql")
def show_schema() -> Response:
    """Show the schema in GraphQL's own language."""
    return Response(SCHEMA_TEXT, mimetype="text/plain")
