"""Where the devices of each filter of a fleet lie by index, and the best way to those that fit all filters.

    few      some filter fits so few devices that all of them are looked at; nothing is left out
    walk     all fit many: along the devices of one filter, in the order of their ids

Labels and how devices are seen are kept in tables of their own (see `schemas.device_status`); until these are worked
out for the first time, devices are looked at themselves.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from gateway.stores.devices.owner_view import SUBTREE
from schemas.device_status import EffectiveStatus
from schemas.ids import uuid_of
from schemas.postgres import Executor

FEW = 5_000
KEYS_MAX = 1_000
"""Spaces or projects along which devices can be walked through."""
ORGANIZATION, AFTER = "$1", "$2"
"""Places that are the same in all statements."""


class Filters(NamedTuple):
    """Which devices; None does not narrow them."""

    project_ids: Sequence[UUID] | None = None
    space_id: UUID | None = None
    search: str | None = None
    """What the name or serial number begins with, in any case; or a whole MAC, Cloud ID or id."""
    model_id: UUID | None = None
    connector_id: str | None = None
    status: EffectiveStatus | None = None
    label: tuple[str, str | None] | None = None
    firmware_version: str | None = None
    seen_since: datetime | None = None
    seen_before: datetime | None = None

    def look_closer(self) -> bool:
        """Whether they are for what is kept a moment behind the truth."""
        return self.status is not None or self.seen_since is not None or self.seen_before is not None

    def saw(self, last_seen_at: datetime | None) -> bool:
        """Whether a device that was last seen then fits."""
        if self.seen_since is not None and (last_seen_at is None or last_seen_at < self.seen_since):
            return False
        return self.seen_before is None or last_seen_at is None or last_seen_at < self.seen_before


class Source(NamedTuple):
    """Where devices lie: rows of `table`, their `device` the id. With `keys` they lie in the order of ids for each."""

    table: str
    device: str
    rest: str
    key: str = ""
    keys: str = ""
    parts: int = 0
    """How many keys."""

    def few(self, limit: int) -> str:
        """So many of them, in no order; with keys those behind AFTER, since others may lie before them."""
        of_keys = f"{self.key} = ANY({self.keys}) AND {self.device} > {AFTER} AND " if self.keys else ""
        return f"SELECT {self.device} AS id FROM {self.table} WHERE {of_keys}{self.rest} LIMIT {limit}"

    def walk(self, limit: int) -> str:
        """The first so many of them behind AFTER."""
        return f"""
            SELECT one.id FROM unnest({self.keys}) AS keys (key) CROSS JOIN LATERAL (
                SELECT {self.device} AS id FROM {self.table}
                 WHERE {self.key} = keys.key AND {self.rest} AND {self.device} > {AFTER}
                 ORDER BY {self.device} LIMIT {limit}) one
             ORDER BY one.id LIMIT {limit}"""


class Part(NamedTuple):
    """One filter: what a row `d` of devices must be, and where such devices lie."""

    fits: str
    source: Source | None


class Way(NamedTuple):
    """The way to the devices that fit."""

    arguments: list[Any]
    source: Source
    fits: str
    walks: bool
    is_alone: bool
    """Whether one filter was given."""
    is_vague: bool
    """Whether many that are found on this way do not fit in truth."""

    def ids(self, limit: int) -> str:
        """The next devices on the way, in the order of their ids: `limit` at most where it walks."""
        if self.walks:
            return self.source.walk(limit)
        return f"SELECT DISTINCT id FROM ({self.source.few(FEW)}) few WHERE id > {AFTER} ORDER BY id"

    def bound(self, statement: str, after: UUID) -> tuple[str, list[Any]]:
        """The statement with the arguments that it has."""
        return _bound(statement, [self.arguments[0], after, *self.arguments[2:]])


async def choose(connection: Executor, organization_id: UUID, filters: Filters, after: UUID) -> Way:
    """The best way for these filters, behind `after`."""
    kept = await is_kept(connection)
    arguments = _Arguments([organization_id, after])
    parts = await _parts(connection, filters, arguments, kept=kept)
    source = _devices("d.organization_id", f"ARRAY[{ORGANIZATION}::uuid]", 1)
    given = len(parts)
    parts.append(Part(f"d.organization_id = {ORGANIZATION}", source))
    sources = [part.source for part in parts if part.source is not None]
    chosen, walks = parts[-1], True
    if given:
        sizes = ", ".join(f"(SELECT count(*) FROM ({one.few(FEW + 1)}) few)" for one in sources)
        statement, bound = _bound(f"SELECT ARRAY[{sizes}]", arguments)
        found: list[int] = await connection.fetchval(statement, *bound)
        smallest = min(found)
        walks = smallest > FEW
        best = next(
            one
            for one, size in zip(sources, found, strict=True)
            if (0 < one.parts <= KEYS_MAX if walks else size == smallest)
        )
        chosen = next(part for part in parts if part.source is best)
    others = [part.fits for part in parts if part is not chosen and part.source is not source]
    conditions = [f"d.organization_id = {ORGANIZATION}", "d.deleted_at IS NULL", *others]
    vague = filters.seen_since is not None or filters.seen_before is not None or (not kept and filters.look_closer())
    assert chosen.source is not None
    return Way(arguments, chosen.source, " AND ".join(conditions), walks, given == 1, vague)


async def is_kept(connection: Executor) -> bool:
    """Whether labels and how devices are seen have been worked out for all devices."""
    kept: bool = await connection.fetchval(
        "SELECT NOT EXISTS (SELECT FROM standings_due WHERE device_id IS NULL AND connector_id IS NULL)"
    )
    return kept


async def _parts(connection: Executor, filters: Filters, arguments: "_Arguments", *, kept: bool) -> list[Part]:
    """The filters that are given; those along which one would rather walk come first."""
    place, parts = arguments.place, []
    if filters.label is not None:
        parts.append(_label(*filters.label, arguments, kept=kept))
    if filters.firmware_version is not None:
        keys = f"{place([filters.firmware_version])}::text[]"
        of_version = _devices("d.firmware_version", keys, 1, f"d.organization_id = {ORGANIZATION}")
        parts.append(Part(f"d.firmware_version = ANY({keys})", of_version))
    if filters.status is not None and kept:
        keys = f"{place([filters.status])}::text[]"
        standing = Source(
            "device_standings t", "t.device_id", f"t.organization_id = {ORGANIZATION}", "t.status", keys, 1
        )
        has = f"EXISTS (SELECT FROM device_standings t WHERE t.device_id = d.id AND t.status = ANY({keys}))"
        parts.append(Part(has, standing))
    if filters.seen_before is not None and kept:
        before = place(filters.seen_before)
        silent = Source("device_standings t", "t.device_id", f"t.organization_id = $1 AND t.seen_at < {before}")
        has = f"EXISTS (SELECT FROM device_standings t WHERE t.device_id = d.id AND t.seen_at < {before})"
        parts.append(Part(has, silent))
    if filters.search is not None:
        parts.append(_search(filters.search.strip(), arguments))
    if filters.space_id is not None:
        spaces = [row["id"] for row in await connection.fetch(SUBTREE.format(top="$1"), filters.space_id)]
        keys = f"{place(spaces)}::uuid[]"
        in_space = Source("devices d", "d.id", "true", "d.space_id", keys, len(spaces))
        parts.append(Part(f"d.space_id = ANY({keys})", in_space))
    if filters.connector_id is not None:
        keys = f"{place([filters.connector_id])}::text[]"
        imported = Source("cloud_devices c", "c.device_id", "true", "c.connector_id", keys, 1)
        has = f"EXISTS (SELECT FROM cloud_devices c WHERE c.device_id = d.id AND c.connector_id = ANY({keys}))"
        parts.append(Part(has, imported))
    if filters.project_ids is not None:
        keys = f"{place(list(filters.project_ids))}::uuid[]"
        parts.append(Part(f"d.project_id = ANY({keys})", _devices("d.project_id", keys, len(filters.project_ids))))
    if filters.model_id is not None:
        keys = f"{place([filters.model_id])}::uuid[]"
        parts.append(Part(f"d.model_id = ANY({keys})", _devices("d.model_id", keys, 1)))
    return parts


def _devices(key: str, keys: str, count: int, rest: str = "true") -> Source:
    return Source("devices d", "d.id", f"{rest} AND d.deleted_at IS NULL", key, keys, count)


def _label(key: str, value: str | None, arguments: "_Arguments", *, kept: bool) -> Part:
    name = arguments.place(key)
    rest = f"l.organization_id = {ORGANIZATION} AND l.key = {name}"
    if value is None:
        named = Source("device_labels l", "l.device_id", rest)
        return Part(f"(d.labels ->> {name}) IS NOT NULL", named if kept else None)
    keys = f"{arguments.place([value])}::text[]"
    labelled = Source("device_labels l", "l.device_id", rest, "l.value", keys, 1)
    return Part(f"coalesce((d.labels ->> {name}) = ANY({keys}), false)", labelled if kept else None)


_NAMED = (
    f"(SELECT id FROM devices WHERE organization_id = {ORGANIZATION} AND lower({{column}}) LIKE {{begins}}"
    f" AND deleted_at IS NULL LIMIT {FEW + 1})"
)


def _search(text: str, arguments: "_Arguments") -> Part:
    begins = arguments.place(f"{_literal(text.lower())}%")
    mac, whole = arguments.place(text.lower()), f"{arguments.place([text, text.upper()])}::text[]"
    device_id = f"{arguments.place(uuid_of(text))}::uuid"
    table = f"""({_NAMED.format(column="name", begins=begins)} UNION {_NAMED.format(column="sn", begins=begins)}
        UNION SELECT id FROM devices WHERE mac = {mac} AND deleted_at IS NULL
        UNION SELECT id FROM devices WHERE cloud_id = ANY({whole}) AND deleted_at IS NULL
        UNION SELECT {device_id} WHERE {device_id} IS NOT NULL) f"""
    fits = f"""(lower(d.name) LIKE {begins} OR lower(d.sn) LIKE {begins} OR d.mac = {mac}
                OR d.cloud_id = ANY({whole}) OR d.id = {device_id})"""
    return Part(fits, Source(table, "f.id", "true"))


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class _Arguments(list[Any]):
    """Arguments of statements as they are put together."""

    def place(self, value: Any) -> str:
        self.append(value)
        return f"${len(self)}"


def _bound(statement: str, arguments: Sequence[Any]) -> tuple[str, list[Any]]:
    """The statement with those of the arguments that it names, numbered anew."""
    named = sorted({int(number) for number in re.findall(r"\$(\d+)", statement)})
    places = {number: place for place, number in enumerate(named, 1)}
    bound = re.sub(r"\$(\d+)", lambda found: f"${places[int(found[1])]}", statement)
    return bound, [arguments[number - 1] for number in named]
