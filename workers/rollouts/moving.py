"""Moves parts of a rollout on: reads the evidence of some devices, lets it be judged, and writes what came of it.

Locks, after the rollout's row: devices by id, without waiting (who is busy is looked at again), their commands, and the
parts last, since triggers on devices and commands reach for them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from schemas import firmware, ids, outbox
from schemas.life_cycle import CommandUpdated, LifeCycle, RolloutUpdated
from schemas.postgres import Connection
from schemas.rollouts import OPEN, OUTCOMES, UPDATE_COMMAND, PartState
from workers.rollouts import store
from workers.rollouts.parts import Evidence, Part, Terms
from workers.rollouts.store import Rollout

Decide = Callable[[Part, Evidence, Terms, datetime], Part]
Url = Callable[[UUID, UUID, datetime], str]
"""Where a device fetches a file from a moment on."""

_PARTS = """
    SELECT p.device_id, p.wave, p.state, p.reason, p.attempts, p.offered_at, p.due_at, p.begun, p.command_id,
           p.fetch_began_at, p.fetched_at, p.told_failed, d.firmware_reported_at, d.firmware_version,
           c.status AS command, c.message AS command_message, c.delivered_at, c.finished_at,
           coalesce(s.time_zone, 'UTC') AS zone,
           CASE WHEN d.deleted_at IS NOT NULL THEN 'it was deleted'
                WHEN d.model_id <> $3 THEN 'it is of another model'
                WHEN NOT $4 AND d.organization_id IS DISTINCT FROM $5 THEN 'it has another owner' END AS gone,
           CASE WHEN semver_key(d.firmware_version) COLLATE "C" = $6 THEN 0
                WHEN semver_key(d.firmware_version) COLLATE "C" > $6 THEN 1 ELSE -1 END AS compared,
           $7::text IS NULL OR coalesce(semver_key(d.firmware_version) COLLATE "C" >= $7, false) AS meets_least,
           EXISTS (SELECT FROM rollout_devices o WHERE o.device_id = p.device_id AND o.rollout_id <> p.rollout_id
                       AND o.state IN ('offered', 'downloading', 'installing')) AS busy,
           NOT $8 AND EXISTS (SELECT FROM rollout_devices o JOIN rollouts r ON r.id = o.rollout_id
                                JOIN files f ON f.id = r.file_id
                               WHERE o.device_id = p.device_id AND o.rollout_id <> p.rollout_id AND o.state = 'waiting'
                                 AND r.status = 'running' AND o.wave BETWEEN 1 AND r.wave
                                 AND (f.version_key > $6 OR r.downgrade)) AS superseded
      FROM rollout_devices p JOIN devices d ON d.id = p.device_id
      LEFT JOIN spaces s ON s.id = d.space_id LEFT JOIN commands c ON c.id = p.command_id
     WHERE p.rollout_id = $1 AND p.device_id = ANY($2::uuid[]) ORDER BY p.device_id
