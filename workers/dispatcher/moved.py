"""Events of moved days for connectors: what a replay of such days owes, and the events themselves when they are due.

Days that are moved lie in files alone (see `schemas.archive`). A replay lists the files of its time when it begins and
puts their rows into the queue in the order of the files, so that what is due together lies together; a few groups that
were read last are kept. A file store that is away delays what lies there, and nothing else.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from schemas.archive import listing
from schemas.blobs.store import BlobsAway, BlobStore
from schemas.postgres import Executor

if TYPE_CHECKING:
    from schemas.archive.files import Archived, Files

ROWS = 2_000
"""That one slice of a replay puts into a queue."""
GROUPS_KEPT = 4
_PLACES = ("seq", "device_id", "type", "ts", "stored_at")
_EVENT = ("shard", "seq", "stored_at", "type", "device_id", "ts", "data", "labels")


class Piece(NamedTuple):
    """Rows of a file that a job lists: from `first` on up to before `next`; the file's last ones where that is None."""

    file_id: int
    shard: int
    first: int
    next: int | None
    rows: list[dict[str, Any]]


class MovedEvents:
    """Reads them. Without a `store` there are none."""

    def __init__(self, store: BlobStore | None) -> None:
        self._store = store
        self._files: Files | None = None
        self._groups: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def __repr__(self) -> str:
        return f"<MovedEvents {self._files!r}>"

    async def piece(self, executor: Executor, job_id: int) -> Piece | None:
        """The next rows of the files that a job lists; None when there are none. Raises BlobsAway."""
        row = await listing.next_of_job(executor, job_id)
        if row is None:
            return None
        if not row["kept"]:
            return Piece(row["id"], row["shard"], row["next_row"], None, [])
        files = self._reader()
        file, first = await files.open(row["name"], row["size"]), row["next_row"]
        group, before = 0, 0
        while before + file.rows(group) <= first:
            before += file.rows(group)
            group += 1
        table = await files.group(file, group, _PLACES, lambda table: table.slice(first - before, ROWS))
        end = first + len(table)
        return Piece(row["id"], row["shard"], first, None if end == row["rows"] else end, _rows(table))

    async def at(self, executor: Executor, places: Sequence[Any]) -> list[dict[str, Any]]:
        """The events at these places (rows of `waiting_deliveries`), as far as files have them. Raises BlobsAway."""
        wanted: dict[tuple[int, Any, UUID], dict[int, str]] = {}
        projects = await listing.projects_of_connectors(executor, {row["connector_id"] for row in places})
        for row in places:
            project_id = projects.get(row["connector_id"])
            if project_id is not None and row["device_id"] is not None:
                key = row["shard"], row["stored_at"].date(), project_id
                wanted.setdefault(key, {})[row["seq"]] = str(row["device_id"])
        found: list[dict[str, Any]] = []
        devices = {(*place, UUID(device_id)) for place, seqs in wanted.items() for device_id in seqs.values()}
        for one in await listing.moved_places(executor, devices):
            seqs = wanted[one["shard"], one["day"], one["project_id"]]
            file = await self._reader().open(one["name"], one["size"])
            for group in file.groups_with("device_id", sorted(set(seqs.values()))):
                events = await self._of_group(file, group, seqs)
                found += [event | {"project_id": one["project_id"]} for event in events]
        return found

    async def close(self) -> None:
        """Let go of what reads files."""
        if self._files is not None:
            await self._files.close()

    async def _of_group(self, file: "Archived", group: int, seqs: dict[int, str]) -> list[dict[str, Any]]:
        key = file.name, group
        if key not in self._groups:
            self._groups[key] = await self._reader().group(file, group, _EVENT)
            while len(self._groups) > GROUPS_KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(key)
        table = self._groups[key]
        places = [place for place, seq in enumerate(table["seq"].to_pylist()) if seq in seqs]
        return _rows(table.take(places))

    def _reader(self) -> "Files":
        if self._files is None:
            try:
                from schemas.archive.files import Files
            except ImportError:
                raise BlobsAway("history lies in files: install fleetgate[archive]") from None
            assert self._store is not None
            self._files = Files(self._store)
        return self._files


def _rows(table: Any) -> list[dict[str, Any]]:
    """As Postgres gives them."""
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        row["device_id"] = UUID(row["device_id"])
        for name in ("ts", "stored_at"):
            row[name] = row[name].astimezone(UTC)
    return rows
