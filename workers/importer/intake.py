"""Loads a vendor's whole list into the session's tables, and keeps what is to be said of it."""

from typing import Any

from schemas.postgres import Connection
from workers.importer import loading
from workers.importer.collection import Collection, key_of
from workers.importer.details import Details
from workers.importer.devices import Listed, Mapper, Skipped
from workers.importer.vendor import Vendor

SKIPS_KEPT = 20


class Intake:
    """What is to be said of a list that was read."""

    def __init__(self) -> None:
        self.pages = 0
        self.skipped = 0
        self.skips: list[Skipped] = []
        self.twice_on_a_page = 0
        self.without_id = 0
        self.doubts: list[str] = []
        """Why nothing that it lacks is gone."""

    def skip(self, found: Skipped) -> None:
        """An item is no device; the first few are shown."""
        self.skipped += 1
        self.skips += [found] if len(self.skips) < SKIPS_KEPT else []

    def repeat(self, vendor_id: str) -> None:
        """A device came before."""
        self.skip(Skipped(vendor_id, "comes twice in the list"))

    def add(self, other: "Intake") -> None:
        """Let another reading be the one that counts; doubts of either remain."""
        self.skipped, self.skips = other.skipped, other.skips
        self.doubts = list(dict.fromkeys(self.doubts + other.doubts))


async def load_list(connection: Connection, vendor: Vendor) -> Intake:
    """Load the whole list; what is to be said of it."""
    mapper = Mapper(vendor.manifest.device)
    details = Details(vendor, mapper)
    collection = Collection(vendor, vendor.manifest.list, lambda item: key_of(mapper, item))
    read = Intake()
    page, seen = 0, set[str]()
    async for part in collection.parts():
        if part.page != page:
            page, seen = part.page, set()
        listed: list[Listed] = []
        for item in part.items:
            whole = await details.added(item) if details.wanted else item
            found = whole if isinstance(whole, Skipped) else mapper.read(whole)
            if isinstance(found, Skipped):
                read.skip(found)
                await _note_skipped(connection, mapper, item, read)
            elif found.vendor_id in seen:
                read.repeat(found.vendor_id)
                read.twice_on_a_page += 1
            else:
                seen.add(found.vendor_id)
                listed.append(found)
        await loading.load(connection, listed)
        if part.unfiltered and vendor.manifest.list.counts:
            await loading.load_uncounted(connection, [key_of(mapper, item) for item in part.unfiltered])
    repeated = await loading.end_of_list(connection)
    for vendor_id in repeated:
        read.repeat(vendor_id)
    if collection.total is not None:
        collection.check(await loading.different(connection), read.twice_on_a_page)
    read.pages = collection.pages
    read.doubts += collection.doubts
    read.doubts += ["the vendor lists devices on several pages"] if repeated else []
    read.doubts += ["an item has no id that would say which device it is"] if read.without_id else []
    return read


async def _note_skipped(connection: Connection, mapper: Mapper, item: Any, read: Intake) -> None:
    vendor_id = mapper.vendor_id(item)
    if vendor_id is None:
        read.without_id += 1
    else:
        await loading.load_skipped(connection, [vendor_id])
    await loading.load_uncounted(connection, [key_of(mapper, item)])
