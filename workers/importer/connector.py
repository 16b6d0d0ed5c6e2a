"""A cloud connector as a run sees it that holds a lease on it."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from workers.importer.holding import HeldList

COLUMNS = """c.id, c.organization_id, c.project_id, c.space_id, c.provider, c.settings, c.revision, c.credentials,
                c.inventory_at, c.failures_in_a_row, c.follow_spaces, c.held_digest, c.held_in_a_row, c.held_at,
                c.confirmed_list, c.rejected_digest, c.telemetry_failures, c.credentials_version, c.rest_until"""
"""What a row of `cloud_connectors c` gives it."""


class Connector(Struct, frozen=True, kw_only=True):
    """A connector that is leased to this process."""

    id: str
    organization_id: UUID
    project_id: UUID
    space_id: UUID
    provider: str
    settings: dict[str, str]
    revision: int
    credentials: bytes
    inventory_at: datetime | None
    inventory_due: bool
    telemetry_due: bool
    failures_in_a_row: int
    telemetry_failures: int
    credentials_version: int
    rest_until: datetime | None
    follow_spaces: bool
    held_digest: str | None
    held_in_a_row: int
    held_at: datetime | None
    confirmed_list: str | None
    rejected_digest: str | None

    @property
    def held(self) -> HeldList:
        """The list that is held at the moment."""
        return HeldList(self.held_digest, self.held_in_a_row, self.held_at, self.confirmed_list, self.rejected_digest)
