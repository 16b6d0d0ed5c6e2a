"""Lists by page token: it says what the last item was, so a list may change while it is read.

Where a list is in the order of ids, the token is the last item's id. Otherwise it holds the place of that item, and a
digest of what makes the list (order, time range), so that it is good for no other. Opaque to clients, and no secret.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.refusals import DoesNotFit

TOKEN_CHARACTERS_MAX = 8_192
PAGE_SIZE_MAX = 100
ID_CHARACTERS_MAX = 255
UNKNOWN = "Page token is not one of this list"
XID = re.compile(r"[0-9a-v]{20}")
UUID_TEXT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INT64 = range(-(2**63), 2**63)


class JsonText(str):
    """A member of a place that is the text of a JSON value, as PostgreSQL's `jsonb` writes it."""

    __slots__ = ()


T = TypeVar("T")


class PageQuery(Struct, kw_only=True):
    """Which part of a list. `page_token` is `nextPageToken` of the part before."""

    page_size: Annotated[int, Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_MAX
    page_token: Annotated[str, Meta(max_length=ID_CHARACTERS_MAX)] = ""


def cut(rows: list[T], size: int, token: Callable[[T], str]) -> tuple[list[T], str]:
    """The page made of rows that were read with one more than `size` as limit, and the token of the next one."""
    page = rows[:size]
    return page, token(page[-1]) if len(rows) > size else ""


def last_id(query: PageQuery, form: "re.Pattern[str]") -> str:
    """The id that a token is, in a list in the order of ids. Raises DoesNotFit for what is no id of this form."""
    if query.page_token and not form.fullmatch(query.page_token):
        raise DoesNotFit(UNKNOWN)
    return query.page_token


def part(rows: list[T], query: PageQuery, token: Callable[[T], str]) -> tuple[list[T], str]:
    """The part that is asked for of a list that was read whole, and the token of the next. Raises DoesNotFit."""
    if query.page_token:
        tokens = [token(row) for row in rows]
        if query.page_token not in tokens:
            raise DoesNotFit(UNKNOWN)
        rows = rows[tokens.index(query.page_token) + 1 :]
    return cut(rows, query.page_size, token)


def seal(scope: tuple[Any, ...], place: list[Any]) -> str:
    """The token for what comes behind `place` in the list that `scope` (order, time range) makes."""
    text = msgspec.json.encode([_digest(scope), *place])
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unseal(scope: tuple[Any, ...], token: str, kinds: Any) -> Any:
    """The place of a token, as the tuple type `kinds`; None for the first page. Raises DoesNotFit.

    What it holds can be sent to PostgreSQL, whoever made the token.
    """
    if not token:
        return None
    try:
        digest, *place = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=list[Any])
        if digest == _digest(scope):
            found = msgspec.convert(place, kinds, dec_hook=_json_text)
            for member in found:
                _check(member)
            return found
    except (ValueError, OverflowError, binascii.Error, msgspec.MsgspecError, RecursionError):
        pass
    raise DoesNotFit(UNKNOWN)


def _check(member: Any) -> None:
    """Raises ValueError or OverflowError for what no column holds."""
    match member:
        case str() if "\0" in member:
            raise ValueError(member)
        case int() if member not in _INT64:
            raise ValueError(member)
        case datetime() if member.tzinfo is None:
            raise ValueError(member)
        case datetime():
            member.astimezone(UTC)


def _json_text(kind: type[Any], value: Any) -> JsonText:
    if kind is not JsonText or not isinstance(value, str):
        raise ValueError(value)
    _check_json(json.loads(value, parse_float=_plain, parse_constant=_plain))
    return JsonText(value)


def _plain(number: str) -> float:
    """`jsonb` writes neither exponents, which could be too large for it, nor NaN."""
    if not number.lstrip("-").replace(".", "").isdigit():
        raise ValueError(number)
    return 0.0


def _check_json(value: Any) -> None:
    """Raises ValueError for texts that JSON can hold and `jsonb` cannot: U+0000, and half a surrogate pair."""
    match value:
        case str() if "\0" in value:
            raise ValueError(value)
        case str():
            value.encode()
        case list():
            for item in value:
                _check_json(item)
        case dict():
            for key, item in value.items():
                _check_json(key)
                _check_json(item)


def _digest(scope: tuple[Any, ...]) -> str:
    return hashlib.blake2b(msgspec.json.encode(scope), digest_size=6).hexdigest()
