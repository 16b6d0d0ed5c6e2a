"""Devices as the /v2 API shows them: by project, with type, labels and what they reported last.

A list is read by key: its order is a value of each device, those without one last, and the id. So a page follows the
page before it whatever comes and goes in between.

In the order of ids a page looks at `EXAMINED_MAX` devices at most, however few of them fit the filters, and the next
page goes on behind those. Any other order takes a look at all that fit.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway.stores.devices import labels as device_labels
from schemas import ids, shard_slices, typed_events
from schemas.placement import read_reachable
from schemas.postgres import Connection, Executor

_COLUMNS = "d.id, d.project_id, d.name, d.description, d.labels, m.device_type, m.product_number"
_SOURCE = "devices d JOIN device_models m ON m.id = d.model_id"
_TEXT = """concat_ws(' ', d.id::text, d.sn, d.mac, d.cloud_id, m.device_type, m.product_number, d.name, d.description,
                     d.labels::text)"""
_NAMED = {"name": "d.name", "description": "d.description"}
"""Labels that are columns."""


EXAMINED_MAX = 5_000


class ProjectDevice(Struct):
    """One device. `sort_key` is its value in the order of a list, as JSON text."""

    id: UUID
    project_id: UUID
    device_type: str
    product_number: str
    labels: dict[str, str]
    sort_key: str | None = None


class Filters(Struct, kw_only=True):
    """Which devices of a project; empty members filter nothing. A label filter without value wants any value."""

    words: Sequence[str] = ()
    device_ids: Sequence[UUID] | None = None
    device_types: Sequence[str] = ()
    product_numbers: Sequence[str] = ()
    labels: Sequence[tuple[str, str | None]] = ()
    emulated: bool = False


class Order(Struct, frozen=True):
    """What a list is ordered by: a path such as `("reported", "temperature", "value")`; without any, the id."""

    path: tuple[str, ...] = ()
    descending: bool = False


class Part(Struct):
    """Devices of a list; where `up_to` is given, it was looked at up to that device, and may go on behind it."""

    devices: list[ProjectDevice]
    up_to: UUID | None = None


class _Arguments(list[Any]):
    """The arguments of a statement, in the order of their places."""

    def place(self, value: Any) -> str:
        self.append(value)
        return f"${len(self)}"


async def page(
    connection: Connection,
    project_ids: Collection[UUID],
    filters: Filters,
    order: Order,
    after: tuple[str | None, UUID] | None,
    limit: int,
) -> Part:
    """The devices of these projects behind `after` (sort key and id)."""
    if not order.path:
        return await _page_by_id(connection, project_ids, filters, order, after, limit)
    arguments = _Arguments()
    conditions = [f"d.project_id = ANY({arguments.place(list(project_ids))}::uuid[])", "d.deleted_at IS NULL"]
    if filters.device_ids is not None:
        conditions.append(f"d.id = ANY({arguments.place(list(filters.device_ids))}::uuid[])")
    conditions += _conditions(filters, arguments)
    if order.path[:1] == ("reported",):
        rows = await connection.fetch(
            f"SELECT d.id, d.shard FROM {_SOURCE} WHERE {' AND '.join(conditions)}", *arguments
        )
        shards = {row["id"]: row["shard"] for row in rows}
        return Part(await _page_by_reported(connection, shards, order, after, limit))
    key = _key(order, arguments)
    if after is not None:
        conditions.append(_behind(key, order, after, arguments))
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS}, ({key})::text AS sort_key FROM {_SOURCE} WHERE {" AND ".join(conditions)}
             ORDER BY {key} {_direction(order)} NULLS LAST, d.id LIMIT {arguments.place(limit)}""",
        *arguments,
    )
    return Part([_device(row, row["sort_key"]) for row in rows])


