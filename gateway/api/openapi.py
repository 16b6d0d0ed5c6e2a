"""The OpenAPI 3.1 document, made from the same structs that decode requests and encode answers."""

import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.api import examples
from gateway.api.bodies import Streamed
from gateway.api.dialects import ErrorBody, StreamErrorBody, V2ErrorBody
from gateway.api.endpoint import Endpoint

REFERENCE = "#/components/schemas/{name}"
HEAD_TOO_LARGE = 431
"""Answers given before the call is matched to an endpoint; they have one shape in all APIs."""
COMMON = {
    400: "The body is not valid JSON, a member or parameter is not known, or below `/v2` one does not fit.",
    401: "The credential is missing, wrong, or no longer good.",
    403: "The caller's role does not permit it.",
    404: "There is no such thing, or it is not the caller's.",
    413: "The body is too large.",
    415: "The body is packed otherwise than with gzip.",
    422: "A member or parameter does not fit; the text says which and why.",
    429: "Too many calls; `Retry-After` says when to come back.",
    HEAD_TOO_LARGE: "URL and headers together are too large.",
    503: "Not possible at the moment; `Retry-After` says when to come back.",
}
RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
BYTES: dict[str, Any] = {"application/octet-stream": {"example": "the bytes of the file"}}
RANGES = {
    "206": {"description": "The range that was asked for.", "content": BYTES},
    "304": {"description": "The caller has it: `If-None-Match`."},
    "412": {"description": "It is another one: `If-Match`."},
    "416": {"description": "There are no bytes in the range that was asked for."},
}
"""Answers of calls that send bytes, beside the whole."""
SAID = {
    400: "Body is not valid JSON",
    401: "Unauthorized",
    403: "This needs the role project.developer or more",
    404: "Not found",
    413: "Body is larger than 1048576 bytes",
    415: "Content-Encoding br is not taken: send gzip, or the body as it is",
    422: "Name must be at least 1 character long",
    429: "More than 60 calls in a minute",
    HEAD_TOO_LARGE: "The headers are too large",
    503: "Postgres is not available, try again",
}
"""What callers are told where the endpoint says nothing more of a status, for examples."""
STREAM_TYPES = ("application/x-ndjson", "text/event-stream")


