"""Deletes what has ended and was kept for long enough; each has a setting of its own.

    commands       that are done, failed or aborted, so many days after that
    incidents      that are closed, so many days after that
    dumps          of devices, so many days after they were sent
    tickets        that are resolved, with all that was said, so many days after that
    audit          what anybody changed, so many days after that
    sessions       of people, and links by which they come, when they have ended
    rollouts       that are over: their devices' parts, so many days after that. The rollout with its counts stays: it
                   says for whom its firmware is; so does the part of a device that is still offered it
    quarantine     messages that could not be stored, so many days after they came
    devices        that were deleted: their commands, incidents, tickets, notes, dumps, states, audit, names and
                   settings go, so many days later; the row stays, since it is what turns their keys away, and their
                   owner may read their history

The event log has partitions, which are dropped whole (see `workers.janitor`). Everything goes in small transactions
that leave alone what somebody else has locked.
"""

import logging
from datetime import datetime, timedelta

from schemas import logs
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool
from schemas.settings import WorkerSettings

log = logging.getLogger(__name__)

INTERVAL_S = 600.0
ROWS_MAX = 1_000
"""In one transaction."""
SESSIONS_KEPT = timedelta(days=7)
"""No session lives longer, whatever was seen of it."""

_COMMANDS = """
    DELETE FROM commands WHERE id IN (
        SELECT id FROM commands WHERE finished_at < $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_INCIDENTS = """
    DELETE FROM incidents WHERE id IN (
        SELECT id FROM incidents WHERE closed_at < $1 ORDER BY closed_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_DUMPS = """
    DELETE FROM dumps WHERE id IN (
        SELECT id FROM dumps WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_TICKETS = """
    DELETE FROM tickets WHERE id IN (
        SELECT id FROM tickets WHERE resolved_at < $1 ORDER BY resolved_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
# Whoever is offered the firmware may fetch it because of its part. Locked, so that no device is offered it meanwhile.
_PARTS = """
    WITH old AS (
        SELECT p.rollout_id, p.device_id FROM rollouts r
          JOIN rollout_devices p ON p.rollout_id = r.id JOIN devices d ON d.id = p.device_id
         WHERE r.settled_at < $1 AND d.latest_fw_file_id IS DISTINCT FROM r.file_id
         LIMIT $2 FOR NO KEY UPDATE OF d SKIP LOCKED)
    DELETE FROM rollout_devices p USING old WHERE p.rollout_id = old.rollout_id AND p.device_id = old.device_id
"""
# Ids of a shard grow with time: its oldest rows come first.
_QUARANTINE = """
    DELETE FROM ingest_quarantine WHERE shard = $3 AND id IN (
        SELECT id FROM (SELECT id, stored_at FROM ingest_quarantine WHERE shard = $3 ORDER BY id LIMIT $2) AS oldest
         WHERE stored_at < $1)
"""
_AUDIT = """
    DELETE FROM audit_log WHERE id IN (
        SELECT id FROM audit_log WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_SESSIONS = """
    DELETE FROM sessions WHERE id IN (
        SELECT id FROM sessions WHERE seen_at < $1 ORDER BY seen_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_LINKS = """
    DELETE FROM sign_in_links WHERE digest IN (
        SELECT digest FROM sign_in_links WHERE expires_at < $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
_DELETED = """
    SELECT id, shard FROM devices WHERE deleted_at < $1 AND NOT emptied
     ORDER BY deleted_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
"""


class Retention:
    """Deletes in turn. Several may run."""

    def __init__(self, pool: Pool, metrics: Metrics, settings: WorkerSettings, shards: int) -> None:
        self._pool = pool
        self._metrics = metrics
        self._settings = settings
        self._shards = shards

    async def tidy(self, now: datetime | None = None) -> None:
        """Delete all that is too old. `now` stands for the clock of Postgres."""
        now = now or await self._pool.fetchval("SELECT now()")
        settings = self._settings
        await self._delete("commands", _COMMANDS, now - timedelta(days=settings.commands_days))
        await self._delete("incidents", _INCIDENTS, now - timedelta(days=settings.incidents_days))
        await self._delete("dumps", _DUMPS, now - timedelta(days=settings.dumps_days))
        await self._delete("tickets", _TICKETS, now - timedelta(days=settings.tickets_days))
        await self._delete("audit", _AUDIT, now - timedelta(days=settings.audit_days))
        await self._delete("sessions", _SESSIONS, now - SESSIONS_KEPT)
        await self._delete("links", _LINKS, now)
        await self._delete("parts in rollouts", _PARTS, now - timedelta(days=settings.rollouts_days))
        for shard in range(self._shards):
            await self._delete("quarantine", _QUARANTINE, now - timedelta(days=settings.quarantine_days), shard)
        before, emptied = now - timedelta(days=settings.deleted_devices_days), ROWS_MAX
        while emptied == ROWS_MAX:
            async with self._pool.acquire() as connection, connection.transaction():
                emptied = await _empty_deleted(connection, before)
            self._count("devices", emptied)

    async def _delete(self, what: str, statement: str, before: datetime, *shard: int) -> None:
        deleted = ROWS_MAX
        while deleted == ROWS_MAX:
            deleted = int((await self._pool.execute(statement, before, ROWS_MAX, *shard)).rpartition(" ")[2])
            self._count(what, deleted)

    def _count(self, what: str, rows: int) -> None:
        if rows:
            self._metrics.retention_ended.labels(what).inc(rows)
            logs.event(log, logging.INFO, "retention_ended", what=what, rows=rows)


async def _empty_deleted(connection: Connection, before: datetime) -> int:
    rows = await connection.fetch(_DELETED, before, ROWS_MAX)
    device_ids, shards = [row["id"] for row in rows], [row["shard"] for row in rows]
    if not rows:
        return 0
    for table in ("commands", "incidents", "tickets", "notes", "dumps", "device_audit", "device_replacements"):
        await connection.execute(f"DELETE FROM {table} WHERE device_id = ANY($1::uuid[])", device_ids)
    for table in ("device_state", "device_reported"):
        await connection.execute(
            f"DELETE FROM {table} WHERE shard = ANY($1::smallint[]) AND device_id = ANY($2::uuid[])", shards, device_ids
        )
    await connection.execute(
        """UPDATE devices SET emptied = true, name = '', description = '', labels = '{}', details = '{}', config = '{}',
                  cloud_settings = '{}', host_address = NULL, sub_model = NULL, asked_back_at = NULL,
                  asked_back_address = NULL, asked_back_firmware = NULL
            WHERE id = ANY($1::uuid[])""",
        device_ids,
    )
    return len(rows)
