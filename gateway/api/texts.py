"""Texts of a caller in body, query and path: what holds U+0000 is refused with the name of its member."""

import re
from typing import TypeGuard

from starlette.requests import Request

from gateway.refusals import DoesNotFit
from schemas import nul

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def is_text(value: object) -> TypeGuard[str]:
    """Whether this is a text that can be looked for in the database: without U+0000, and without half a surrogate pair,
    which JSON can say and UTF-8 cannot.
    """
    return isinstance(value, str) and nul.NUL not in value and _HALF_A_PAIR.search(value) is None


def check_body(data: bytes) -> None:
    """Raises DoesNotFit when valid JSON says U+0000."""
    if nul.says_nul(data):
        raise DoesNotFit(nul.sentence(data))


def check_query(request: Request) -> None:
    """Raises DoesNotFit when the query string holds U+0000."""
    if b"%00" in request.scope["query_string"]:
        for name, value in request.query_params.multi_items():
            if nul.NUL in name or nul.NUL in value:
                raise DoesNotFit(nul.sentence_of(name.replace(nul.NUL, "")))
