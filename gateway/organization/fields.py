"""Kinds of request members that several calls share, with their limits.

PostgreSQL cannot hold U+0000 in text, so no text has it; an index entry has a size, so every text has a length.
"""

import re
from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.errors import Refusal

NAME_CHARACTERS_MAX = 255
TEXT_CHARACTERS_MAX = 10_000
JSON_DEPTH_MAX = 32
NO_NUL = r"^[^\x00]*$"

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=NO_NUL)]
Label = Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX, pattern=NO_NUL)]
"""A name that may be empty."""
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX, pattern=NO_NUL)]

_SEPARATORS = re.compile(r"[:.\-]")
_TWELVE_DIGITS = re.compile(r"[0-9a-f]{12}")


class Named(Struct):
    """A request that gives a thing its name."""

    name: Name


def normalized_mac(text: str) -> str:
    """`aa:bb:cc:dd:ee:ff` for any usual spelling of a MAC address. Raises Refusal (422)."""
    digits = _SEPARATORS.sub("", text.strip()).lower()
    if not _TWELVE_DIGITS.fullmatch(digits):
        raise Refusal(422, "Mac is not a MAC address")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def check_depth(member: str, value: Any) -> None:
    """Raises Refusal (422) for JSON that is nested more than `JSON_DEPTH_MAX` deep."""
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _members(outer)]
        if not level:
            return
    raise Refusal(422, f"{member} is nested too deeply: at most {JSON_DEPTH_MAX} levels")


def _members(outer: dict[str, Any] | list[Any]) -> list[Any]:
    return list(outer.values()) if isinstance(outer, dict) else outer
