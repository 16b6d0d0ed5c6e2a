"""Reads a vendor's list page by page, and knows whether it was complete.

A list counts only when it is whole: the last page was reached by the vendor's own signs (no next cursor, an empty
page, its total), no page came twice, and where the vendor tells a total, as many devices came. Anything else is a
VendorError, and the run changes nothing.
"""

import re
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError

from schemas.manifests import CursorPaging, LinkPaging, Listing, NoPaging, OffsetPaging, PagePaging, filled
from workers.importer.vendor import Vendor, VendorError, joined

PAGES_MAX = 100_000
ITEMS_MAX = 10_000_000
ITEMS_AT_ONCE = 1000
"""Larger pages are handed on in parts, so that reading them never holds up the process."""
_DIGITS = re.compile("[0-9]{1,18}")
_PLAIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

Getter = Callable[[Any], Any]


def getter(expression: str) -> Getter:
    """What a JMESPath expression finds. Plain ones (`a.b.c`), nearly all there are, are looked up directly."""
    if not _PLAIN.fullmatch(expression):
        compiled = jmespath.compile(expression)

        def search(value: Any) -> Any:
            try:
                return compiled.search(value)
            except JMESPathError:
                return None

        return search
    first, *rest = expression.split(".")
    if not rest:
        return lambda value: value.get(first) if type(value) is dict else None

    def walk(value: Any) -> Any:
        for key in (first, *rest):
            if type(value) is not dict:
                return None
            value = value.get(key)
        return value

    return walk


async def pages(vendor: Vendor, listing: Listing, values: Mapping[str, str] = {}) -> AsyncIterator[list[Any]]:
    """The items, some at a time. Raises VendorError, also at the very end when the list proves incomplete."""
    items_of, total_of = getter(listing.items), getter(listing.total or "total")
    known = {**vendor.values, **values}
    paging = listing.paging
    url = vendor.url(listing.path, values)
    fixed = {name: filled(text, known) for name, text in listing.query.items()}
    if not isinstance(paging, NoPaging) and paging.size_parameter:
        fixed[paging.size_parameter] = str(paging.size)
    moving: dict[str, str] = {}
    if isinstance(paging, PagePaging):
        moving = {paging.parameter: str(paging.first)}
    elif isinstance(paging, OffsetPaging):
        moving = {paging.parameter: "0"}
    headers = {name: filled(text, known) for name, text in listing.headers.items()}
    seen: set[int] = set()
    count = 0
    total: int | None = None
    for number in range(1, PAGES_MAX + 1):
        sent = fixed | moving
        if listing.method == "POST":
            body = _filled_body(listing.body or {}, known)
            for name, value in sent.items():
                _put(body, name, value)
            answer, told = await vendor.ask("POST", url, headers=headers, body=body)
        else:
            answer, told = await vendor.ask("GET", url, query=sent, headers=headers)
        items = items_of(answer)
        if not isinstance(items, list):
            raise VendorError(f"Page {number} of the vendor's answer has no list at `{listing.items}`")
        if listing.total is not None:
            total = _number(total_of(answer), listing.total)
        if items:
            print_ = zlib.crc32(msgspec.json.encode(items)) << 32 | len(items)
            if print_ in seen:
                raise VendorError(f"The vendor repeats a page of its list (page {number})")
            seen.add(print_)
            count += len(items)
            if count > ITEMS_MAX:
                raise VendorError(f"The vendor's list has no end after {ITEMS_MAX} devices")
            for start in range(0, len(items), ITEMS_AT_ONCE):
                yield items[start : start + ITEMS_AT_ONCE]
        following = _following(paging, answer, told, items, url, moving, total, count)
        if following is None:
            break
        url, moving = following
        if not isinstance(paging, PagePaging | OffsetPaging):
            here = zlib.crc32(f"{url} {moving}".encode()) << 32 | 0xFFFFFFFF
            if here in seen:
                raise VendorError(f"The vendor's list leads in a circle (page {number})")
            seen.add(here)
            fixed = fixed if moving else {}
    else:
        raise VendorError(f"The vendor's list has no end after {PAGES_MAX} pages")
    if total is not None and count != total:
        raise VendorError(f"The list is not complete: the vendor counts {total} devices and listed {count}")


def _following(
    paging: Any,
    answer: Any,
    told: Mapping[str, str],
    items: list[Any],
    url: str,
    moving: dict[str, str],
    total: int | None,
    count: int,
) -> tuple[str, dict[str, str]] | None:
    """Where the next page is: its URL and the parameters that move on; None after the last."""
    match paging:
        case PagePaging() | OffsetPaging():
            if not items or (total is not None and count >= total):
                return None
            step = 1 if isinstance(paging, PagePaging) else len(items)
            return url, {paging.parameter: str(int(moving[paging.parameter]) + step)}
        case CursorPaging():
            cursor = getter(paging.cursor)(answer)
            if cursor is None or cursor == "":
                return None
            if paging.parameter:
                return url, {paging.parameter: str(cursor)}
            return joined(url, str(cursor)), {}
        case LinkPaging():
            found = _next_link(told.get("Link", ""))
            return None if found is None else (joined(url, found), {})
        case _:
            return None


def _next_link(header: str) -> str | None:
    """The target of relation `next` (RFC 8288)."""
    for link in re.split(r",\s*(?=<)", header):
        target, _, parameters = link.strip().removeprefix("<").partition(">")
        for parameter in parameters.split(";"):
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "rel" and "next" in value.strip().strip('"').lower().split():
                return target
    return None


def _number(value: Any, expression: str) -> int:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise VendorError(f"The vendor's answer has no number at `{expression}`")


def _filled_body(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled_body(inner, known) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled_body(inner, known) for inner in value]
    return filled(value, known) if isinstance(value, str) else value


def _put(body: dict[str, Any], name: str, value: str) -> None:
    """Set a member of a body; `a.b` is one inside another."""
    *outer, last = name.split(".")
    for key in outer:
        body = body.setdefault(key, {})
    body[last] = int(value) if _DIGITS.fullmatch(value) else value
