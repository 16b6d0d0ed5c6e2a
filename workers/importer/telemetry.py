"""Telemetry from a vendor's cloud, put into the ingest log as if each device had sent it itself.

Its trouble is its own: that a device's values cannot be had says nothing of the list of devices.
"""

import time
from datetime import datetime
from typing import Any

from msgspec import Struct

from schemas import entries, keys
from schemas.manifests.manifest import Listing
from schemas.postgres import Executor
from schemas.redis import Redis, RedisAway
from workers.importer import imported, lists
from workers.importer.collection import Collection, whole
from workers.importer.connector import Connector
from workers.importer.readings import Reader
from workers.importer.vendor import Vendor, VendorError

ONE_BY_ONE = "{id}"
DEVICES_AT_ONCE = 500


class Failed(Struct):
    """Devices whose values could not be had, and why the first of them."""

    of: int = 0
    count: int = 0
    first: str = ""

    def sentence(self) -> str | None:
        """For whoever looks after the connector."""
        return f"{self.count} of {self.of} devices tell no telemetry. {self.first}" if self.count else None


def asks_each(listing: Listing) -> bool:
    """Whether it takes a request for each device."""
    return any(ONE_BY_ONE in text for text in (listing.path, *listing.query.values()))


async def collect(
    vendor: Vendor, connector: Connector, executor: Executor, redis: Redis, now: datetime
) -> tuple[int, Failed]:
    """Ask for all values of all active devices and store those that are new; returns how many messages that made.

    Raises VendorError when no device's can be had.
    """
    telemetry = vendor.manifest.telemetry
    assert telemetry is not None
    listing = telemetry.list or vendor.manifest.list
    reader = Reader(vendor.manifest, telemetry)
    count, failed = 0, Failed()
    if not asks_each(listing):
        async for part in Collection(vendor, listing, whole).parts():
            vendor_items = {vendor_id: item for item in part.items if (vendor_id := reader.vendor_id(item)) is not None}
            count += await _store(executor, redis, connector, reader, vendor_items, now)
        return count, failed
    after = ""
    while ids := await imported.vendor_ids(executor, connector.id, after, DEVICES_AT_ONCE):
        after = ids[-1]
        vendor_items = {}
        for vendor_id in ids:
            failed.of += 1
            try:
                async for part in lists.Reading(vendor, listing, {"id": vendor_id}).parts():
                    vendor_items[vendor_id] = part.items[0] if part.items else None
            except VendorError as error:
                if error.status == 401 or error.retry_after_s is not None:
                    raise
                failed.count += 1
                failed.first = failed.first or str(error)
        count += await _store(executor, redis, connector, reader, vendor_items, now)
    if failed.count and failed.count == failed.of:
        raise VendorError(failed.sentence() or "")
    return count, failed


async def _store(
    executor: Executor,
    redis: Redis,
    connector: Connector,
    reader: Reader,
    vendor_items: dict[str, Any],
    now: datetime,
) -> int:
    """One entry a shard, like those of an edge. Raises VendorError where the log takes none."""
    known = await imported.devices_of(executor, connector, list(vendor_items))
    items: dict[int, list[bytes]] = {}
    stored: dict[str, bytes] = {}
    for vendor_id, device in known.items():
        reading = reader.read(vendor_items[vendor_id], device["reading"], device["reading_at"], now)
        if reading is None:
            continue
        stored[vendor_id] = reading.digest
        for body in reading.messages:
            items.setdefault(device["shard"], []).extend(
                (str(device["id"]).encode(), b"%02x" % device["key_version"], body)
            )
    for shard, messages in items.items():
        packed = entries.pack(time.time_ns() // 1000, messages)
        try:
            added = await redis.xadd(keys.ingest(shard), {entries.FIELD: packed}, nomkstream=True)
        except RedisAway as error:
            raise VendorError(f"The message log took no telemetry: {error}") from None
        if added is None:
            raise VendorError("The message log is not ready for telemetry")
    await imported.keep_readings(executor, connector.id, stored, now)
    return sum(len(messages) // 3 for messages in items.values())