"""


class Moved(NamedTuple):
    """What was looked at, and the devices whose parts changed."""

    looked_at: int
    device_ids: list[UUID]
    outcomes: list[PartState]


class _Change(NamedTuple):
    row: Any
    was: Part
    now: Part
    seen: Evidence


async def move(
    connection: Connection, rollout: Rollout, device_ids: Sequence[UUID], decide: Decide, url: Url, now: datetime
) -> Moved:
    """Let `decide` judge the parts of these devices, those that nobody else is changing."""
    locked = await connection.fetch(
        "SELECT id FROM devices WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED", device_ids
    )
    free = [row["id"] for row in locked]
    await connection.execute(
        """SELECT FROM commands WHERE id IN (
               SELECT command_id FROM rollout_devices WHERE rollout_id = $1 AND device_id = ANY($2::uuid[]))
            ORDER BY number FOR NO KEY UPDATE""",
        rollout.id,
        free,
    )
    await connection.execute(
        """SELECT FROM rollout_devices WHERE rollout_id = $1 AND device_id = ANY($2::uuid[])
            ORDER BY device_id FOR UPDATE""",
        rollout.id,
        free,
    )
    rows = await connection.fetch(
        _PARTS,
        rollout.id,
        free,
        rollout.model_id,
        rollout.as_vendor,
        rollout.organization_id,
        rollout.version_key,
        rollout.min_version_key,
        rollout.downgrade,
    )
    changes = []
    for row in rows:
        was, seen = _part(row), _evidence(row, rollout, now)
        part = decide(was, seen, rollout.terms, now)
        if part != was or _to_be_sent(row, part, seen, rollout):
            changes.append(_Change(row, was, part, seen))
    if changes:
        await _write(connection, rollout, changes, url, now)
    told = [change for change in changes if change.was.state != change.now.state]
    return Moved(len(free), [c.row["device_id"] for c in changes], [c.now.state for c in told])


async def _write(connection: Connection, rollout: Rollout, changes: Sequence[_Change], url: Url, now: datetime) -> None:
    events: dict[UUID, list[LifeCycle]] = {change.row["device_id"]: [] for change in changes}
    left = [c.row["command_id"] for c in changes if c.row["command_id"] and c.now.state not in OPEN]
    for row in await _cancel(connection, left, now):
        events[row["device_id"]].append(CommandUpdated.of_row(row))
    to_send = [c for c in changes if _to_be_sent(c.row, c.now, c.seen, rollout)]
    commands = await _send(connection, rollout, [c.row["device_id"] for c in to_send], url, now)
    for device_id, command_id in commands.items():
        events[device_id].append(
            CommandUpdated(command_id=command_id, name=UPDATE_COMMAND, status="pending", message=None)
        )
    await _store(connection, rollout.id, changes, commands, now)
    counted: list[tuple[int, PartState, int, int]] = []
    for change in changes:
        wave, begun = change.row["wave"], _begun(change)
        counted.append((wave, change.was.state, -1, -int(change.row["begun"])))
        counted.append((wave, change.now.state, 1, int(begun)))
        if change.was.state != change.now.state:
            events[change.row["device_id"]].append(
                RolloutUpdated(
                    rollout_id=rollout.id,
                    name=rollout.name,
                    version=rollout.version,
                    wave=wave,
                    state=change.now.state,
                    reason=change.now.reason,
                )
            )
    await store.count(connection, rollout.id, counted)
    await firmware.choose(connection, list(events))
    await outbox.append(
        connection, [outbox.event(device_id, event, now) for device_id, told in events.items() for event in told]
    )


async def _store(
    connection: Connection, rollout_id: UUID, changes: Sequence[_Change], commands: Mapping[UUID, UUID], now: datetime
) -> None:
    rows = []
    for change in changes:
        device_id, part = change.row["device_id"], change.now
        newly = part.state == "offered" and change.was.state != "offered"
        # What was seen of an attempt is forgotten with it.
        fresh = newly or part.state == "waiting"
        rows.append(
            (
                device_id,
                part.state,
                part.reason,
                part.attempts,
                part.offered_at,
                part.due_at,
                _begun(change),
                None if fresh and device_id not in commands else commands.get(device_id, change.row["command_id"]),
                now if part.state in OUTCOMES else None,
                newly,
                fresh,
            )
        )
    await connection.execute(
        """UPDATE rollout_devices p
              SET state = w.state, reason = w.reason, attempts = w.attempts, offered_at = w.offered_at,
                  due_at = w.due_at, begun = w.begun, command_id = w.command_id, ended_at = w.ended_at,
                  last_offered_at = CASE WHEN w.newly THEN $13 ELSE p.last_offered_at END,
                  fetch_began_at = CASE WHEN NOT w.fresh THEN p.fetch_began_at END,
                  fetched_at = CASE WHEN NOT w.fresh THEN p.fetched_at END,
                  told_failed = CASE WHEN NOT w.fresh THEN p.told_failed END
             FROM unnest($2::uuid[], $3::text[], $4::text[], $5::int[], $6::timestamptz[], $7::timestamptz[],
                         $8::boolean[], $9::uuid[], $10::timestamptz[], $11::boolean[], $12::boolean[])
                  AS w (device_id, state, reason, attempts, offered_at, due_at, begun, command_id, ended_at,
                        newly, fresh)
            WHERE p.rollout_id = $1 AND p.device_id = w.device_id""",
        rollout_id,
        *zip(*rows, strict=True),
        now,
    )


async def _send(
    connection: Connection, rollout: Rollout, device_ids: Sequence[UUID], url: Url, now: datetime
) -> dict[UUID, UUID]:
    """Send `update_firmware` to devices; returns the commands."""
    if not device_ids:
        return {}
    commands = {device_id: ids.new_id() for device_id in device_ids}
    parameters = [
        {
            "url": url(device_id, rollout.file_id, now),
            "version": rollout.version,
            "checksum": rollout.checksum,
            "signature": rollout.signature,
        }
        for device_id in device_ids
    ]
    await connection.execute(
        """INSERT INTO commands (id, device_id, name, friendly_name, parameters, status, timeout_s, created_at,
                                 expires_at, rollout_id)
           SELECT w.id, w.device_id, $4, 'Update firmware', w.parameters, 'pending', $5, $6, $7, $8
             FROM unnest($1::uuid[], $2::uuid[], $3::json[]) AS w (id, device_id, parameters)""",
        list(commands.values()),
        list(commands),
        parameters,
        UPDATE_COMMAND,
        rollout.report_timeout_s,
        now,
        now + rollout.terms.timeout,
        rollout.id,
    )
    return commands


async def _cancel(connection: Connection, command_ids: Sequence[UUID], now: datetime) -> list[Any]:
    """Abort those of these commands that no device has seen yet."""
    if not command_ids:
        return []
    rows: list[Any] = await connection.fetch(
        """UPDATE commands SET status = 'aborted', finished_at = $2, message = 'taken back by its rollout'
            WHERE id = ANY($1::uuid[]) AND status IN ('scheduled', 'pending') AND delivered_at IS NULL
            RETURNING id, device_id, name, status, message""",
        command_ids,
        now,
    )
    return rows


def _to_be_sent(row: Any, part: Part, seen: Evidence, rollout: Rollout) -> bool:
    newly = row["state"] == "waiting"
    return (
        rollout.channel == "command"
        and rollout.status == "running"
        and part.state in OPEN
        and (newly or row["command_id"] is None)
        and seen.may_install
    )


def _begun(change: _Change) -> bool:
    if change.now.state == "waiting" or (change.was.state == "waiting" and change.now.state == "offered"):
        return False
    return bool(change.row["begun"]) or (change.was.state in OPEN and change.seen.begun)


def _part(row: Any) -> Part:
    return Part(**{name: row[name] for name in Part.__struct_fields__})


def _evidence(row: Any, rollout: Rollout, now: datetime) -> Evidence:
    window = rollout.window
    is_open = window is None or window.is_open(now, row["zone"])
    # A waiting part has none of an attempt before.
    attempt = {} if row["state"] == "waiting" else {name: row[name] for name in _OF_ATTEMPT}
    return Evidence(
        gone=row["gone"],
        busy=row["busy"],
        superseded=row["superseded"],
        compared=row["compared"],
        meets_least=row["meets_least"],
        reported_at=row["firmware_reported_at"],
        may_fetch=is_open or rollout.download_before,
        may_install=is_open,
        window_changes_at=None if window is None else window.next_change(now, row["zone"]),
        **attempt,
    )


_OF_ATTEMPT = (
    "fetch_began_at",
    "fetched_at",
    "told_failed",
    "command",
    "command_message",
    "delivered_at",
    "finished_at",
)
