"""The reference: what there is to know of each call, from the OpenAPI document, which is made of the API's structs."""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.api import examples
from gateway.api.openapi import STREAM_TYPES, type_name
from gateway.developers import samples
from gateway.developers.samples import Sample

JSON = "application/json"
CALLERS = {
    "device": "Device: its access key",
    "organization": "Owner: an organization key",
    "partner": "Vendor: a partner key",
    "account": "Service account: id and secret of a key",
    "token": "Service account: a token",
}
CURES = {
    400: "Send valid JSON, with members and parameters that this page names.",
    401: "Send the credential of this kind of caller. A device that is told 401 was deleted: it registers again.",
    403: "Use a key or an account with the role that the text names.",
    404: "Look the id up in the list it comes from; it may have been deleted, or belong to somebody else.",
    409: "Read the thing again: it changed, or is in another state than this call needs.",
    410: "Ask again for what is there now.",
    412: "Read it again, and go on with what it is now.",
    413: "Send less, or in parts.",
    415: "Send it as it is, or packed with gzip.",
    416: "Ask for a range within the size.",
    422: "Change the value that the text names.",
    429: "Wait as long as Retry-After says, then send the same again.",
    431: "Send fewer or shorter headers.",
    503: "Wait as long as Retry-After says, then send the same again: nothing was lost.",
    504: "Try again.",
}
"""What its caller does about a refusal."""
_UNITS = {
    r"(_s|Seconds)$": "seconds",
    r"_bytes(_max)?$|^size$|^length$": "bytes",
    r"percent$": "percent",
    r"Ms$": "milliseconds",
    r"(_at|Time)$": "RFC 3339, UTC",
    r"^latitude$|^longitude$|^lat$|^lng$": "degrees",
}
_LIMITS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} members",
    "pattern": "like {}",
}
_DEPTH_MAX = 4


class Member(Struct, frozen=True):
    """A member of a body, or a parameter."""

    name: str
    kind: str
    limits: str
    required: bool
    text: str


class Refused(Struct, frozen=True):
    """A refusal: why, and what to do about it."""

    status: int
    cause: str
    cure: str


class Body(Struct, frozen=True):
    """What goes in or comes out."""

    media_types: tuple[str, ...]
    members: tuple[Member, ...]
    example: str


class Call(Struct, frozen=True):
    """One call."""

    name: str
    method: str
    path: str
    summary: str
    description: str
    scheme: str
    """How the caller proves itself, first of the ways; empty for no credential."""
    callers: tuple[str, ...]
    parameters: tuple[tuple[str, Member], ...]
    """Each with where it goes: path, query."""
    request: Body | None
    status: int
    answer: Body | None
    refusals: tuple[Refused, ...]
    endless: bool

    def body(self, known: Mapping[str, str]) -> str:
        """An example of what is sent, with what is known in place of ids; empty where nothing is."""
        text = "" if self.request is None else self.request.example
        for example, name in OWN.items():
            text = text.replace(example, known.get(name, example))
        return text

    def samples(self, url: str, known: Mapping[str, str]) -> dict[str, str]:
        """How the call is made, by language, with what is known in place of ids."""
        path = re.sub(r"{(\w+)}", lambda found: known.get(found[1], found[0]), self.path)
        media_type = self.request.media_types[0] if self.request is not None else ""
        body = json.loads(self.body(known)) if media_type in (JSON, samples.FORM) else None
        return samples.of(Sample(self.method, url + path, self.scheme, media_type, body, self.endless))


OWN = {
    examples.DEVICE: "device_id",
    examples.PROJECT: "project_id",
    examples.SPACE: "space_id",
    examples.MODEL: "model_id",
    examples.ORGANIZATION: "organization",
}
"""What a reader may have of its own in place of what examples have."""


class Line(Struct, frozen=True):
    """A call as lists have it."""

    name: str
    method: str
    path: str
    summary: str


