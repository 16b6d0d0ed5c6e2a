"""Telemetry from a vendor's cloud, put into the ingest log as if each device had sent it itself."""

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas import entries, keys, manifests
from schemas.manifests import Manifest
from schemas.postgres import Executor
from schemas.redis import Redis, RedisAway
from schemas.telemetry import STRING_BYTES_MAX, TelemetryError, decode
from workers.importer import store
from workers.importer.devices import Mapper
from workers.importer.expressions import getter
from workers.importer.lists import Reading
from workers.importer.vendor import Vendor, VendorError

ONE_BY_ONE = "{id}"
DEVICES_AT_ONCE = 500
_encoder = msgspec.json.Encoder()


class Reader:
    """Reads messages out of items."""

    def __init__(self, manifest: Manifest, telemetry: manifests.Telemetry) -> None:
        self._id = getter(telemetry.id) if telemetry.id else Mapper(manifest.device).vendor_id
        self._values = {name: getter(expression) for name, expression in telemetry.values.items()}
        self._online = getter(telemetry.online) if telemetry.online else None
        self._words = {word.lower() for word in telemetry.online_words}

    def vendor_id(self, item: Any) -> str | None:
        """Whose values these are."""
        found = self._id(item)
        return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None

    def message(self, item: Any) -> bytes | None:
        """The message, None when the item tells nothing that a device could say."""
        values = {name: value for name, get in self._values.items() if (value := _value(get(item))) is not None}
        told: dict[str, Any] = {"telemetries": values} if values else {}
        online = None if self._online is None else self._online(item)
        if isinstance(online, bool):
            told["status"] = "online" if online else "offline"
        elif isinstance(online, str):
            told["status"] = "online" if online.lower() in self._words else "offline"
        if not told:
            return None
        body = _encoder.encode(told)
        try:
            decode(body, datetime.now(UTC))
        except TelemetryError:
            return None
        return body


def _value(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return value if isinstance(value, str) and len(value.encode()) <= STRING_BYTES_MAX else None


async def collect(vendor: Vendor, connector: store.Connector, executor: Executor, redis: Redis) -> int:
    """Ask for all values of all active devices and store them; returns how many messages that made."""
    telemetry = vendor.manifest.telemetry
    assert telemetry is not None
    listing = telemetry.list or vendor.manifest.list
    reader = Reader(vendor.manifest, telemetry)
    count = 0
    if ONE_BY_ONE not in listing.path:
        async for part in Reading(vendor, listing).parts():
            told = {vendor_id: item for item in part.items if (vendor_id := reader.vendor_id(item)) is not None}
            count += await _store(executor, redis, connector, reader, told)
        return count
    after = ""
    while ids := await store.vendor_ids(executor, connector.id, after, DEVICES_AT_ONCE):
        after = ids[-1]
        told = {}
        for vendor_id in ids:
            try:
                async for part in Reading(vendor, listing, {"id": vendor_id}).parts():
                    told[vendor_id] = part.items[0] if part.items else None
            except VendorError as error:
                if error.unauthorized or error.retry_after_s is not None:
                    raise
        count += await _store(executor, redis, connector, reader, told)
    return count


async def _store(
    executor: Executor, redis: Redis, connector: store.Connector, reader: Reader, told: dict[str, Any]
) -> int:
    """One entry a shard, like those of an edge. Raises VendorError where the log takes none."""
    known = await store.devices_of(executor, connector.id, list(told))
    items: dict[int, list[bytes]] = {}
    for vendor_id, device in known.items():
        if (body := reader.message(told[vendor_id])) is not None:
            items.setdefault(device["shard"], []).extend(
                (str(device["id"]).encode(), b"%02x" % device["key_version"], body)
            )
    for shard, messages in items.items():
        packed = entries.pack(time.time_ns() // 1000, messages)
        try:
            stored = await redis.xadd(keys.ingest(shard), {entries.FIELD: packed}, nomkstream=True)
        except RedisAway as error:
            raise VendorError(f"The message log took no telemetry: {error}") from None
        if stored is None:
            raise VendorError("The message log is not ready for telemetry")
    return sum(len(messages) // 3 for messages in items.values())
