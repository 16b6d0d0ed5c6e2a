"""Checks that calls of devices and of organisations share, with their limits.

PostgreSQL cannot hold U+0000 in text, so no text has it; an index entry has a size, so every text has a length. What
does not fit is refused with 422 and a sentence that begins with the member at fault.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from gateway.refusals import Refusal

NAME_CHARACTERS_MAX = 255
TEXT_CHARACTERS_MAX = 10_000
JSON_DEPTH_MAX = 32
DETAILS_BYTES_MAX = 16 * 1024
VERSION_MAX = 2**53 - 1
"""The largest version that a device may name: every JSON library holds it exactly, and counting on never overflows."""
NO_NUL = r"^[^\x00]*$"

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=NO_NUL)]
Label = Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX, pattern=NO_NUL)]
"""A name that may be empty."""
Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX, pattern=NO_NUL)]
Version = Annotated[int, Meta(ge=0, le=VERSION_MAX)]

_SEPARATORS = re.compile(r"[:.\-]")
_TWELVE_DIGITS = re.compile(r"[0-9a-f]{12}")
_CLOUD_ID_REST = re.compile(r"[A-Za-z0-9]{16,36}")
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRERELEASE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
"""Semantic Versioning 2.0.0, section "Backus–Naur Form Grammar"."""


class Named(Struct):
    """A request that gives a thing its name."""

    name: Name


def filled(member: str, text: str | None) -> str:
    """The text, which must be there and not blank. Raises Refusal (422)."""
    if text is None or not text.strip():
        raise Refusal(422, f"{member} can't be blank")
    return text


def is_mac(text: str) -> bool:
    """Whether this is a MAC address in any usual spelling."""
    return _TWELVE_DIGITS.fullmatch(_digits(text)) is not None


def _digits(mac: str) -> str:
    return _SEPARATORS.sub("", mac.strip()).lower()


def normalized_mac(text: str) -> str:
    """`aa:bb:cc:dd:ee:ff` for any usual spelling of a MAC address. Raises Refusal (422)."""
    digits = _digits(text)
    if not _TWELVE_DIGITS.fullmatch(digits):
        raise Refusal(422, "Mac is not a MAC address")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def semantic_version(member: str, text: str | None) -> str:
    """The text, which must be a semantic version such as 1.4.0 or 2.0.0-rc.1. Raises Refusal (422)."""
    text = filled(member, text)
    if not _SEMVER.fullmatch(text):
        raise Refusal(422, f"{member} is not a semantic version such as 1.4.0")
    return text


def cloud_id(text: str | None, short_code: str | None) -> str:
    """The text, which must be a Cloud ID of the vendor with this short code. Raises Refusal (422)."""
    text = filled("Cloud id", text)
    if short_code is None or not text.startswith(short_code) or not _CLOUD_ID_REST.fullmatch(text[len(short_code) :]):
        raise Refusal(422, "Cloud id is not the vendor's short code followed by 16 to 36 ASCII letters and digits")
    return text


def details(value: dict[str, Any] | None) -> dict[str, Any]:
    """What a device notes about itself, within its limits; nothing becomes empty. Raises Refusal (422)."""
    check_depth("Details", value)
    if value and len(msgspec.json.encode(value)) > DETAILS_BYTES_MAX:
        raise Refusal(422, f"Details must be at most {DETAILS_BYTES_MAX} bytes of JSON")
    return value or {}


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