def document(endpoints: Sequence[Endpoint], version: str) -> dict[str, Any]:
    """The document of these endpoints."""
    wanted: list[Any] = [ErrorBody, V2ErrorBody, StreamErrorBody]
    for endpoint in endpoints:
        for kind in (endpoint.answer, endpoint.described_body, endpoint.query):
            wanted += [leaf for leaf in _leaves(kind) if leaf not in (None, bytes, Streamed)]
    schemas, components = msgspec.json.schema_components(wanted, ref_template=REFERENCE)
    by_type = {id(known): schema for known, schema in zip(wanted, schemas, strict=True)}

    def schema_of(kind: Any) -> dict[str, Any]:
        """As msgspec's, and for unions of structs, which only answers have and msgspec refuses."""
        origin, inside = typing.get_origin(kind), typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):
            return {"anyOf": [schema_of(option) for option in inside]}
        if origin is list:
            return {"type": "array", "items": schema_of(inside[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": schema_of(inside[1])}
        return by_type[id(kind)]

    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, schema_of, components)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    for endpoint in endpoints:
        if endpoint.exact and endpoint.body is not None and not endpoint.takes_bytes:
            _close(schema_of(endpoint.body), components)
    for query in {endpoint.query for endpoint in endpoints if endpoint.query is not None}:
        components.pop(_name(schema_of(query)), None)  # its members stand as parameters
    _show_examples(paths, endpoints, components)
    tags: dict[str, str] = {}
    for endpoint in sorted(endpoints, key=_names_resource):  # the module of that name describes it, else the first
        tags.setdefault(_tag(endpoint), _purpose(endpoint))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fleetgate",
            "version": version,
            "description": "Devices talk in, events go out, owners look and command. Every refusal is "
            '`{"error": "<text for a person>"}`, below `/v2` with `code` and `help` beside it. '
            "No text may hold U+0000, whatever its schema says.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag, "description": text} for tag, text in sorted(tags.items())],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _schemes(endpoints)},
    }


def _show_examples(paths: dict[str, dict[str, Any]], endpoints: Sequence[Endpoint], components: dict[str, Any]) -> None:
    """Put an example beside each schema of a body: what a caller may send, and what it is answered."""
    for endpoint in endpoints:
        operation = paths[endpoint.path][endpoint.method.lower()]
        for media in operation.get("requestBody", {}).get("content", {}).values():
            if "schema" in media:
                media["example"] = examples.example(media["schema"], components, request=True)
        for status, response in operation["responses"].items():
            for kind, media in response.get("content", {}).items():
                if "schema" in media and int(status) < 400:
                    media["example"] = examples.example(media["schema"], components)
                elif kind == "application/json":
                    shape = ErrorBody if int(status) == HEAD_TOO_LARGE else endpoint.dialect.body
                    text = endpoint.errors.get(int(status), SAID.get(int(status), "")).rstrip(".")
                    media["example"] = msgspec.to_builtins(shape.of(int(status), text))


def _close(schema: dict[str, Any], components: dict[str, Any]) -> None:
    """Say of a schema, and of all that it refers to, that there are no other members."""
    if "$ref" in schema:
        schema = components[_name(schema)]
        if "additionalProperties" in schema:
            return
        schema["additionalProperties"] = False
    inner = [*schema.get("anyOf", ()), *schema.get("properties", {}).values(), schema.get("items")]
    for below in [*inner, schema.get("additionalProperties")]:
        if isinstance(below, dict):
            _close(below, components)


def _schemes(endpoints: Sequence[Endpoint]) -> dict[str, Mapping[str, str]]:
    """How callers prove themselves, as the kinds of callers of these endpoints describe it."""
    kinds = [endpoint.described_caller for endpoint in endpoints if endpoint.described_caller is not None]
    return {name: scheme for kind in kinds for name, scheme in kind.schemes.items()}


def _leaves(kind: Any) -> list[Any]:
    """The types that a type is made of by lists, maps and unions."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union, list, dict):
        return [leaf for option in typing.get_args(kind) for leaf in _leaves(option)]
    return [kind]


def _operation(endpoint: Endpoint, schema_of: Any, components: dict[str, Any]) -> dict[str, Any]:
    text = inspect.getdoc(endpoint.function) or ""
    summary, _, rest = text.partition("\n")
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": summary,
        "tags": [_tag(endpoint)],
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint, schema_of, components)],
        "responses": {
            str(endpoint.status): {
                "description": "Line after line, until the stream ends." if endpoint.stream else "Done.",
                "content": BYTES
                if endpoint.answer is bytes
                else {kind: {"schema": schema_of(endpoint.answer)} for kind in _media_types(endpoint)},
            }
        },
    }
    if endpoint.answer is bytes:
        operation["responses"] |= RANGES
    if rest.strip():
        operation["description"] = rest.strip()
    if endpoint.described_caller is not None:
        operation["security"] = [{name: []} for name in endpoint.described_caller.schemes]
    if endpoint.described_body in (bytes, Streamed):
        operation["requestBody"] = {"required": True, "content": BYTES}
    elif endpoint.described_body is not None:
        content = {endpoint.body_media_type: {"schema": schema_of(endpoint.described_body)}}
        operation["requestBody"] = {"required": not endpoint.body_optional, "content": content}
    error = endpoint.dialect.body
    for status, described in sorted(_refusals(endpoint).items()):
        shape = ErrorBody if status == HEAD_TOO_LARGE else error
        response: dict[str, Any] = {
            "description": described,
            "content": {"application/json": {"schema": schema_of(shape)}},
        }
        if status in (429, 503):
            response["headers"] = RETRY_AFTER
        if status == endpoint.partial_status:
            either = [schema_of(error), schema_of(endpoint.answer)]
            response["content"] = {"application/json": {"schema": {"anyOf": either}}}
        operation["responses"][str(status)] = response
    return operation


def _refusals(endpoint: Endpoint) -> dict[int, str]:
    """The refusals that follow from the signature, and those that the endpoint describes itself."""
    implied = {503, HEAD_TOO_LARGE}
    if endpoint.described_caller is not None:
        implied.add(401)
        if endpoint.described_caller.limited:
            implied.add(429)
    if endpoint.described_body is not None:
        implied |= {400, 413, 415, 422}
    if endpoint.exact:
        implied.add(400)
    if endpoint.query is not None:
        implied.add(422)
    if any(kind is not str for kind in endpoint.in_path.values()):
        implied.add(404)
    if endpoint.scopes:
        implied.add(403)
    if any(f"{{{name}}}" in endpoint.path for name in endpoint.scopes):
        implied.add(404)
    if endpoint.dialect.is_v2 and 422 in implied:
        implied = implied - {422} | {400}
    return {status: COMMON[status] for status in implied} | endpoint.errors


def _media_types(endpoint: Endpoint) -> tuple[str, ...]:
    return STREAM_TYPES if endpoint.stream else ("application/json",)


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", endpoint.path)
    parameters = []
    for name in names:
        schema: dict[str, Any] = {"type": "string"}
        if endpoint.in_path.get(name) is not str and name not in endpoint.scopes:
            schema["format"] = "uuid"
        parameters.append({"name": name, "in": "path", "required": True, "schema": schema})
    return parameters


def _query_parameters(endpoint: Endpoint, schema_of: Any, components: dict[str, Any]) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = components[_name(schema_of(endpoint.query))]
    required = schema.get("required", [])
    found = []
    for name, member in schema["properties"].items():
        parameter = {"name": name, "in": "query", "required": name in required, "schema": member}
        if "description" in member:
            parameter["description"] = member["description"]
        found.append(parameter)
    return found


def _names_resource(endpoint: Endpoint) -> bool:
    return hasattr(sys.modules[endpoint.function.__module__], "RESOURCE")


def _resource(endpoint: Endpoint) -> tuple[str, str]:
    """The contract's package or door, and what the call is about: the `RESOURCE` of its module, else its name."""
    area, _, name = endpoint.function.__module__.removeprefix("gateway.").partition(".")
    if endpoint.door is not None:
        area = endpoint.door.area
    return area, getattr(sys.modules[endpoint.function.__module__], "RESOURCE", name)


def _operation_id(endpoint: Endpoint) -> str:
    return "_".join((*_resource(endpoint), endpoint.function.__name__))


def _tag(endpoint: Endpoint) -> str:
    area, resource = _resource(endpoint)
    return f"{area}: {resource.replace('_', ' ')}"


def _purpose(endpoint: Endpoint) -> str:
    """The first sentence of the endpoint's module."""
    text = inspect.getdoc(sys.modules[endpoint.function.__module__]) or ""
    return " ".join(text.partition("\n\n")[0].split())


def type_name(schema: dict[str, Any], components: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return _name(schema)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(type_name(option, components) for option in schema[word]))
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"array of {type_name(schema.get('items', {}), components)}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {type_name(schema['additionalProperties'], components)}"
    return str(schema.get("format", schema.get("type", "any")))


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
