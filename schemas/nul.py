"""No text of a caller holds U+0000: PostgreSQL cannot store it as text, nor take JSON apart that says it.

It is refused where calls come in, for all of them alike: in paths, queries, headers and bodies, in telemetry too.
"""

import re
from typing import Any

import msgspec

from schemas.sentences import named

NUL = "\0"
_loose = msgspec.json.Decoder(float_hook=str)
"""Takes any number, which is not looked at."""
# Behind an even number of backslashes: each pair is a backslash of the text.
_escaped = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000").search


def says_nul(body: bytes) -> bool:
    """Whether valid JSON says U+0000 anywhere."""
    return b"\\u0000" in body and _escaped(body) is not None


def sentence(body: bytes) -> str:
    """What is told of a body that says U+0000: the first text that holds it, by its path."""
    try:
        member = _found(_loose.decode(body), "")
    except RecursionError:
        member = None
    return sentence_of(member or "")


def sentence_of(member: str) -> str:
    """What is told of a text that holds U+0000."""
    name = named(member, "")
    return f"{name}: a text must not hold U+0000" if name else "A text must not hold U+0000"


def _found(value: Any, path: str) -> str | None:
    if isinstance(value, str):
        return path if NUL in value else None
    inside: list[tuple[Any, str]] = []
    if isinstance(value, list):
        inside = [(item, f"{path}[{place}]") for place, item in enumerate(value)]
    elif isinstance(value, dict):
        if any(NUL in key for key in value):
            return path
        inside = [(item, f"{path}.{key}") for key, item in value.items()]
    return next((found for one in inside if (found := _found(*one)) is not None), None)
