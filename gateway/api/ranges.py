"""Which part of some bytes a request asks for, and whether it still wants them: RFC 9110, sections 13 and 14.

One range is served. Several at once are answered with the whole, as section 14.2 allows, unless there is nothing in any
of them; so is what is no range of bytes at all. `HEAD` knows no ranges.
"""

import re
from typing import NamedTuple

from starlette.datastructures import Headers

_RANGE = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(r"(?P<first>[0-9]*)-(?P<last>[0-9]*)")
_TAG = re.compile(r'(?P<weak>W/)?(?P<tag>"[\x21\x23-\x7e\x80-\xff]*")')
_DIGITS_MAX = 19
"""Numbers with more are beyond the end of anything."""


class Span(NamedTuple):
    """The bytes from `start` up to, not including, `end`."""

    start: int
    end: int


class UnsatisfiableError(Exception):
    """There are no bytes in what was asked for."""


def asked_for(headers: Headers, size: int, etag: str) -> Span | None:
    """The part that a GET asks for; None is the whole. Raises UnsatisfiableError."""
    given = headers.getlist("range")
    if len(given) != 1 or not _may_continue(headers.getlist("if-range"), etag):
        return None
    found = _RANGE.fullmatch(given[0])
    if found is None:
        return None
    specs = [spec for spec in (one.strip(" \t") for one in found[1].split(",")) if spec]
    parts = [_part(spec, size) for spec in specs]
    if not parts or None in parts:
        return None
    satisfiable = [part for part in parts if part is not None and part.start < part.end]
    if not satisfiable:
        raise UnsatisfiableError
    return satisfiable[0] if len(parts) == 1 else None


def _part(spec: str, size: int) -> Span | None:
    """The part that a spec means, empty where it has no bytes; None when it is none."""
    found = _SPEC.fullmatch(spec)
    if found is None or spec == "-":
        return None
    first, last = _number(found["first"]), _number(found["last"])
    if first is None:
        assert last is not None
        return Span(max(0, size - last), size)
    if last is not None and last < first:
        return None
    return Span(min(first, size), size if last is None else min(last + 1, size))


def _number(digits: str) -> int | None:
    digits = digits.lstrip("0") or digits[:1]
    return int(digits) if 0 < len(digits) <= _DIGITS_MAX else 10**_DIGITS_MAX if digits else None


def _may_continue(if_range: list[str], etag: str) -> bool:
    """Whether what the caller has a part of is this: a strong tag alone says so, no date does."""
    return not if_range or if_range == [etag]


def is_another(headers: Headers, etag: str) -> bool:
    """Whether `If-Match` names something else (412)."""
    given = headers.getlist("if-match")
    return bool(given) and not _names(given, etag, weakly=False)


def is_known(headers: Headers, etag: str) -> bool:
    """Whether `If-None-Match` says that the caller has this (304)."""
    given = headers.getlist("if-none-match")
    return bool(given) and _names(given, etag, weakly=True)


def _names(given: list[str], etag: str, *, weakly: bool) -> bool:
    text = ",".join(given).strip(" \t")
    if text == "*":
        return True
    return any(found["tag"] == etag and (weakly or not found["weak"]) for found in _TAG.finditer(text))