class Topic:
    """The calls about one thing, on one page."""

    def __init__(self, tag: str, about: str, operations: list[tuple[Line, Mapping[str, Any]]], known: Any) -> None:
        self.slug = slug_of(tag)
        self.about = about
        area, _, self.title = tag.partition(": ")
        self.area = area
        """The API that they are part of: device, organization, partner, v2."""
        self.lines = tuple(line for line, _ in operations)
        self._operations, self._components = operations, known

    @functools.cached_property
    def calls(self) -> tuple[Call, ...]:
        """All there is to know; made when somebody looks, since an edge has better things to do when it starts."""
        return tuple(_call(line, operation, self._components) for line, operation in self._operations)


def topics(document: Mapping[str, Any]) -> dict[str, Topic]:
    """All pages of the reference, by the word that their addresses have for them, those of one API together."""
    found: dict[str, list[tuple[Line, Mapping[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            line = Line(operation["operationId"], method.upper(), path, operation["summary"])
            found.setdefault(operation["tags"][0], []).append((line, operation))
    purposes = {tag["name"]: tag["description"] for tag in document["tags"]}
    components = document["components"]["schemas"]
    made = [Topic(tag, purposes[tag], found[tag], components) for tag in sorted(found)]
    return {topic.slug: topic for topic in made}


def slug_of(tag: str) -> str:
    """What addresses have for a tag."""
    return re.sub(": | ", "-", tag)


def _call(line: Line, operation: Mapping[str, Any], components: Mapping[str, Any]) -> Call:
    schemes = [name for option in operation.get("security", ()) for name in option]
    status = min(int(status) for status in operation["responses"])
    answer = operation["responses"][str(status)]
    scheme = "account" if "account" in schemes else next(iter(schemes), "")
    return Call(
        name=line.name,
        method=line.method,
        path=line.path,
        summary=line.summary,
        description=operation.get("description", ""),
        scheme=scheme,
        callers=tuple(CALLERS[name] for name in schemes) or ("Anybody",),
        parameters=tuple(
            (item["in"], _member(item["name"], item["schema"], item["required"], components))
            for item in operation["parameters"]
        ),
        request=_body(operation.get("requestBody", {}).get("content", {}), components),
        status=status,
        answer=_body(answer.get("content", {}), components),
        refusals=tuple(
            Refused(int(code), refused["description"], CURES.get(int(code), ""))
            for code, refused in operation["responses"].items()
            if int(code) >= 400
        ),
        endless=STREAM_TYPES[0] in answer.get("content", ()),
    )


def _body(content: Mapping[str, Any], components: Mapping[str, Any]) -> Body | None:
    if not content:
        return None
    media = next(iter(content.values()))
    shown = media["example"]
    example = shown if isinstance(shown, str) else json.dumps(shown, indent=2, ensure_ascii=False)
    members = tuple(_members(media["schema"], components, "", 0)) if "schema" in media else ()
    return Body(tuple(content), members, example)


def _members(schema: Mapping[str, Any], components: Mapping[str, Any], prefix: str, depth: int) -> Iterator[Member]:
    """The members at any depth, those of inner structs as `outer.inner`, of lists as `outer[].inner`."""
    schema = _resolved(schema, components)
    if "items" in schema:
        yield from _members(schema["items"], components, f"{prefix}[]", depth)
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _members(option, components, prefix, depth)
    if isinstance(inner := schema.get("additionalProperties"), dict) and depth < _DEPTH_MAX:
        yield from _members(inner, components, f"{prefix}.*" if prefix else "*", depth + 1)
    for name, member in schema.get("properties", {}).items():
        whole = f"{prefix}.{name}" if prefix else name
        yield _member(whole, member, name in schema.get("required", ()), components)
        if depth < _DEPTH_MAX:
            yield from _members(member, components, whole, depth + 1)


def _member(name: str, schema: Mapping[str, Any], required: bool, components: Mapping[str, Any]) -> Member:
    plain = _one_of(schema)
    limits = [text.format(plain[word]) for word, text in _LIMITS.items() if word in plain]
    limits += [unit for pattern, unit in _UNITS.items() if re.search(pattern, name.rpartition(".")[2])]
    default = schema.get("default")
    if default not in (None, "", {}, []):
        limits.append(f"else {json.dumps(default)}")
    text = schema.get("description", "") or plain.get("description", "")
    return Member(name, type_name(dict(schema), dict(components)), ", ".join(limits), required, text)


def _one_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a member that may be null, what it is otherwise."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return options[0] if len(options) == 1 else schema


def _resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found
