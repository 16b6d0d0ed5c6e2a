"""How an organization's fleet is: devices by how they are seen, messages a second.

Counting goes through all that is kept of how devices are seen, so a count is kept for thirty times as long as it took:
a small fleet is counted at nearly every look, one of a million devices once in ten seconds, by one caller at a time;
others are told what was counted last, and when that was.
"""

import logging
import time
from collections import Counter
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import OrganizationScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.devices import fleet
from gateway.stores.events import log as event_log
from gateway.stores.tenants import projects, space_tree
from schemas import keys, logs
from schemas.device_status import EffectiveStatus
from schemas.redis import RedisAway

log = logging.getLogger(__name__)

KEPT_FACTOR = 30
KEPT_S_MIN = 1.0
COUNTING_S_MAX = 120
FORGOTTEN_S = 86_400
RATE_WINDOW_S = 10


class FleetCounts(Struct, kw_only=True):
    """How many devices there are, and how they are seen.

    `counted_at` is when that was; null, with nothing counted, while a large fleet is counted for the first time. What
    changed within the last second or two may not be counted yet.
    `messages_per_second` is the mean of the last ten seconds, and `messages_capped` tells that it is more than that.
    """

    counted_at: datetime | None
    total: int
    by_status: dict[EffectiveStatus, int]
    messages_per_second: float
    messages_capped: bool


class FleetQuery(Struct, kw_only=True):
    """Of the whole organization, or of one project."""

    project_id: UUID | None = None


class Kept(Struct):
    """What was counted last; it is kept in Redis."""

    counted_at: datetime
    took_s: float
    by_project: dict[str, dict[EffectiveStatus, int]]

    def is_fresh(self, now: datetime) -> bool:
        """Whether it need not be counted again yet."""
        return now < self.counted_at + timedelta(seconds=max(KEPT_S_MIN, KEPT_FACTOR * self.took_s))


@endpoint(
    "GET",
    "/core/v1/organization/devices/counts",
    caller=ORGANIZATION_KEY,
    permission=Permission.READ,
    errors={404: "Project not found."},
)
async def count_devices(services: Services, organization: OrganizationScope, query: FleetQuery) -> FleetCounts:
    """Count the organization's devices by how they are seen, and the messages that they send."""
    if query.project_id is not None:
        await projects.read(services.postgres, organization.id, query.project_id)
    return await counts_of(services, organization.id, None if query.project_id is None else (query.project_id,))


async def counts_of(
    services: Services, organization_id: UUID, project_ids: Collection[UUID] | None, *, wait: bool = True
) -> FleetCounts:
    """The counts of these projects, or of all; without `wait` those that are kept, however old."""
    kept = await last_counted(services, organization_id)
    if wait and (kept is None or not kept.is_fresh(services.clock())):
        kept = await _counted(services, organization_id) or kept
    by_status: Counter[EffectiveStatus] = Counter()
    for project_id, counted in ({} if kept is None else kept.by_project).items():
        if project_ids is None or UUID(project_id) in project_ids:
            by_status.update(counted)
    of = await projects.ids_of(services.postgres, organization_id) if project_ids is None else project_ids
    messages = await event_log.recent(
        services.postgres, range(services.shards), of, services.clock() - timedelta(seconds=RATE_WINDOW_S)
    )
    return FleetCounts(
        counted_at=None if kept is None else kept.counted_at,
        total=sum(by_status.values()),
        by_status=dict(by_status),
        messages_per_second=messages / RATE_WINDOW_S,
        messages_capped=messages == event_log.RECENT_MAX,
    )


async def last_counted(services: Services, organization_id: UUID) -> Kept | None:
    """What was counted last; None where nothing is kept."""
    try:
        data = await services.redis.get(_key(services, "fleet", organization_id))
        return None if data is None else msgspec.json.decode(data, type=Kept)
    except (RedisAway, msgspec.MsgspecError) as error:
        logs.event(log, logging.WARNING, "counts_not_kept", cause=str(error))
        return None


async def devices_below(services: Services, organization_id: UUID, space_ids: Collection[UUID]) -> dict[UUID, int]:
    """How many devices are in each of these spaces and all below it, as counted last; empty where nothing is kept."""
    if not space_ids:
        return {}
    try:
        found = await services.redis.hmget(
            _key(services, "fleetspaces", organization_id), [str(one) for one in space_ids]
        )
    except RedisAway:
        return {}
    return {space_id: int(number) for space_id, number in zip(space_ids, found, strict=True) if number is not None}


async def _counted(services: Services, organization_id: UUID) -> Kept | None:
    """Count anew and keep it; None where somebody else does that now."""
    turn = _key(services, "fleetcounting", organization_id)
    try:
        if not await services.redis.set(turn, "1", nx=True, ex=COUNTING_S_MAX):
            return None
    except RedisAway:
        return None
    began = time.monotonic()
    try:
        counted = await fleet.count(services.postgres, organization_id)
        if counted is None:
            return None
        by_status, by_space = counted
        by_project: dict[str, dict[EffectiveStatus, int]] = {}
        for (project_id, status), number in by_status.items():
            by_project.setdefault(str(project_id), {})[status] = number
        below = await space_tree.summed(services.postgres, organization_id, by_space)
        kept = Kept(services.clock(), time.monotonic() - began, by_project)
        await _keep(services, organization_id, kept, below)
    finally:
        await services.redis.delete(turn)
    return kept


async def _keep(services: Services, organization_id: UUID, kept: Kept, below: dict[UUID, int]) -> None:
    of_spaces = _key(services, "fleetspaces", organization_id)
    async with services.redis.pipeline(transaction=True) as pipeline:
        pipeline.set(_key(services, "fleet", organization_id), msgspec.json.encode(kept), ex=FORGOTTEN_S)
        pipeline.delete(of_spaces)
        if below:
            pipeline.hset(of_spaces, mapping={str(space_id): number for space_id, number in below.items()})
            pipeline.expire(of_spaces, FORGOTTEN_S)
        await pipeline.execute()


def _key(services: Services, what: str, organization_id: UUID) -> str:
    return keys.of_caller(services.shards, what, str(organization_id))


ENDPOINTS = (count_devices,)
