"""Page tokens of lists that are not ordered by id alone: where the next page begins, and of which list it is a part.

Opaque to clients, and no secret: it holds the place of the last item, so a list may change while it is read.
"""

import base64
import binascii
import hashlib
from typing import Any

import msgspec

from gateway.refusals import DoesNotFit

TOKEN_CHARACTERS_MAX = 8_192
UNKNOWN = "Page token is not one of this list"


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
