"""Reads a vendor's list page by page, and knows whether it was complete.

A list counts only when it is whole: the last page was reached by the vendor's own signs (no next cursor, a page
without rows, its total), no page came twice, and where the vendor tells a total, it stayed the same and as many
different devices came. Anything else is a VendorError, and the run changes nothing. An end that could also be a
failure (a refusal behind a full page) leaves a `doubt`: what such a list lacks is not gone.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from schemas.manifests.manifest import CursorPaging, Listing, NoPaging, OffsetPaging, PagePaging
from schemas.manifests.texts import filled, filled_json
from workers.importer import paging
from workers.importer.expressions import ExpressionError, Items, getter
from workers.importer.paging import Position
from workers.importer.vendor import Answer, Vendor, VendorError

PAGES_MAX = 100_000
ITEMS_MAX = 10_000_000
ITEMS_AT_ONCE = 1000
"""Larger pages are handed on in parts, so that reading them never holds up the process."""
NO_SUCH_PAGE = (400, 404, 410, 416, 422)
"""How vendors answer a page number beyond the last."""
_NOTHING = Answer(None, CIMultiDictProxy(CIMultiDict()))
_TOTAL = re.compile(r"(?:[a-z]* ?[0-9*-]{1,40}/)?([0-9]{1,18})")
"""A number as text, or `devices 0-99/1234` as `Content-Range` has it."""


class Part(NamedTuple):
    """Some items of one page. `unfiltered` are those that the vendor's total counts, None where they are the same."""

    page: int
    items: list[Any]
    unfiltered: list[Any] | None


