"""JSON as vendors send it. What one device's text breaks (half a character, a byte of another character set, a raw tab,
a number beyond all bounds) must not cost the list, so what the strict decoder refuses is read leniently.

A few bytes of text can become many of memory (`{}` is one of 64), and compressed ones travel as a thousandth of that.
So what an answer would take is estimated before it is decoded.
"""

import codecs
import json
import re
from typing import Any

import msgspec

_CHARSET = re.compile(r'charset="?([\w.:-]+)', re.IGNORECASE)
DIGITS_MAX = 300
DECODED_BYTES_MAX = 192 * 1024 * 1024
"""An answer of 32 MiB that lists 180,000 devices takes 145 MiB."""
_BYTES_OF = {b",": 56, b"[": 64, b"{": 184}
"""What a value, an array and an object take at most beside their text."""


class TooLargeError(ValueError):
    """Decoded, an answer would take more memory than one may."""


def decode(body: bytes, content_type: str) -> Any:
    """What the body says. Raises ValueError, with a sentence that quotes nothing of it, when it is not JSON."""
    check_size(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _leniently(body, content_type)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_size(body: bytes) -> None:
    if len(body) * max(_BYTES_OF.values()) <= DECODED_BYTES_MAX:
        return
    if len(body) + sum(body.count(mark) * size for mark, size in _BYTES_OF.items()) > DECODED_BYTES_MAX:
        raise TooLargeError("it holds too many values")


def _leniently(body: bytes, content_type: str) -> Any:
    try:
        return json.loads(_text(body, content_type), strict=False, parse_int=_whole, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _text(body: bytes, content_type: str) -> str:
    """In the character set that the answer names; JSON's own otherwise, and a byte that is none of it is replaced."""
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return body.decode("utf-16", "replace")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        named = _CHARSET.search(content_type)
    try:
        return body.decode(named[1] if named else "utf-8", "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def _whole(digits: str) -> int | str:
    """A number; one that no device means stays text."""
    return int(digits) if len(digits) <= DIGITS_MAX else digits
