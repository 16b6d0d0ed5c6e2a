"""How deliveries of data connectors go: at a glance, and minute by minute; and why one is disabled."""

import math
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.scopes import ProjectScope
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound
from gateway.services import Services
from gateway.stores.connectors import data_connectors as connectors
from gateway.stores.connectors import delivery_health as store
from gateway.v2.moments import bounded
from schemas.deliveries import METRICS_WINDOW, MINUTES_KEPT
from schemas.events import rfc3339

RESOURCE = "data_connectors"
CONNECTORS = "/v2/projects/{project}/dataconnectors"
CONNECTOR = CONNECTORS + "/{connector}"
POINTS_MAX = 300
_MINUTE = timedelta(minutes=1)


class Disabled(Struct, rename="camel", kw_only=True):
    """Since when it is disabled (null where it never was active), by whom, and how many events it dropped then.

    The system disables what failed for five days on end, since `failingSince`. While `isDropping` the number still
    grows. What happens meanwhile is not queued: a replay fetches it.
    """

    since: str | None
    by: Literal["USER", "SYSTEM"]
    failing_since: str | None
    dropped_events: int
    is_dropping: bool


class Health(Struct, rename="camel", kw_only=True):
    """How deliveries of one data connector go: attempts of the last three hours, and what it owes.

    `oldestPendingSeconds` is how far it is behind: the age of the oldest event that was neither delivered nor given up.
    """

    name: str
    display_name: str
    status: Literal["ACTIVE", "USER_DISABLED", "SYSTEM_DISABLED"]
    success_count: int
    error_count: int
    pending: int
    backlog: int
    oldest_pending_seconds: float
    failing_since: str | None
    last_attempt_time: str | None
    last_success_time: str | None
    disabled: Disabled | None


class HealthOfAll(Struct, rename="camel"):
    """Of each data connector of a project."""

    health: list[Health]


class MinutesQuery(Struct, kw_only=True):
    """From `start_time` (in it; by default three hours before the end) to `end_time` (not in it); a day at most."""

    start_time: datetime | None = None
    end_time: datetime | None = None

    def range(self, now: datetime) -> tuple[datetime, datetime]:
        """Begin and end. Raises DoesNotFit."""
        end = now if self.end_time is None else bounded(self.end_time, "End time")
        start = end - METRICS_WINDOW if self.start_time is None else bounded(self.start_time, "Start time")
        if not start < end:
            raise DoesNotFit("Start time must be before end time")
        if end - start > MINUTES_KEPT:
            raise DoesNotFit(f"Start time must be at most {MINUTES_KEPT // timedelta(hours=1)} hours before end time")
        return start, end


class Point(Struct, rename="camel", kw_only=True):
    """The attempts of one step, which begins at `time`, and how long half and 99 of 100 of them took at most."""

    time: str
    success_count: int
    error_count: int
    latency_median_ms: int
    latency_99p_ms: int


class Minutes(Struct, rename="camel", kw_only=True):
    """Steps in the order of time; one without any attempt is left out."""

    start_time: str
    end_time: str
    step_seconds: int
    points: list[Point]


@endpoint("GET", CONNECTORS + ":health", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_health(services: Services, project: ProjectScope) -> HealthOfAll:
    """See how deliveries of each data connector of a project go."""
    found = await store.of_project(services.postgres, project.id, services.clock())
    return HealthOfAll([_health(project, each) for each in found])


@endpoint("GET", CONNECTOR + ":health", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_health(services: Services, project: ProjectScope, connector: str) -> Health:
    """See how deliveries of a data connector go; disabled, since when and what it dropped."""
    found = await store.of_project(services.postgres, project.id, services.clock(), connector)
    if not found:
        raise NotFound(connectors.UNKNOWN)
    return _health(project, found[0])


@endpoint("GET", CONNECTOR + ":minutes", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_minutes(services: Services, project: ProjectScope, connector: str, query: MinutesQuery) -> Minutes:
    """Read how its attempts went over time, in at most 300 steps of whole minutes."""
    found = await connectors.read(services.postgres, project.id, connector)
    start, end = query.range(services.clock())
    step = math.ceil((end - start) / _MINUTE / POINTS_MAX) * _MINUTE
    buckets = await store.series(services.postgres, found.id, start, end, step)
    return Minutes(
        start_time=rfc3339(start),
        end_time=rfc3339(end),
        step_seconds=int(step.total_seconds()),
        points=[
            Point(
                time=rfc3339(bucket.at),
                success_count=bucket.successes,
                error_count=bucket.errors,
                latency_median_ms=bucket.latency_ms(0.5),
                latency_99p_ms=bucket.latency_ms(0.99),
            )
            for bucket in buckets
        ],
    )


def _health(project: ProjectScope, found: store.Health) -> Health:
    disabled = found.disabled
    return Health(
        name=f"projects/{project.id}/dataconnectors/{found.id}",
        display_name=found.display_name,
        status=found.status,  # type: ignore[arg-type]
        success_count=found.successes,
        error_count=found.errors,
        pending=found.pending,
        backlog=found.backlog,
        oldest_pending_seconds=round(found.oldest_pending_s, 3),
        failing_since=_time(found.failing_since),
        last_attempt_time=_time(found.last_attempt_at),
        last_success_time=_time(found.last_success_at),
        disabled=None
        if disabled is None
        else Disabled(
            since=_time(disabled.since),
            by="SYSTEM" if disabled.by_system else "USER",
            failing_since=_time(disabled.failing_since),
            dropped_events=disabled.dropped,
            is_dropping=disabled.is_dropping,
        ),
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


ENDPOINTS: tuple[Endpoint, ...] = (list_health, read_health, list_minutes)
