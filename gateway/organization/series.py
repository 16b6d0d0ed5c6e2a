"""Values of a device over time, as charts draw them."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct, field

from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import FleetScope
from gateway.api.validation import Label
from gateway.organization.histories import Moment, range_of
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.devices import owner_view
from gateway.stores.events import series
from gateway.stores.events.series import POINTS_MAX, Series
from schemas.ids import shard_of

KEYS_MAX = 10


class SeriesQuery(Struct, kw_only=True):
    """Which values, in a time range of at most 31 days (by default the last one), in how many buckets."""

    keys: Annotated[list[Label], Meta(min_length=1, max_length=KEYS_MAX)]
    since: Moment | None = field(default=None, name="from")
    until: Moment | None = field(default=None, name="to")
    points: Annotated[int, Meta(ge=1, le=POINTS_MAX)] = POINTS_MAX

    def is_long(self) -> bool:
        """All messages of the time are looked at."""
        return True


@endpoint(
    "GET",
    "/core/v1/organization/devices/{device_id}/series",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Device not found."},
)
async def read_series(services: Services, fleet: FleetScope, device_id: UUID, query: SeriesQuery) -> list[Series]:
    """Read values of a device over time: least, mean and greatest of each bucket; buckets without any are left out."""
    await owner_view.ever_owned(services.postgres, fleet.id, device_id)
    since, until = range_of(services.clock(), query.since, query.until)
    return await series.read(
        services.log,
        shard_of(str(device_id).encode(), services.shards),
        device_id,
        await fleet.projects(services),
        query.keys,
        since=since,
        until=until,
        points=query.points,
    )


ENDPOINTS = (read_series,)
