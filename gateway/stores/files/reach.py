"""Files as devices see them: those that are released for them, of their model and of their owner.

What is a draft, or somebody else's, does not exist for a device, nor does firmware whose rollout has not reached it;
what was withdrawn is gone.
"""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from gateway.refusals import Gone, NotFound
from gateway.stores.devices.identity import DeviceCaller
from gateway.stores.files.catalog import UNKNOWN
from schemas.postgres import Executor

WITHDRAWN = "File was withdrawn"
FILES_MAX = 100
"""A device is shown so many, the newest ones."""
_FITS = """(f.model_id = $1 OR f.organization_id = $2 AND (f.for_model_id IS NULL OR f.for_model_id = $1))"""
"""SQL that is true of files `f` for devices of a model ($1) and an owner ($2)."""
_REACHED = """(f.file_type <> 'firmware'
               OR EXISTS (SELECT FROM rollout_reach(f.id, $3, $2) r WHERE r.open_to_all OR r.reached))"""
"""SQL that is true of files `f` that a device ($3) may have by now."""
_FILE = """f.id, f.name, f.description AS desc, f.file_type, f.version, f.checksum, f.sha1, f.md5, f.size,
           f.signature, f.public_notes, f.created_at"""


class ReleasedFile(Struct):
    """A file that a device may fetch."""

    id: UUID
    name: str
    desc: str
    file_type: str
    version: str | None
    checksum: str
    sha1: str | None
    md5: str | None
    size: int
    signature: str | None
    public_notes: str
    created_at: datetime
    rolled_out: bool = False
    """Whether rollouts of it want to know who fetches it."""


async def listed(connection: Executor, device: DeviceCaller) -> list[ReleasedFile]:
    """The newest of those that the device may fetch."""
    rows = await connection.fetch(
        f"""SELECT {_FILE} FROM files f WHERE {_FITS} AND f.status = 'released' AND {_REACHED}
             ORDER BY f.id DESC LIMIT {FILES_MAX}""",
        device.model_id,
        device.organization_id,
        device.id,
    )
    return [ReleasedFile(**row) for row in rows]


class Recipient(Protocol):
    """A device that a file may be for."""

    @property
    def id(self) -> UUID: ...
    @property
    def model_id(self) -> UUID: ...
    @property
    def organization_id(self) -> UUID | None: ...


async def find(connection: Executor, device: Recipient, file_id: UUID) -> ReleasedFile:
    """A file for a device. Raises NotFound, or Gone when it was withdrawn."""
    row = await connection.fetchrow(
        f"""SELECT {_FILE}, f.status, EXISTS (SELECT FROM rollouts r WHERE r.file_id = f.id) AS rolled_out FROM files f
             WHERE {_FITS} AND f.id = $4 AND (f.status = 'withdrawn' OR f.status = 'released' AND {_REACHED})""",
        device.model_id,
        device.organization_id,
        device.id,
        file_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    members = dict(row)
    if members.pop("status") == "withdrawn":
        raise Gone(WITHDRAWN)
    return ReleasedFile(**members)
