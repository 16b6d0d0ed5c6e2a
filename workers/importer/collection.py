"""All that a manifest's list names: one list, or one for each item of another (the devices of each site).

A list of several counts only when each is complete: one that cannot be read fails the whole, and each total is compared
with what came of its own list.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeAlias

from schemas.manifests.manifest import Listing, Loop
from workers.importer.devices import Mapper, text_of
from workers.importer.expressions import getter
from workers.importer.lists import PAGES_MAX, Part, Reading, printed
from workers.importer.vendor import Vendor, VendorError

Key: TypeAlias = Callable[[Any], str]
"""What tells an item from others."""


class Collection:
    """One reading of all. What it says of the whole is known once all parts were taken."""

    def __init__(self, vendor: Vendor, listing: Listing, key: Key) -> None:
        self._vendor = vendor
        self._listing = listing
        self._key = key
        self._one = Reading(vendor, listing) if listing.for_each is None else None
        self.pages = 0
        self.doubts: list[str] = []
        """Why what it lacks may be there all the same."""

    def __repr__(self) -> str:
        return f"<Collection pages={self.pages}>"

    @property
    def total(self) -> int | None:
        """How many devices the vendor says there are; None where it does not, and for lists that were checked each."""
        return None if self._one is None else self._one.total

    def check(self, different: int, twice_on_a_page: int) -> None:
        """Raises VendorError unless so many different devices are what the vendor counts."""
        if self._one is not None and self.total is not None:
            self._one.check(different, twice_on_a_page)
            self._doubt(self._one)

    async def parts(self) -> AsyncIterator[Part]:
        """The items, some at a time; no two pages have one number. Raises VendorError."""
        if self._one is None:
            async for part in self._of(self._listing, self._key):
                yield part
            return
        async for part in self._one.parts():
            yield part
        self.pages = self._one.pages
        self._doubt(self._one)

    async def _of(self, listing: Listing, key: Key) -> AsyncIterator[Part]:
        loop = listing.for_each
        if loop is None:
            async for part in self._checked(Reading(self._vendor, listing), key):
                yield part
            return
        async for outer in self._of(loop, whole):
            for item in outer.items:
                reading = Reading(self._vendor, listing, _values(loop, item), item)
                try:
                    async for part in self._checked(reading, key):
                        yield part
                except VendorError as error:
                    # The credentials were good for the list that this one comes from.
                    raise VendorError(
                        str(error),
                        status=error.status,
                        words=error.words,
                        retry_after_s=error.retry_after_s,
                        unauthorized=error.unauthorized and error.status != 403,
                    ) from None

    async def _checked(self, reading: Reading, key: Key) -> AsyncIterator[Part]:
        """One list among several, which is compared with its own total."""
        before, page = self.pages, 0
        different, on_page, twice = set[bytes](), set[bytes](), 0
        async for part in reading.parts():
            if part.page != page:
                page, on_page = part.page, set()
            for item in part.items:
                digest = _digest(key(item))
                twice += digest in on_page
                on_page.add(digest)
            different |= on_page
            different.update(_digest(key(item)) for item in part.unfiltered or ())
            self.pages = before + part.page
            yield Part(self.pages, part.items, part.unfiltered)
        self.pages = before + reading.pages
        if self.pages > PAGES_MAX:
            raise VendorError(f"The vendor's lists have no end after {PAGES_MAX} pages")
        if reading.total is not None:
            reading.check(len(different), twice)
        self._doubt(reading)

    def _doubt(self, reading: Reading) -> None:
        if reading.doubt and reading.doubt not in self.doubts:
            self.doubts.append(reading.doubt)


def _values(loop: Loop, item: Any) -> Mapping[str, str]:
    """What a list is asked for. Raises VendorError for an item that does not say."""
    found = {name: text_of(getter(expression)(item)) for name, expression in loop.values.items()}
    for name, value in found.items():
        if value is None:
            raise VendorError(f"An item of {loop.path} has no {name} at `{loop.values[name]}`: its list cannot be read")
    return {name: value for name, value in found.items() if value is not None}


def whole(item: Any) -> str:
    """What tells items apart that have no id: all that they say."""
    return hashlib.blake2b(printed(item), digest_size=16).hexdigest()


def key_of(mapper: Mapper, item: Any) -> str:
    """What tells a device from others: its id, or all that it says."""
    found = mapper.vendor_id(item)
    return found if found is not None else "\n" + whole(item)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
