"""No text of a caller holds U+0000: PostgreSQL cannot store it, so it is refused where calls come in, for all of them.

Looked for in what is decoded, and only when what was sent says so at all, which costs nothing. JSON that is kept and
given back as it came (config, details, the telemetry of devices) may hold it: columns of type `json` take it.
"""

import functools
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeGuard

import msgspec
from msgspec import Raw, Struct
from starlette.requests import Request

from gateway.refusals import DoesNotFit
from schemas.sentences import named

NUL = "\0"
WRONG = "a text must not hold U+0000"
_ESCAPED = b"\\u0000"
_FREE = (Any, Raw)


def is_text(value: object) -> TypeGuard[str]:
    """Whether this is a text that can be looked for in the database."""
    return isinstance(value, str) and NUL not in value


def check_body(data: bytes, decoded: Any, kind: Any) -> None:
    """Raises DoesNotFit when a text of a body, decoded as `kind`, holds U+0000."""
    if _ESCAPED in data and (member := _member_with_nul(decoded, kind, "")) is not None:
        raise _refusal(member)


def check_query(request: Request) -> None:
    """Raises DoesNotFit when the query string holds U+0000."""
    if b"%00" in request.scope["query_string"]:
        for name, value in request.query_params.multi_items():
            if NUL in name or NUL in value:
                raise _refusal(name.replace(NUL, ""))


def _refusal(member: str) -> DoesNotFit:
    name = named(member, "")
    return DoesNotFit(f"{name}: {WRONG}" if name else WRONG[:1].upper() + WRONG[1:])


def _member_with_nul(value: Any, kind: Any, path: str) -> str | None:
    """The path of the first text that holds U+0000."""
    if kind in _FREE:
        return None
    if isinstance(value, str):
        return path if NUL in value else None
    inside: list[tuple[Any, Any, str]] = []
    if isinstance(value, Struct):
        members = _members(type(value)).items()
        inside = [(getattr(value, name), of, f"{path}.{encoded}") for name, (encoded, of) in members]
    elif isinstance(value, list):
        inside = [(item, _item(kind, list, 0), f"{path}[{place}]") for place, item in enumerate(value)]
    elif isinstance(value, dict) and (of := _item(kind, dict, 1)) not in _FREE:
        if any(NUL in key for key in value):
            return path
        inside = [(item, of, f"{path}.{key}") for key, item in value.items()]
    return next((found for one in inside if (found := _member_with_nul(*one)) is not None), None)


@functools.cache
def _members(kind: type[Struct]) -> Mapping[str, tuple[str, Any]]:
    return {field.name: (field.encode_name, field.type) for field in msgspec.structs.fields(kind)}


def _item(kind: Any, container: type, argument: int) -> Any:
    """What the lists or maps in a type hold; anything at all where the type does not say."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is container:
        return arguments[argument]
    if origin is Annotated:
        return _item(arguments[0], container, argument)
    if origin in (types.UnionType, typing.Union):
        return next((of for one in arguments if (of := _item(one, container, argument)) is not Any), Any)
    return Any
