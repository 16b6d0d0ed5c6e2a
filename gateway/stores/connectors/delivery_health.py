"""How deliveries of data connectors go: at a glance for each of a project, and minute by minute for a chart.

Made of what dispatchers note as they go; no event is read, so that a page of connectors costs the same however far they
are behind. The ledger, which counts what lies ahead, is `ledgers`.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.stores.connectors.ledgers import percentile_s
from schemas.deliveries import METRICS_WINDOW
from schemas.postgres import Executor
from schemas.times import EPOCH


class Disabled(Struct, kw_only=True):
    """Since when a connector is disabled, and what it dropped then. `failing_since` where the system disabled it."""

    since: datetime | None
    """None where it never was active."""
    by_system: bool
    failing_since: datetime | None
    dropped: int
    is_dropping: bool
    """Whether a dispatcher has still to end some of what it owed."""


class Health(Struct, kw_only=True):
    """How deliveries of one connector go. Attempts are those of the last three hours."""

    id: str
    display_name: str
    status: str
    successes: int
    errors: int
    pending: int
    backlog: int
    oldest_pending_s: float
    failing_since: datetime | None
    last_attempt_at: datetime | None
    last_success_at: datetime | None
    disabled: Disabled | None


_HEALTH = """
    SELECT c.id, c.display_name, c.status, c.failing_since, c.last_attempt_at, c.last_success_at,
           c.accepted - c.delivered - c.expired - c.dropped - c.superseded AS pending, now() AS now,
           CASE WHEN c.status = 'ACTIVE' THEN c.backlog ELSE 0 END AS backlog,
           CASE WHEN c.status = 'ACTIVE' THEN least(c.owed_since, w.oldest) ELSE w.oldest END AS oldest,
           m.successes, m.errors, d.created_at AS dropped_at, d.events AS dropped, d.state AS drop_state,
           n.failing_since AS failed_since
      FROM data_connectors c
     CROSS JOIN LATERAL (SELECT min(owed_since) AS oldest FROM waiting_deliveries WHERE connector_id = c.id) w
     CROSS JOIN LATERAL (SELECT coalesce(sum(successes), 0)::bigint AS successes,
                                coalesce(sum(errors), 0)::bigint AS errors
                           FROM delivery_minutes WHERE connector_id = c.id AND minute > $3) m
      LEFT JOIN LATERAL (SELECT created_at, events, state FROM connector_jobs
                          WHERE connector_id = c.id AND kind = 'drop' ORDER BY id DESC LIMIT 1) d ON true
      LEFT JOIN LATERAL (SELECT failing_since FROM connector_notices
                          WHERE connector_id = c.id AND kind = 'system_disabled' ORDER BY id DESC LIMIT 1) n ON true
     WHERE c.project_id = $1 AND ($2::text IS NULL OR c.id = $2) ORDER BY c.id
"""


async def of_project(
    executor: Executor, project_id: UUID, now: datetime, connector_id: str | None = None
) -> list[Health]:
    """All connectors of a project, or the one that is named."""
    rows = await executor.fetch(_HEALTH, project_id, connector_id, now - METRICS_WINDOW)
    return [_health(row) for row in rows]


def _health(row: Any) -> Health:
    by_system = row["status"] == "SYSTEM_DISABLED"
    disabled = Disabled(
        since=row["dropped_at"],
        by_system=by_system,
        failing_since=row["failed_since"] if by_system else None,
        dropped=row["dropped"] or 0,
        is_dropping=row["drop_state"] == "RUNNING",
    )
    return Health(
        id=row["id"],
        display_name=row["display_name"],
        status=row["status"],
        successes=row["successes"],
        errors=row["errors"],
        pending=row["pending"],
        backlog=row["backlog"],
        oldest_pending_s=max(0.0, (row["now"] - row["oldest"]).total_seconds()) if row["oldest"] else 0.0,
        failing_since=row["failing_since"],
        last_attempt_at=row["last_attempt_at"],
        last_success_at=row["last_success_at"],
        disabled=None if row["status"] == "ACTIVE" else disabled,
    )


class Bucket(Struct, kw_only=True):
    """The attempts of some minutes, and how many of them took how long (`LATENCY_BOUNDS_MS`)."""

    at: datetime
    successes: int = 0
    errors: int = 0
    latencies: list[int]

    def latency_ms(self, share: float) -> int:
        """What this share of the attempts did not exceed."""
        return round(1000 * percentile_s(self.latencies, share))


async def series(
    executor: Executor, connector_id: str, start: datetime, end: datetime, step: timedelta
) -> list[Bucket]:
    """Attempts from `start` (in it) to `end` (not in it), in steps of whole minutes; those without any are left out."""
    rows = await executor.fetch(
        """SELECT date_bin($4, minute, $5) AS at, successes, errors, latencies FROM delivery_minutes
            WHERE connector_id = $1 AND minute >= $2 AND minute < $3 ORDER BY minute""",
        connector_id,
        start,
        end,
        step,
        EPOCH,
    )
    found: dict[datetime, Bucket] = {}
    for row in rows:
        bucket = found.setdefault(row["at"], Bucket(at=row["at"], latencies=[0] * len(row["latencies"])))
        bucket.successes += row["successes"]
        bucket.errors += row["errors"]
        bucket.latencies = [a + b for a, b in zip(bucket.latencies, row["latencies"], strict=True)]
    return list(found.values())
