"""The generations of the master key, as an operator begins and ends them.

What is of a generation: access keys of devices, by their version, and keys of service accounts. Devices that emulate or
are imported have keys that nobody ever had; they count for nothing.
"""

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct

from gateway.refusals import Conflict, DoesNotFit, NotFound
from schemas.ids import GENERATIONS_MAX, VERSIONS_OF_GENERATION, fingerprint
from schemas.master_keys import Generation, has_room
from schemas.postgres import Connection

NONE_NEW = "Give the next master key in FLEETGATE_MASTER_KEYS_MORE first, here and to all edges and workers"
NO_ROOM = f"{GENERATIONS_MAX} generations are in use: retire the oldest first"
UNKNOWN = "There is no such generation in use"
NEWEST = "This is the generation of new keys: rotate the master key first"
IN_USE = (
    "{devices} devices and {accounts} keys of service accounts are of this generation: "
    "rotate them, or end them all with --end-them"
)


class GenerationInUse(Struct):
    """A generation with what is of it."""

    generation: int
    fingerprint: str
    created_at: datetime
    retired_at: datetime | None
    devices: int
    account_keys: int


_GENERATIONS = """
    SELECT g.generation, encode(g.fingerprint, 'hex') AS fingerprint, g.created_at, g.retired_at,
           CASE WHEN g.retired_at IS NULL THEN coalesce(of_devices.count, 0) ELSE 0 END AS devices,
           CASE WHEN g.retired_at IS NULL THEN coalesce(of_accounts.count, 0) ELSE 0 END AS account_keys
      FROM master_keys g
      LEFT JOIN (SELECT d.key_version / $1 AS slot, count(*) FROM devices d JOIN device_models m ON m.id = d.model_id
                  WHERE d.deleted_at IS NULL AND NOT m.emulated
                    AND NOT EXISTS (SELECT FROM cloud_devices c WHERE c.device_id = d.id)
                  GROUP BY 1) of_devices ON of_devices.slot = g.generation % $2
      LEFT JOIN (SELECT generation, count(*) FROM service_account_keys GROUP BY 1) of_accounts
             ON of_accounts.generation = g.generation
     ORDER BY g.generation
"""


async def listed(connection: Connection) -> list[GenerationInUse]:
    """All generations, oldest first."""
    rows = await connection.fetch(_GENERATIONS, VERSIONS_OF_GENERATION, GENERATIONS_MAX, timeout=600)
    return [GenerationInUse(**row) for row in rows]


async def begin(connection: Connection, given: Collection[str]) -> GenerationInUse:
    """Begin the next generation with the one given key that the database does not know, in a transaction.

    Raises DoesNotFit when none is new, Conflict when too many generations are in use.
    """
    await connection.execute("LOCK TABLE master_keys IN EXCLUSIVE MODE")
    rows = await connection.fetch("SELECT generation, fingerprint, retired_at IS NOT NULL AS retired FROM master_keys")
    known = [Generation(*row) for row in rows]
    new = {fingerprint(key) for key in given} - {generation.fingerprint for generation in known}
    if len(new) != 1:
        raise DoesNotFit(NONE_NEW)
    if not has_room(known):
        raise Conflict(NO_ROOM)
    await connection.execute(
        "INSERT INTO master_keys (generation, fingerprint) SELECT max(generation) + 1, $1 FROM master_keys", new.pop()
    )
    return (await listed(connection))[-1]


async def retire(connection: Connection, generation: int, *, end_them: bool) -> GenerationInUse:
    """End a generation, in a transaction: processes that start from now on know none of its keys.

    Raises NotFound, Conflict for the newest one, and while something is of it unless `end_them`.
    """
    await connection.execute("LOCK TABLE master_keys IN EXCLUSIVE MODE")
    living = [one for one in await listed(connection) if one.retired_at is None]
    found = next((one for one in living if one.generation == generation), None)
    if found is None:
        raise NotFound(UNKNOWN)
    if found is living[-1]:
        raise Conflict(NEWEST)
    if (found.devices or found.account_keys) and not end_them:
        raise Conflict(IN_USE.format(devices=found.devices, accounts=found.account_keys))
    await connection.execute("DELETE FROM service_account_keys WHERE generation = $1", generation)
    await connection.execute("UPDATE master_keys SET retired_at = now() WHERE generation = $1", generation)
    return found
