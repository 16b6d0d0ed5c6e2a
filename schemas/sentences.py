"""What a decoder complains of, as a sentence for the caller: which member, and what is wrong with it."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Meta, inspect

_MATCHING = "Expected `str` matching regex "


def matching(pattern: str, sentence: str, **limits: Any) -> Meta:
    """A pattern for texts, with the sentence that a caller is told whose text does not match it."""
    return Meta(pattern=pattern, extra={"sentence": sentence}, **limits)


def sentence(error: msgspec.ValidationError, patterns: Mapping[str, str | None] = {}) -> str:
    """A decoder's complaint as a sentence. `patterns` are those of the decoded type, as `patterns_of` finds them."""
    text, _, path = str(error).partition(" - at `$")
    if text.endswith("out of range"):
        return "A number is out of range"
    missing = text.removeprefix("Object missing required field `")
    if missing != text:
        return f"{named(path, missing.rstrip('`'))} can't be blank"
    unknown = text.removeprefix("Object contains unknown field `")
    if unknown != text:
        return f"{named(path, unknown.rstrip('`'))} is not known here"
    wrong = complaint_of(text, patterns)
    member = named(path, "")
    return f"{member}: {wrong}" if member else wrong


def complaint_of(complaint: str, patterns: Mapping[str, str | None]) -> str:
    """What is wrong, without the member: the sentence of the pattern, if it is one that does not match."""
    return patterns.get(complaint.removeprefix(_MATCHING)) or complaint.replace("`", "")


def named(path: str, member: str) -> str:
    """A member by its path, as a sentence begins with it."""
    name = (path.rstrip("`").lstrip(".") + (f".{member}" if member else "")).lstrip(".")
    return name[:1].upper() + name[1:].replace("_", " ")


def patterns_of(kind: Any) -> dict[str, str | None]:
    """All patterns in a type, as the decoder writes them, with their sentences; None where one has none."""
    found: dict[str, str | None] = {}
    seen: set[type] = set()

    def walk(info: Any, extra: Mapping[str, Any]) -> None:
        match info:
            case inspect.Metadata():
                walk(info.type, info.extra or {})
            case inspect.StrType():
                if info.pattern is not None:
                    found[repr(info.pattern)] = extra.get("sentence")
            case inspect.StructType():
                if info.cls not in seen:
                    seen.add(info.cls)
                    for field in info.fields:
                        walk(field.type, {})
            case inspect.UnionType():
                for option in info.types:
                    walk(option, extra)
            case inspect.CollectionType():
                walk(info.item_type, {})
            case inspect.TupleType():
                for item in info.item_types:
                    walk(item, {})
            case inspect.DictType():
                walk(info.key_type, {})
                walk(info.value_type, {})

    walk(inspect.type_info(kind), {})
    return found
