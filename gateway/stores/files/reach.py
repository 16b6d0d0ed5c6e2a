"""Files as devices see them: those that are released for them, of their model and of their owner.

What is a draft, or somebody else's, does not exist for a device; what was withdrawn is gone.
"""

from datetime import datetime
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


async def listed(connection: Executor, device: DeviceCaller) -> list[ReleasedFile]:
    """The newest of those that the device may fetch."""
    rows = await connection.fetch(
        f"SELECT {_FILE} FROM files f WHERE {_FITS} AND f.status = 'released' ORDER BY f.id DESC LIMIT {FILES_MAX}",
        device.model_id,
        device.organization_id,
    )
    return [ReleasedFile(**row) for row in rows]


async def find(connection: Executor, model_id: UUID, organization_id: UUID | None, file_id: UUID) -> ReleasedFile:
    """A file for devices of a model and an owner. Raises NotFound, or Gone when it was withdrawn."""
    row = await connection.fetchrow(
        f"SELECT {_FILE}, f.status FROM files f WHERE {_FITS} AND f.id = $3 AND f.status <> 'draft'",
        model_id,
        organization_id,
        file_id,
    )
    if row is None:
        raise NotFound(UNKNOWN)
    members = dict(row)
    if members.pop("status") == "withdrawn":
        raise Gone(WITHDRAWN)
    return ReleasedFile(**members)
