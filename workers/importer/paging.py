"""Where a vendor's next page is, by the kinds of paging that manifests know."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas.manifests.manifest import CursorPaging, LinkPaging, NoPaging, OffsetPaging, PagePaging, Paging
from workers.importer.expressions import getter
from workers.importer.vendor import Headers, VendorError, joined

_QUOTED = r'"(?:[^"\\]|\\.)*"?'
_UP_TO_COMMA = re.compile(rf'(?:{_QUOTED}|[^",])*')
_PARAMETER = re.compile(rf'(?:{_QUOTED}|[^";])+')


class Position(NamedTuple):
    """One page: its URL, and the parameters that lead there."""

    url: str
    moving: dict[str, Any]


def first(paging: Paging, url: str) -> Position:
    """The first page."""
    match paging:
        case PagePaging():
            return Position(url, {paging.parameter: paging.first})
        case OffsetPaging():
            return Position(url, {paging.parameter: 0})
        case _:
            return Position(url, {})


def size(paging: Paging) -> dict[str, Any]:
    """The parameter that says how large pages are to be."""
    if isinstance(paging, NoPaging) or not paging.size_parameter:
        return {}
    return {paging.size_parameter: paging.size}


def following(
    paging: Paging, here: Position, answer: Any, headers: Headers, *, rows: int, counted: int, total: int | None
) -> Position | None:
    """The page behind `here`, None after the last. `rows` the vendor has on it, `counted` on all so far.

    Raises VendorError for a next page that no request can name.
    """
    match paging:
        case PagePaging() | OffsetPaging():
            if not rows or (total is not None and counted >= total):
                return None
            return stepped(paging, here, rows)
        case CursorPaging():
            cursor = headers.get(paging.header) if paging.header else getter(paging.cursor or "next")(answer)
            if cursor is None or cursor is False or cursor in ("", 0):
                return None
            if isinstance(cursor, bool) or not isinstance(cursor, str | int | float):
                raise VendorError(
                    f"The vendor's answer has neither text nor a number at `{paging.cursor or paging.header}`"
                )
            if paging.parameter:
                return Position(here.url, {paging.parameter: cursor})
            there = joined(here.url, str(cursor))
            if paging.keep_path:
                there = here.url.partition("?")[0] + "?" + there.partition("?")[2]
            return Position(there, {})
        case LinkPaging():
            found = next_link(headers.getall("Link", ()))
            return None if found is None else Position(joined(here.url, found), {})
        case _:
            return None


def stepped(paging: PagePaging | OffsetPaging, here: Position, rows: int) -> Position:
    """The next position of paging by numbers, behind a page of so many rows."""
    step = 1 if isinstance(paging, PagePaging) else rows
    return Position(here.url, {paging.parameter: here.moving[paging.parameter] + step})


def next_link(lines: Sequence[str]) -> str | None:
    """The target of relation `next` (RFC 8288), on whichever of the header's lines it stands."""
    for line in lines:
        at = 0
        while (at := line.find("<", at)) >= 0 and (end := line.find(">", at)) >= 0:
            target, found = line[at + 1 : end], _UP_TO_COMMA.match(line, end + 1)
            assert found is not None  # it matches nothing too
            if _relation(found[0]) == "next":
                return target.strip()
            at = found.end()
    return None


def _relation(parameters: str) -> str | None:
    """`next` where that is among the relations of a link; by RFC 8288 a second `rel` of the same link is ignored."""
    for parameter in _PARAMETER.findall(parameters):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "rel":
            return "next" if "next" in value.strip().strip('"').lower().split() else None
    return None