async def _page_by_id(
    connection: Connection,
    project_ids: Collection[UUID],
    filters: Filters,
    order: Order,
    after: tuple[str | None, UUID] | None,
    limit: int,
) -> Part:
    arguments = _Arguments()
    of_projects = f"d.project_id = ANY({arguments.place(list(project_ids))}::uuid[]) AND d.deleted_at IS NULL"
    if filters.device_ids is not None:
        of_projects += f" AND d.id = ANY({arguments.place(list(filters.device_ids))}::uuid[])"
    if after is not None:
        of_projects += f" AND {_behind('', order, after, arguments)}"
    ordered, examined = f"d.id {_direction(order)}", len(arguments)
    looked_at = f"SELECT * FROM devices d WHERE {of_projects} ORDER BY {ordered} LIMIT {arguments.place(EXAMINED_MAX)}"
    conditions = _conditions(filters, arguments)
    rows = await connection.fetch(
        f"""SELECT {_COLUMNS} FROM ({looked_at}) d JOIN device_models m ON m.id = d.model_id
             WHERE {" AND ".join(conditions) or "true"} ORDER BY {ordered} LIMIT {arguments.place(limit)}""",
        *arguments,
    )
    up_to = None
    if len(rows) < limit and conditions:
        up_to = await connection.fetchval(
            f"""SELECT d.id FROM devices d WHERE {of_projects} ORDER BY {ordered}
                OFFSET ${examined + 1} - 1 LIMIT 1""",
            *arguments[: examined + 1],
        )
    return Part([_device(row) for row in rows], up_to)


def _direction(order: Order) -> str:
    return "DESC" if order.descending else "ASC"


def _conditions(filters: Filters, arguments: _Arguments) -> list[str]:
    conditions = []
    if filters.words:
        patterns = [f"%{_literal(word)}%" for word in filters.words]
        conditions.append(f"{_TEXT} ILIKE ALL ({arguments.place(patterns)}::text[])")
    if filters.device_types:
        conditions.append(f"m.device_type = ANY({arguments.place(list(filters.device_types))}::text[])")
    if filters.product_numbers:
        conditions.append(f"m.product_number = ANY({arguments.place(list(filters.product_numbers))}::text[])")
    if filters.emulated:
        conditions.append("m.emulated")
    for key, value in filters.labels:
        label = _label(key, arguments)
        conditions.append(f"{label} IS NOT NULL" if value is None else f"{label} = {arguments.place(value)}")
    return conditions


def _literal(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _label(key: str, arguments: _Arguments) -> str:
    if key in _NAMED:
        return f"nullif({_NAMED[key]}, '')"
    return f"(d.labels ->> {arguments.place(key)})"


def _key(order: Order, arguments: _Arguments) -> str:
    """The expression of the sort key of an order by what lies in the row of a device, or of its model."""
    match order.path:
        case ():
            return ""
        case ("type",):
            return "to_jsonb(m.device_type)"
        case ("productNumber",):
            return "to_jsonb(m.product_number)"
        case ("labels", key):
            return f"to_jsonb({_label(key, arguments)})"
    raise AssertionError(order)


async def _page_by_reported(
    connection: Executor,
    shards: dict[UUID, int],
    order: Order,
    after: tuple[str | None, UUID] | None,
    limit: int,
) -> list[ProjectDevice]:
    """A page of these devices (with their shards), ordered by what they reported; those without such a value last.

    What devices reported lies apart from their rows. So each page looks at a value of every device that fits, as an
    order without an index must, and the ids of all of them travel here and back.
    """
    _, event_type, *path = order.path
    arguments = _Arguments()
    wanted = f"unnest({arguments.place(list(shards.values()))}::smallint[], {arguments.place(list(shards))}::uuid[])"
    source = f"""{wanted} AS wanted (shard, device_id)
                   JOIN device_reported r ON r.shard = wanted.shard AND r.device_id = wanted.device_id
                  WHERE r.shard = ANY({arguments.place(list(set(shards.values())))}::smallint[])
                    AND r.type = {arguments.place(event_type)}"""
    key = f"nullif((r.data #> {arguments.place([event_type, *path])}::text[])::jsonb, 'null'::jsonb)"
    with_value = f"FROM {source} AND {key} IS NOT NULL"
    found: list[tuple[UUID, str | None]] = []
    if after is None or after[0] is not None:
        of_page = _Arguments(arguments)
        behind = f"AND {_behind(key, order, after, of_page, device_id='r.device_id')}" if after is not None else ""
        rows = await connection.fetch(
            f"""SELECT r.device_id, ({key})::text AS sort_key {with_value} {behind}
                 ORDER BY {key} {"DESC" if order.descending else "ASC"}, r.device_id
                 LIMIT {of_page.place(limit)}""",
            *of_page,
        )
        found = [(row["device_id"], row["sort_key"]) for row in rows]
    if len(found) < limit:
        rows = await connection.fetch(f"SELECT r.device_id {with_value}", *arguments)
        without = sorted(shards.keys() - {row["device_id"] for row in rows})
        if after is not None and after[0] is None:
            without = [device_id for device_id in without if device_id > after[1]]
        found += [(device_id, None) for device_id in without[: limit - len(found)]]
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM {_SOURCE} WHERE d.id = ANY($1::uuid[])", [device_id for device_id, _ in found]
    )
    by_id = {row["id"]: row for row in rows}
    return [_device(by_id[device_id], sort_key) for device_id, sort_key in found]


