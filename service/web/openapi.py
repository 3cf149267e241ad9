"""The API's description (OpenAPI 3.1), made from the routes, the operations kept beside their views, and the models.

Nothing here is told a second time: what a view checks is what the description says.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from apispec import APISpec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.answers.http_errors import HTTP_ERRORS
from service.web.openapi_operation import Operation, operation_of
from service.web.openapi_parts import HEADERS, PARAMETERS, SECURITY, TAGS, headers_of, parameters_of, security_of
from service.web.schemas.reading import NoBody
from service.web.schemas.report_answers import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from pydantic.json_schema import JsonSchemaMode
    from werkzeug.routing import Rule

__all__ = ["describe_api"]

_VARIABLE: Final = re.compile(r"<(?:\w+:)?(\w+)>")
_ABOUT: Final = """\
Manage organizations and keys, and check credentials.

Send a key of your own in the headers `x-api-key` and `x-secret-token`, as `Authorization: Bearer <api_key>.<secret_token>`, \
or as Basic. It needs the scope that an operation names. Errors are `application/problem+json`; `code` is for programs."""
_PROBLEM: Final = "application/problem+json"
_ALWAYS: Final = (401, 403, 422, 503)
_WITH_BODY: Final = (400, 413, 415)

_Schemas = dict[tuple[type[BaseModel], "JsonSchemaMode"], dict[str, Any]]


def describe_api(app: Flask) -> dict[str, Any]:
    """The description of every view of ``app`` that has an operation beside it."""
    found = list(_operations(app))
    schemas, definitions = _schemas_of([operation for _, operation in found])
    spec = APISpec(
        "Gatekey",
        version("gatekey"),
        "3.1.0",
        info={"description": _ABOUT},
        servers=[{"url": "/"}],
    )
    for name, schema in definitions.items():
        spec.components.schema(name, schema)
    for name, scheme in SECURITY.items():
        spec.components.security_scheme(name, scheme)
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    for name, (place, parameter) in PARAMETERS.items():
        spec.components.parameter(name, place, parameter)
    problem = {_PROBLEM: {"schema": schemas[Problem, "serialization"]}}
    for status, error in HTTP_ERRORS.items():
        spec.components.response(
            _named(status),
            {"description": f"{error.title}. {error.detail}", "content": problem, "headers": headers_of(status)},
        )
    spec.components.response(
        "Failure", {"description": "Anything else.", "content": problem, "headers": headers_of(500)}
    )
    for name, description in TAGS.items():
        spec.tag({"name": name, "description": description})
    for rule, operation in found:
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            described = _described(app, rule, operation, schemas, method=method)
            spec.path(_VARIABLE.sub(r"{\1}", rule.rule), operations={method.lower(): described})
    return spec.to_dict()


def _operations(app: Flask) -> Iterator[tuple[Rule, Operation]]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, sorted(rule.methods or ()))):
        operation = operation_of(app.view_functions[rule.endpoint])
        if operation is not None:
            yield rule, operation


def _schemas_of(operations: list[Operation]) -> tuple[_Schemas, dict[str, Any]]:
    """Where each model's schema stands, and all of them by name."""
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Problem, "serialization"): None}
    for operation in operations:
        if isinstance(operation.body, type) and operation.body is not NoBody:
            wanted[operation.body, "validation"] = None
        for answer in operation.answers.values():
            if isinstance(answer, type):
                wanted[answer, "serialization"] = None
    places, whole = models_json_schema(list(wanted), ref_template="#/components/schemas/{model}")
    return places, _without_null_defaults(whole["$defs"])  # type: ignore[return-value]  # pydantic types keys as Any models


def _described(app: Flask, rule: Rule, operation: Operation, schemas: _Schemas, *, method: str) -> dict[str, Any]:
    summary, _, more = (inspect.getdoc(app.view_functions[rule.endpoint]) or "").partition(". ")
    needs = f"Needs the scope `{operation.scope}`." if operation.scope else "Any valid key will do."
    described: dict[str, Any] = {
        "operationId": rule.endpoint.rpartition(".")[2],
        "tags": [operation.tag],
        "summary": summary.rstrip("."),
        "description": " ".join(filter(None, (more, needs))),
        "parameters": parameters_of(rule, operation, method=method),
        "security": security_of(operation.scope),
        "responses": _responses(operation, schemas),
    }
    if operation.body is not NoBody:
        described["requestBody"] = {
            "required": operation.body_is_required,
            "content": _content(operation.body, schemas),
        }
    return described


def _content(body: type[BaseModel] | str, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(body, str):
        return {body: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schemas[body, "validation"]}}


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        good: dict[str, Any] = {
            "description": "Not modified." if status == 304 else "To the login page." if status == 302 else "Done.",  # noqa: PLR2004 - statuses
            "headers": headers_of(status, operation),
        }
        if isinstance(answer, str):
            good["content"] = {answer: {"schema": {"type": "string"}}}
        elif answer is not None:
            good["content"] = {"application/json": {"schema": schemas[answer, "serialization"]}}
        responses[str(status)] = good
    refusals = {*_ALWAYS, *operation.refusals}
    if operation.body is not NoBody:
        refusals |= set(_WITH_BODY)
    if operation.idempotent:
        refusals |= {400, 409}
    if operation.versioned:
        refusals |= {404, 412}
    for status in sorted(refusals):
        responses[str(status)] = _named(status)
    responses["default"] = "Failure"
    return responses


def _named(status: int) -> str:
    return "".join(word.capitalize() for word in HTTP_ERRORS[status].code.split("_"))


def _without_null_defaults(schema: Any) -> Any:
    """``null`` stands for "not given" in our models, and is no value of the field."""
    if isinstance(schema, dict):
        return {
            name: _without_null_defaults(value)
            for name, value in schema.items()
            if not (name == "default" and value is None)
        }
    return [_without_null_defaults(item) for item in schema] if isinstance(schema, list) else schema
