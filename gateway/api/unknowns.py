"""Parameters and members that a call does not know are refused with their name.

Whoever misspells a filter must not be given everything, and a setting with a slip in its name must not be lost. So says
the frame for all calls whose callers are `exact` (see `CallerKind`): owners, vendors and accounts. Devices are not:
they live long, and what a newer one tells an older gateway is not ours to refuse.
"""

from collections.abc import Collection, Iterator
from typing import Any

import msgspec
from msgspec import inspect

from gateway.refusals import Malformed

NO_BODY = "This call takes no body"
SHOWN_CHARACTERS_MAX = 64


class Members:
    """The members that a body of this type may have, at any depth; `also` are others at its top."""

    def __init__(self, kind: Any, also: Collection[str] = ()) -> None:
        self._info = inspect.type_info(kind)
        self._also = frozenset(also)

    def check(self, body: Any) -> None:
        """Raises Malformed for JSON with a member that has no place in the type."""
        for name, known in _unknown(body, self._info, self._also):
            raise Malformed(f"Member {name[:SHOWN_CHARACTERS_MAX]} is not known: {_takes(known)}")


def check_no_body(data: bytes) -> None:
    """Raises Malformed for a body that says something, of a call that takes none."""
    try:
        body = msgspec.json.decode(data) if data.strip() else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed(NO_BODY) from None
    if body:
        name = f", not the member {next(iter(body))[:SHOWN_CHARACTERS_MAX]}" if isinstance(body, dict) else ""
        raise Malformed(NO_BODY + name)


def check_parameters(names: Collection[str], known: Collection[str], lists: Collection[str]) -> None:
    """Raises Malformed for a query parameter that is not known, and for one that stands twice and is no list."""
    seen: set[str] = set()
    for name in names:
        if name not in known:
            raise Malformed(f"Query parameter {name[:SHOWN_CHARACTERS_MAX]} is not known: {_takes(known)}")
        if name in seen and name not in lists:
            raise Malformed(f"Query parameter {name} is given twice")
        seen.add(name)


def _takes(known: Collection[str]) -> str:
    return f"known here are {', '.join(sorted(known))}" if known else "this call takes none"


def _unknown(value: Any, info: Any, also: Collection[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """The paths of members that the type does not have, each with those that it has at that place."""
    match info:
        case inspect.Metadata():
            yield from _unknown(value, info.type, also)
        case inspect.UnionType():
            for option in info.types:
                yield from _unknown(value, option, also)
        case inspect.StructType() if isinstance(value, dict):
            members = {field.encode_name: field.type for field in info.fields}
            for name in value:
                if name not in members and name not in also:
                    yield name, list(members)
            for name in value.keys() & members.keys():
                yield from _below(name, _unknown(value[name], members[name]))
        case inspect.CollectionType() if isinstance(value, list):
            for position, item in enumerate(value):
                yield from _below(f"[{position}]", _unknown(item, info.item_type))
        case inspect.DictType() if isinstance(value, dict):
            for name, inner in value.items():
                yield from _below(name, _unknown(inner, info.value_type))


def _below(place: str, found: Iterator[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    for name, known in found:
        yield place + ("" if name.startswith("[") else ".") + name, known
