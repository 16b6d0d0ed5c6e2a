"""Carries rollouts out: enters their devices, opens waves, offers the firmware, watches gates, and ends what is over.

A step is one transaction that holds the rollout's row: it looks at what is due, decides, and offers to some devices
more. All that it goes by is stored, so a worker that dies leaves a rollout between two steps, and any other worker goes
on. Several may run: each takes the rollouts that no other one has just then.

Replies are rewritten after the commit, or by whoever drains `reply_queue`.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec.structs import replace

from schemas import logs, replies
from schemas.metrics import Metrics
from schemas.postgres import Connection, Pool
from schemas.redis import Redis
from schemas.rollouts import ENDED, OPEN, OUTCOMES, PartState, RolloutStatus
from workers.checkpoints import Checkpoint
from workers.rollouts import moving, parts, store, waves
from workers.rollouts.moving import Moved, Url
from workers.rollouts.store import SLICE, Rollout, StoredWave
from workers.turns import Turns

log = logging.getLogger(__name__)

TURN_S = 2.0
"""Rollouts are left after so long, to be taken up again: whoever shuts down waits for no more. Of a worker that rests,
its share of that."""
AGAIN = timedelta(seconds=10)
"""Looked so often for devices that came later, and for such as wait for their windows or for other rollouts."""
MINUTE = timedelta(minutes=1)
WITHDRAWN = "its file was withdrawn"
NO_WAVE = "it is of no wave"
GATE = "the gate of wave {}: {} of {} that reported have failed"


class Rollouts:
    """Steps all rollouts that are under way."""

    def __init__(
        self,
        pool: Pool,
        redis: Redis,
        metrics: Metrics,
        url: Url,
        slice_max: int = SLICE,
        checkpoint: Checkpoint = lambda _: None,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._redis = redis
        self._metrics = metrics
        self._url = url
        self._slice_max = slice_max
        self._checkpoint = checkpoint
        self._turns = Turns(share, TURN_S, clock)
        self._scanned: dict[UUID, datetime] = {}
        self._nobody_since: dict[UUID, datetime] = {}

    async def advance(self, now: datetime | None = None) -> int:
        """Take steps for a turn, or until there is nothing to do; returns how many: none while the worker rests behind
        what it did. `now` stands for the time of day.
        """
        with self._turns.turn() as goes_on:
            return await self._turn(now, goes_on) if goes_on() else 0

    async def _turn(self, now: datetime | None, goes_on: Callable[[], bool]) -> int:
        taken = 0
        async with self._pool.acquire() as connection:
            busy = await store.unsettled(connection)
            for memory in (self._scanned, self._nobody_since):
                for rollout_id in memory.keys() - set(busy):
                    del memory[rollout_id]
            while busy and goes_on():
                still = []
                for rollout_id in busy:
                    if await self._step(connection, rollout_id, now or datetime.now(UTC)):
                        taken += 1
                        still.append(rollout_id)
                busy = still
        return taken

    async def _step(self, connection: Connection, rollout_id: UUID, now: datetime) -> bool:
        """One step of a rollout; returns whether another one may have something to do."""
        touched: list[UUID] = []
        async with connection.transaction():
            rollout = await store.lock(connection, rollout_id)
            if rollout is None:
                return False
            was = rollout.status
            more = await _Step(connection, rollout, self._url, now, self._slice_max, touched, self).take()
            self._checkpoint("rollout_step")
        self._checkpoint("rollout_committed")
        if rollout.status != was:
            logs.event(log, logging.INFO, "rollout_updated", rollout=str(rollout_id), status=rollout.status)
        if touched:
            await replies.publish(connection, self._redis, touched)
        return more

    def counted(self, moved: Moved) -> None:
        """Parts that ended."""
        for outcome in moved.outcomes:
            if outcome in OUTCOMES or outcome == "offered":
                self._metrics.rollout_parts.labels(outcome).inc()

    def scan_due(self, rollout_id: UUID, now: datetime) -> bool:
        """Whether to look for devices that came later."""
        return _due(self._scanned, rollout_id, now)

    def offer_due(self, rollout_id: UUID, now: datetime) -> bool:
        """Whether to look for devices to be offered the firmware, though a moment ago there were none."""
        return _due(self._nobody_since, rollout_id, now)

    def scanned(self, rollout_id: UUID, now: datetime) -> None:
        """All devices were looked at."""
        self._scanned[rollout_id] = now

    def nobody(self, rollout_id: UUID, now: datetime, *, found: bool) -> None:
        """Whether somebody was there to be offered the firmware."""
        self._nobody_since.pop(rollout_id, None)
        if not found:
            self._nobody_since[rollout_id] = now


def _due(memory: dict[UUID, datetime], rollout_id: UUID, now: datetime) -> bool:
    since = memory.get(rollout_id)
    return since is None or abs(now - since) >= AGAIN


class _Step:
    """A step under way, in its transaction."""

    def __init__(
        self,
        connection: Connection,
        rollout: Rollout,
        url: Url,
        now: datetime,
        slice_max: int,
        touched: list[UUID],
        rollouts: Rollouts,
    ) -> None:
        self._connection = connection
        self._rollout = rollout
        self._url = url
        self._now = now
        self._slice_max = slice_max
        self._touched = touched
        self._memory = rollouts

    async def take(self) -> bool:
        """Returns whether another step may have something to do."""
        rollout = self._rollout
        if rollout.file_status != "released" and rollout.status not in ENDED:
            await store.set_status(self._connection, rollout, "aborted", self._now, WITHDRAWN)
        if rollout.status == "scheduled":
            if rollout.starts_at is not None and rollout.starts_at > self._now:
                return False
            await store.set_status(self._connection, rollout, "running", self._now)
        if await self._look():
            return True
        if rollout.status in ENDED:
            return await self._wind_up()
        if rollout.status == "paused":
            return False
        return await self._go_on()

    async def _look(self) -> bool:
        """Look at parts that are due, and at those that a paused or ended rollout takes back."""
        found = await self._connection.fetch(
            """(SELECT device_id FROM rollout_devices WHERE rollout_id = $1 AND due_at <= $2 ORDER BY due_at LIMIT $3)
               UNION
               (SELECT device_id FROM rollout_devices
                 WHERE $4 AND rollout_id = $1 AND state = 'offered' ORDER BY wave, position LIMIT $3)""",
            self._rollout.id,
            self._now,
            self._slice_max,
            self._rollout.status != "running",
        )
        return await self._move([row["device_id"] for row in found], parts.judge) if found else False

    async def _wind_up(self) -> bool:
        """Once a rollout has ended who waits is offered nothing; it is settled when nobody is at work any more."""
        outcome: PartState = "cancelled" if self._rollout.status == "aborted" else "skipped"
        reason = parts.ABORTED if outcome == "cancelled" else NO_WAVE
        if await store.end_waiting(self._connection, self._rollout.id, outcome, reason, self._now):
            return True
        counts = await store.counts(self._connection, self._rollout.id)
        if not any(of_wave[state].devices for of_wave in counts.values() for state in OPEN if state in of_wave):
            await store.settle(self._connection, self._rollout.id, self._now)
        return False

    async def _go_on(self) -> bool:
        rollout = self._rollout
        if not rollout.enrolled or (rollout.dynamic and self._memory.scan_due(rollout.id, self._now)):
            await store.enrol(self._connection, rollout, self._now)
            if rollout.enrolled_after == UUID(int=0):
                self._memory.scanned(rollout.id, self._now)
            return True
        stored = await store.waves(self._connection, rollout.id)
        counts = await store.counts(self._connection, rollout.id)
        current = stored[rollout.wave - 1] if rollout.wave else None
        if current is not None:
            of_wave = counts.get(rollout.wave, {})
            if (asked := waves.fires(current.state, of_wave)) is not None:
                await self._fire(current, waves.reports(of_wave), asked)
                return True
            if not current.filled:
                members = sum(one.devices for one in of_wave.values())
                await store.fill(self._connection, rollout, current, members)
                return True
            status = waves.next_status(current.state, of_wave, filled=current.filled, now=self._now)
            if status != current.state.status:
                since = self._now if status == "soaking" else None
                wave = replace(current.state, status=status, soaking_since=since)
                await store.store_wave(self._connection, rollout.id, wave, self._now)
                return True
        if await self._next_wave(stored, current):
            return True
        at_work = sum(waves.at_work(of) for number, of in counts.items() if number)
        last = current is not None and rollout.wave == len(stored) and current.state.status == "passed"
        if last and not rollout.dynamic and not at_work:
            await store.set_status(self._connection, rollout, "finished", self._now)
            return True
        waiting = any(of["waiting"].devices for number, of in counts.items() if number and "waiting" in of)
        return waiting and self._memory.offer_due(rollout.id, self._now) and await self._offer()

    async def _next_wave(self, stored: list[StoredWave], current: StoredWave | None) -> bool:
        """Begin the next wave when its turn has come."""
        if (current is not None and current.state.status != "passed") or self._rollout.wave == len(stored):
            return False
        following = stored[self._rollout.wave]
        if following.starts_at is not None and following.starts_at > self._now:
            return False
        await store.begin_wave(self._connection, self._rollout, following.state.number)
        return True

    async def _fire(self, wave: StoredWave, reports: waves.Reports, asked: str) -> None:
        rollout, connection = self._rollout, self._connection
        await store.store_wave(connection, rollout.id, replace(wave.state, fired=True), self._now)
        reason = GATE.format(wave.state.number, reports.failed, reports.all)
        status: RolloutStatus = "paused" if asked == "pause" else "aborted"
        await store.set_status(connection, rollout, status, self._now, reason)
        await store.note_gate(connection, rollout, {"status": status, "reason": reason}, self._now)
        if asked == "roll_back" and wave.back_to_id is not None:
            await store.take_back(connection, rollout, wave.back_to_id, self._now)
        logs.event(log, logging.WARNING, "rollout_gate_fired", rollout=str(rollout.id), asked=asked, reason=reason)

    async def _offer(self) -> bool:
        """Offer the firmware to the next devices of the waves that have begun, as many as may be in a minute."""
        rollout, most = self._rollout, self._slice_max
        if rollout.max_per_minute is not None:
            lately = await self._connection.fetchval(
                """SELECT count(*) FROM rollout_devices
                    WHERE rollout_id = $1 AND last_offered_at > $2 AND last_offered_at <= $3""",
                rollout.id,
                self._now - MINUTE,
                self._now,
            )
            most = min(most, rollout.max_per_minute - lately)
        if most <= 0:
            return False
        found = await self._connection.fetch(
            """SELECT p.device_id FROM rollout_devices p JOIN devices d ON d.id = p.device_id
                 LEFT JOIN spaces s ON s.id = d.space_id
                WHERE p.rollout_id = $1 AND p.state = 'waiting' AND p.wave BETWEEN 1 AND $2
                  AND ($3::text[] IS NULL OR coalesce(s.time_zone, 'UTC') = ANY($3))
                  AND NOT EXISTS (SELECT FROM rollout_devices o WHERE o.device_id = p.device_id
                                     AND o.state IN ('offered', 'downloading', 'installing'))
                ORDER BY p.wave, p.position LIMIT $4""",
            rollout.id,
            rollout.wave,
            await self._open_zones(),
            most,
        )
        if len(found) < most:
            await self._ask_others()
        self._memory.nobody(rollout.id, self._now, found=bool(found))
        return await self._move([row["device_id"] for row in found], parts.offer) if found else False

    async def _ask_others(self) -> None:
        """Have rollouts of older versions look at devices that were offered those, and are wanted here."""
        await self._connection.execute(
            """UPDATE rollout_devices o SET due_at = '-infinity'
                 FROM rollout_devices p, rollouts r, files f
                WHERE p.rollout_id = $1 AND p.state = 'waiting' AND p.wave BETWEEN 1 AND $2
                  AND o.device_id = p.device_id AND o.state = 'offered' AND o.due_at > '-infinity'
                  AND r.id = o.rollout_id AND f.id = r.file_id AND (f.version_key < $3 OR $4)""",
            self._rollout.id,
            self._rollout.wave,
            self._rollout.version_key,
            self._rollout.downgrade,
        )

    async def _open_zones(self) -> list[str] | None:
        """The time zones in which the rollout's window is open; None without one, or where it does not matter."""
        window = self._rollout.window
        if window is None or self._rollout.download_before:
            return None
        rows = await self._connection.fetch("SELECT DISTINCT time_zone FROM spaces")
        zones = {"UTC", *(row["time_zone"] for row in rows)}
        return [zone for zone in zones if window.is_open(self._now, zone)]

    async def _move(self, device_ids: list[UUID], decide: moving.Decide) -> bool:
        moved = await moving.move(self._connection, self._rollout, device_ids, decide, self._url, self._now)
        self._touched += moved.device_ids
        self._memory.counted(moved)
        return bool(moved.device_ids)
