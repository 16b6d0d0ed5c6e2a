"""What a decoder complains of, as a sentence for the caller: which member, and what is wrong with it."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Meta, inspect

_MATCHING = "Expected `str` matching regex "
_NOT_CHOSEN, _CHOICES = "Invalid enum value", "choices at "
_INDEX = re.compile(r"\[(?:\.\.\.|\d+)\]")


def matching(pattern: str, sentence: str, **limits: Any) -> Meta:
    """A pattern for texts, with the sentence that a caller is told whose text does not match it."""
    return Meta(pattern=pattern, extra={"sentence": sentence}, **limits)


def sentence(error: msgspec.ValidationError, patterns: Mapping[str, str | None] = {}) -> str:
    """A decoder's complaint as a sentence. `patterns` are those of the decoded type, as `patterns_of` finds them, and
    its choices, as `choices_of` does.
    """
    text, _, path = str(error).partition(" - at `$")
    if text.endswith("out of range"):
        return "A number is out of range"
    missing = text.removeprefix("Object missing required field `")
    if missing != text:
        return f"{named(path, missing.rstrip('`'))} can't be blank"
    unknown = text.removeprefix("Object contains unknown field `")
    if unknown != text:
        return f"{named(path, unknown.rstrip('`'))} is not known here"
    choices = patterns.get(_CHOICES + _place(path)) if text.startswith(_NOT_CHOSEN) else None
    wrong = choices or complaint_of(text, patterns)
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


def choices_of(kind: Any) -> dict[str, str]:
    """What may be chosen where a type has a closed list of words, as sentences, by where in the type that is."""
    found: dict[str, str] = {}

    def walk(info: Any, place: str, within: frozenset[type]) -> None:
        match info:
            case inspect.Metadata():
                walk(info.type, place, within)
            case inspect.EnumType():
                choose(place, [member.value for member in info.cls])
            case inspect.LiteralType():
                choose(place, [value for value in info.values if value])
            case inspect.StructType() if info.cls not in within:
                for field in info.fields:
                    walk(field.type, f"{place}.{field.encode_name}", within | {info.cls})
            case inspect.UnionType():
                for option in info.types:
                    walk(option, place, within)
            case inspect.CollectionType():
                walk(info.item_type, f"{place}[]", within)
            case inspect.DictType():
                walk(info.value_type, f"{place}[]", within)

    def choose(place: str, words: list[Any]) -> None:
        if words:
            first, last = ", ".join(map(str, words[:-1])), str(words[-1])
            found[_CHOICES + place] = f"must be {first} or {last}" if first else f"must be {last}"

    walk(inspect.type_info(kind), "", frozenset())
    return found


def _place(path: str) -> str:
    return _INDEX.sub("[]", path.rstrip("`"))
