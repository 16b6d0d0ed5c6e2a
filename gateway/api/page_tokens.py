"""Lists by page token: it says what the last item was, so a list may change while it is read.

Where a list is in the order of ids, the token is the last item's id. Otherwise it holds the place of that item, and a
digest of what makes the list (order, time range), so that it is good for no other. Opaque to clients, and no secret.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.refusals import DoesNotFit

TOKEN_CHARACTERS_MAX = 8_192
PAGE_SIZE_MAX = 100
ID_CHARACTERS_MAX = 255
UNKNOWN = "Page token is not one of this list"


T = TypeVar("T")


class PageQuery(Struct, kw_only=True):
    """Which part of a list. `page_token` is `nextPageToken` of the part before."""

    page_size: Annotated[int, Meta(ge=1, le=PAGE_SIZE_MAX)] = PAGE_SIZE_MAX
    page_token: Annotated[str, Meta(max_length=ID_CHARACTERS_MAX)] = ""


def cut(rows: list[T], size: int, token: Callable[[T], str]) -> tuple[list[T], str]:
    """The page made of rows that were read with one more than `size` as limit, and the token of the next one."""
    page = rows[:size]
    return page, token(page[-1]) if len(rows) > size else ""


def seal(scope: tuple[Any, ...], place: list[Any]) -> str:
    """The token for what comes behind `place` in the list that `scope` (order, time range) makes."""
    text = msgspec.json.encode([_digest(scope), *place])
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unseal(scope: tuple[Any, ...], token: str, kinds: Any) -> Any:
    """The place of a token, as the tuple type `kinds`; None for the first page. Raises DoesNotFit."""
    if not token:
        return None
    try:
        digest, *place = msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=list[Any])
        if digest == _digest(scope):
            return msgspec.convert(place, kinds)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        pass
    raise DoesNotFit(UNKNOWN)


def _digest(scope: tuple[Any, ...]) -> str:
    return hashlib.blake2b(msgspec.json.encode(scope), digest_size=6).hexdigest()
