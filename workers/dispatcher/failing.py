"""The clock of the five days: warns of connectors that keep failing, and disables those that failed for too long.

The clock is a column: the first failure since the last success, written by the commit that told of it. So it goes on
across restarts and from worker to worker. Silence is not failure: without an attempt in the last day nothing happens.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from schemas import audit_log, logs
from schemas.metrics import Metrics
from schemas.postgres import Pool
from workers.dispatcher.connector import Connector
from workers.dispatcher.roster import Roster
from workers.dispatcher.store import moment

log = logging.getLogger(__name__)

INTERVAL_S = 15.0
WARNED_DAYS = (1, 3)
DISABLED_AFTER = timedelta(days=5)
ATTEMPTED_WITHIN = timedelta(days=1)
NOTICES_KEPT = 20
"""Of each connector; the newest."""


class FailingSweep:
    """Looks after the connectors of this process."""

    def __init__(
        self,
        pool: Pool,
        roster: Roster,
        pump: Callable[[Connector], None],
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._roster = roster
        self._pump = pump
        self._metrics = metrics
        self._clock = clock

    async def sweep(self) -> None:
        """Warn and disable, each once; what was undelivered is dropped and counted, by trigger.

        A connector that somebody holds is left for the next time.
        """
        now = moment(self._clock())
        for connector in self._roster.connectors.values():
            if connector.pace.probing and connector.queue.expire(now.timestamp(), connector.target):
                self._pump(connector)
        candidates = await self._pool.fetch(
            """SELECT id FROM data_connectors
                WHERE id = ANY($1) AND status = 'ACTIVE' AND failing_since <= $2 AND last_attempt_at > $3""",
            list(self._roster.connectors),
            now - timedelta(days=WARNED_DAYS[0]),
            now - ATTEMPTED_WITHIN,
        )
        for row in candidates:
            for days in WARNED_DAYS:
                failing_since = await self._pool.fetchval(
                    """WITH warned AS (
                           UPDATE data_connectors SET warned_days = $2 WHERE id =
                               (SELECT id FROM data_connectors
                                 WHERE id = $1 AND status = 'ACTIVE' AND warned_days < $2 AND failing_since <= $3
                                   FOR NO KEY UPDATE SKIP LOCKED)
                           RETURNING id, failing_since)
                       INSERT INTO connector_notices (connector_id, at, kind, failing_since)
                       SELECT id, $4, $5, failing_since FROM warned RETURNING failing_since""",
                    row["id"],
                    days,
                    now - timedelta(days=days),
                    now,
                    "failing_1_day" if days == 1 else f"failing_{days}_days",
                )
                if failing_since is not None:
                    self._metrics.connector_warnings.labels(days).inc()
                    await self._trim_notices(row["id"])
                    logs.event(
                        log, logging.WARNING, "connector_failing", connector=row["id"], days=days, since=failing_since
                    )
            failing_since = await self._disable(row["id"], now)
            if failing_since is not None:
                self._metrics.connectors_disabled.inc()
                await self._trim_notices(row["id"])
                logs.event(log, logging.WARNING, "connector_disabled", connector=row["id"], since=failing_since)

    async def _disable(self, connector_id: str, now: datetime) -> datetime | None:
        """Disable a connector that failed for too long; returns since when it did, None where it stays as it is."""
        async with self._pool.acquire() as connection, connection.transaction():
            failing_since: datetime | None = await connection.fetchval(
                """WITH disabled AS (
                       UPDATE data_connectors SET status = 'SYSTEM_DISABLED', updated_at = $3 WHERE id =
                           (SELECT id FROM data_connectors
                             WHERE id = $1 AND status = 'ACTIVE' AND failing_since <= $2
                               FOR NO KEY UPDATE SKIP LOCKED)
                       RETURNING id, failing_since)
                   INSERT INTO connector_notices (connector_id, at, kind, failing_since)
                   SELECT id, $3, 'system_disabled', failing_since FROM disabled RETURNING failing_since""",
                connector_id,
                now - DISABLED_AFTER,
                now,
            )
            if failing_since is None:
                return None
            project = await connection.fetchrow(
                """SELECT p.id, p.organization_id FROM data_connectors c JOIN projects p ON p.id = c.project_id
                    WHERE c.id = $1""",
                connector_id,
            )
            assert project is not None
            await audit_log.note(
                connection,
                at=now,
                organization_id=project["organization_id"],
                action="disable_connector",
                target=f"/v2/projects/{project['id']}/dataconnectors/{connector_id}",
                after={"status": "SYSTEM_DISABLED", "failing_since": failing_since.isoformat()},
            )
        return failing_since

    async def _trim_notices(self, connector_id: str) -> None:
        await self._pool.execute(
            """DELETE FROM connector_notices WHERE connector_id = $1 AND id <=
                   (SELECT id FROM connector_notices WHERE connector_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)""",
            connector_id,
            NOTICES_KEPT,
        )