class Reading:
    """One reading of a list. What it says of the whole is known once all parts were taken."""

    def __init__(self, vendor: Vendor, listing: Listing, values: Mapping[str, str] = {}, parent: Any = None) -> None:
        self._vendor = vendor
        self._parent = parent
        self._listing = listing
        self._values = values
        self._items = Items(listing.items, listing.key)
        self._inside = getter(listing.inside) if listing.inside else None
        self._total_of = getter(listing.total or "total")
        self._seen: set[bytes] = set()
        self._totals: set[int] = set()
        self._rows_max = 0
        self._rows_last = 0
        self._counted = 0
        self._left_out = 0
        """Rows that became no item, although no filter says so: the vendor may count them."""
        self.pages = 0
        self.doubt = ""
        """Why the end of the list may not have been the end."""

    def __repr__(self) -> str:
        return f"<Reading pages={self.pages} rows={self._counted}>"

    @property
    def total(self) -> int | None:
        """How many devices the vendor says there are."""
        return next(iter(self._totals), None)

    def check(self, different: int, twice_on_a_page: int = 0) -> None:
        """Raises VendorError unless so many different devices are what the vendor counts."""
        if len(self._totals) > 1:
            low, high = min(self._totals), max(self._totals)
            raise VendorError(f"The list moved while it was read: the vendor counted {low} devices and {high}")
        if self.total is None or different in (self.total, self.total - self._left_out):
            return
        if different + twice_on_a_page == self.total:
            self.doubt = self.doubt or "the list names devices twice"
            return
        raise VendorError(f"The list is not complete: the vendor counts {self.total} devices and listed {different}")

    async def parts(self) -> AsyncIterator[Part]:
        """The items, some at a time. Raises VendorError."""
        kind = self._listing.paging
        await self._vendor.prepare()
        here: Position | None = paging.first(kind, self._vendor.url(self._listing.path, self._values))
        while here is not None:
            if self.pages == PAGES_MAX:
                raise VendorError(f"The vendor's list has no end after {PAGES_MAX} pages")
            answer = await self._page(here)
            if answer is None:
                self._need_total()
                return
            self.pages += 1
            items, rows, unfiltered = self._read(answer)
            for start in range(0, len(items), ITEMS_AT_ONCE):
                yield Part(self.pages, items[start : start + ITEMS_AT_ONCE], None if unfiltered is None else [])
            if unfiltered:
                yield Part(self.pages, [], unfiltered)
            behind = paging.following(
                kind, here, answer.body, answer.headers, rows=rows, counted=self._counted, total=self.total
            )
            if behind is None:
                self._look_back(answer)
            if behind is not None and not isinstance(kind, PagePaging | OffsetPaging):
                self._note(f"{behind.url} {behind.moving}".encode(), "The vendor's list leads in a circle")
            here = behind

    def _read(self, answer: Answer) -> tuple[list[Any], int, list[Any] | None]:
        """The items of a page, how many rows the vendor has on it, and its unfiltered items."""
        items = self._found(answer)
        if items is None:
            raise self._without_list()
        if self._listing.total_header:
            self._note_total(answer.headers.get(self._listing.total_header))
        elif self._listing.total is not None and answer.body is not None:
            self._note_total(self._total_of(answer.body))
        rows = self._items.rows(answer.body)
        unfiltered = None if self._inside else self._items.unfiltered(answer.body)
        if self._parent is not None:
            items = _below(self._parent, items)
            unfiltered = None if unfiltered is None else _below(self._parent, unfiltered)
        if self._inside is not None:
            items = [inner for item in items for inner in _below(item, self._inside(item) or [])]
        counted = items if unfiltered is None else unfiltered
        if rows or items:
            self._note(printed(rows or items), "The vendor repeats a page of its list")
        self._left_out += max(0, len(rows) - len(counted))
        self._rows_last = max(len(rows), len(counted))
        self._rows_max = max(self._rows_max, self._rows_last)
        self._counted += self._rows_last
        if self._counted > ITEMS_MAX:
            raise VendorError(f"The vendor's list has no end after {ITEMS_MAX} devices")
        return items, len(rows) or len(items), unfiltered

    def _note(self, text: bytes, sentence: str) -> None:
        """Remember a page or a place. Raises VendorError when it was there before."""
        digest = hashlib.blake2b(text, digest_size=16).digest()
        if digest in self._seen:
            raise VendorError(f"{sentence} (page {self.pages})")
        self._seen.add(digest)

    def _note_total(self, total: Any) -> None:
        """Some tell it on the first page only, or on the last."""
        number = _number(total)
        if number is not None:
            self._totals.add(number)
        elif total is not None:
            self._need_total(counted=False)

    def _need_total(self, *, counted: bool = True) -> None:
        """Raises VendorError unless a total was told where the manifest says that there is one."""
        if self._listing.counts and not (counted and self._totals):
            place = self._listing.total or self._listing.total_header
            raise VendorError(f"The vendor's answer has no number at `{place}`")

    def _look_back(self, answer: Answer) -> None:
        """What the last page says of the whole. Raises VendorError."""
        if answer.body is not None:
            self._need_total()
        kind = self._listing.paging
        if isinstance(kind, NoPaging) and answer.status == 206:
            raise VendorError("The vendor answered 206, a part of its list, and the manifest has no paging")
        if isinstance(kind, NoPaging | CursorPaging) and paging.next_link(answer.headers.getall("Link", ())):
            self.doubt = self.doubt or "the vendor names a next page that the manifest does not ask for"

    def _found(self, answer: Answer) -> list[Any] | None:
        """The items of a page, None where it has no list."""
        try:
            return self._items.find(answer.body)
        except ExpressionError as error:
            raise VendorError(f"`{self._items.expression}` does not fit the vendor's answer: {error}") from None

    def _without_list(self) -> VendorError:
        sentence = f"Page {self.pages} of the vendor's answer has no list at `{self._items.expression}`"
        return VendorError(sentence, status=200)

    async def _page(self, here: Position) -> Answer | None:
        """The answer for a page; None where a refusal means that the list ended with the page before."""
        kind = self._listing.paging
        if not isinstance(kind, PagePaging | OffsetPaging) or not self.pages:
            answer = await self._ask(here)
            if answer.body is None and self.pages:
                self.doubt = "the next page that the vendor named has no content"
            return answer
        found = await self._ask_beyond(here)
        if isinstance(found, Answer):
            return found
        if self.pages > 1 and self._rows_last < self._rows_max and found.status in NO_SUCH_PAGE:
            return None  # it was short
        # A vendor that has no such page has the one behind it neither.
        further = await self._ask_beyond(paging.stepped(kind, here, self._rows_max))
        if isinstance(further, Answer) or further.status != found.status:
            raise found
        if self.pages > 1 or (kind.size_parameter and self._rows_last >= kind.size):
            self.doubt = "it ended with a refusal behind a full page"
        return None

    async def _ask_beyond(self, here: Position) -> Answer | VendorError:
        """The answer for a page that may be beyond the last, or how the vendor says that there is none."""
        try:
            answer = await self._ask(here)
        except VendorError as error:
            if error.empty:
                return _NOTHING
            if error.status not in NO_SUCH_PAGE:
                raise
            return error
        if answer.body == {}:
            return _NOTHING
        return self._without_list() if self._found(answer) is None else answer

    async def _ask(self, here: Position) -> Answer:
        listing, known = self._listing, {**self._vendor.values, **self._values}
        headers = {name: filled(text, known) for name, text in listing.headers.items()}
        asked: dict[str, Any] = {}
        if here.moving or self.pages == 0 or isinstance(listing.paging, NoPaging):
            asked = {name: filled(text, known) for name, text in listing.query.items()}
            asked |= paging.size(listing.paging) | here.moving
        url, in_path = here.url, listing.path_parameter
        if in_path:
            url = self._vendor.url(listing.path, {**self._values, in_path: str(asked.pop(in_path, ""))})
        if listing.method == "POST":
            body = filled_json(listing.body or {}, known)
            for name, value in asked.items():
                _put(body, name, value)
            return await self._vendor.ask("POST", url, headers=headers, body=body)
        query = {name: str(value) for name, value in asked.items()}
        return await self._vendor.ask("GET", url, query=query, headers=headers)


def _below(parent: Any, items: Any) -> list[Any]:
    """Items, each with what it lies in."""
    return [item | {"$parent": parent} if isinstance(item, dict) else item for item in items if isinstance(items, list)]


def printed(value: Any) -> bytes:
    """A vendor's JSON as text again: the same for the same."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # half a character in some name
        return json.dumps(value).encode()


def _number(value: Any) -> int | None:
    if isinstance(value, str) and (found := _TOTAL.fullmatch(value)):
        return int(found[1])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _put(body: dict[str, Any], name: str, value: Any) -> None:
    """Set a member of a body; `a.b` is one inside another."""
    *outer, last = name.split(".")
    for key in outer:
        body = body.setdefault(key, {})
    body[last] = value