def _behind(
    key: str,
    order: Order,
    after: tuple[str | None, UUID],
    arguments: _Arguments,
    device_id: str = "d.id",
) -> str:
    value, last_id = after
    later, higher = f"{device_id} > {arguments.place(last_id)}", "<" if order.descending else ">"
    if not key:
        return later.replace(">", higher)
    if value is None:
        return f"{key} IS NULL AND {later}"
    place = f"{arguments.place(value)}::text::jsonb"
    return f"({key} {higher} {place} OR ({key} = {place} AND {later}) OR {key} IS NULL)"


async def read(connection: Executor, device_id: UUID, *, emulated: bool = False) -> ProjectDevice | None:
    """A device that is in a project; None for any other."""
    row = await connection.fetchrow(
        f"""SELECT {_COLUMNS} FROM {_SOURCE}
             WHERE d.id = $1 AND d.project_id IS NOT NULL AND d.deleted_at IS NULL AND (m.emulated OR NOT $2)""",
        device_id,
        emulated,
    )
    return None if row is None else _device(row)


def _device(row: Any, sort_key: str | None = None) -> ProjectDevice:
    return ProjectDevice(
        id=row["id"],
        project_id=row["project_id"],
        device_type=row["device_type"],
        product_number=row["product_number"],
        labels=device_labels.merged(row["name"], row["description"], row["labels"]),
        sort_key=sort_key,
    )


async def reported(executor: Executor, shards: int, device_ids: Collection[UUID]) -> dict[UUID, dict[str, msgspec.Raw]]:
    """For each device the newest data of each type, as it was stored."""
    by_id = {device_id: ids.shard_of(str(device_id).encode(), shards) for device_id in device_ids}
    return {device_id: {} for device_id in device_ids} | await _reported(executor, by_id)


async def reported_in_list(
    executor: Executor, shards: int, device_ids: Collection[UUID]
) -> dict[UUID, dict[str, msgspec.Raw]]:
    """The same for devices of a list; nothing of those whose node is away."""
    by_id = {device_id: ids.shard_of(str(device_id).encode(), shards) for device_id in device_ids}

    async def read(of_node: list[int]) -> dict[UUID, dict[str, msgspec.Raw]]:
        return await _reported(executor, {one: shard for one, shard in by_id.items() if shard in of_node})

    found: dict[UUID, dict[str, msgspec.Raw]] = {device_id: {} for device_id in device_ids}
    for of_node in (await read_reachable(executor, set(by_id.values()), read)).results:
        found |= of_node
    return found


async def _reported(connection: Executor, by_id: Mapping[UUID, int]) -> dict[UUID, dict[str, msgspec.Raw]]:
    """Of devices with their shards, those that reported anything; read device by device, however many there are."""
    rows = await connection.fetch(
        f"""SELECT r.device_id, r.type, r.data::text
              FROM {shard_slices.JOINED} JOIN device_reported r ON {shard_slices.on("r")}
             WHERE r.shard = ANY($1::smallint[]) AND r.type = ANY($5) ORDER BY r.type""",
        *shard_slices.slices((shard, device_id) for device_id, shard in by_id.items()),
        list(typed_events.TYPES),
    )
    found: dict[UUID, dict[str, msgspec.Raw]] = {}
    for row in rows:
        data = typed_events.reported(row["type"], row["data"])
        found.setdefault(row["device_id"], {})[row["type"]] = msgspec.Raw(data.encode())
    return found


async def owner_of(connection: Connection, project_id: UUID, device_id: UUID) -> UUID | None:
    """The organization of a device that is in the project; None when it is not there."""
    found: UUID | None = await connection.fetchval(
        "SELECT organization_id FROM devices WHERE id = $1 AND project_id = $2 AND deleted_at IS NULL",
        device_id,
        project_id,
    )
    return found
