"""Random lives of rollouts: reports and lost ones, pauses, aborts, restarts, clocks, two workers, devices that leave.

The plain model beside each is a list of what was done to every device. From that it says what may have become of the
device, who may be offered anything, and when a gate had to fire; it knows nothing of how the worker goes about it.
"""

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from campaigns import Campaign, campaign
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from owners import Owner

from gateway.refusals import Refusal
from gateway.stores import models
from gateway.stores.change import change
from gateway.stores.commands import delivery
from gateway.stores.rollouts import campaigns as store
from gateway.stores.whose import Whose
from schemas.redis import Redis
from schemas.rollouts import OPEN, OUTCOMES, position, positions_below

TARGET, BEFORE = "2.0.0", "1.0.0"
DEVICES, STEPS = 8, 40
TIMEOUT_S, GRACE_S, RETRIES, PACE = 3_600, 60, 1, 4
PERCENTS = (30, 60, 100)
MIN_REPORTED, FAILED_PERCENT = 2, 50
_numbers = itertools.count(1)


@dataclass
class Known:
    """What was done to a device."""

    version: str = BEFORE
    gone: bool = False
    reached_target: bool = False
    failures: int = 0
    begun_at: list[datetime] = field(default_factory=list)
    wave: int = 0
    states: list[str] = field(default_factory=list)


class Life:
    """A rollout, its devices, and the model beside it."""

    def __init__(self, edge: Any, owner: Owner, spring: Campaign, devices: list[UUID], source: random.Random) -> None:
        self.edge, self.owner, self.spring, self.source = edge, owner, spring, source
        self.known = {device_id: Known() for device_id in devices}
        self.issuer = Whose(owner.organization_id, False)
        self.ended = False
        self.fired: set[int] = set()
        self.latest = spring.now
        spring.workers = [spring.worker(), spring.worker()]

    async def act(self) -> None:
        """Do one thing at random; some are done several times before a worker looks."""
        doing = self.source.choices(
            (
                self.fetches,
                self.succeeds,
                self.fails,
                self.reports,
                self.person,
                self.restarts,
                self.passes,
                self.leaves,
            ),
            (6, 6, 3, 3, 2, 1, 5, 1),
        )[0]
        await doing(self.source.choice(list(self.known)))

    async def fetches(self, device_id: UUID) -> None:
        async with self.owner.pool.acquire() as connection:
            found = await delivery.hand_out(connection, [device_id], self.spring.now)
        if found:
            self.known[device_id].begun_at.append(self.spring.now)

    async def _command(self, device_id: UUID, status: Any) -> bool:
        command = await self.owner.pool.fetchval(
            "SELECT id FROM commands WHERE device_id = $1 AND status IN ('pending', 'in_progress')", device_id
        )
        delivered = await self.owner.pool.fetchval("SELECT delivered_at FROM commands WHERE id = $1", command)
        if delivered is None:
            return False  # it has not fetched it
        async with change(self.edge.services) as changed:
            changed.moment = self.spring.now
            await delivery.report(changed, device_id, command, status, None)
        return True

    async def succeeds(self, device_id: UUID) -> None:
        """The answer to the command is lost now and then; the version counts."""
        if self.source.random() < 0.7:
            await self._command(device_id, "done")
        if self.known[device_id].begun_at:
            await self._tells(device_id, TARGET)

    async def fails(self, device_id: UUID) -> None:
        status = self.source.choice(("failed", "done"))  # done, and nothing comes of it
        if await self._command(device_id, status):
            self.known[device_id].failures += 1

    async def reports(self, device_id: UUID) -> None:
        """What it had before, after a power cut."""
        await self._tells(device_id, BEFORE)
        self.known[device_id].failures += 1

    async def _tells(self, device_id: UUID, version: str) -> None:
        await self.spring.reports(device_id, version)
        known = self.known[device_id]
        known.version = version
        known.reached_target |= version == TARGET

    async def person(self, _: UUID) -> None:
        action: Any = self.source.choices(("pause", "resume", "abort", "next_wave"), (4, 6, 1, 2))[0]
        try:
            async with change(self.edge.services) as changed:
                changed.moment = self.spring.now
                await store.act(changed, self.issuer, UUID(self.spring.id), action, by="someone")
        except Refusal:
            return
        self.ended |= action == "abort"

    async def restarts(self, _: UUID) -> None:
        self.spring.workers = [self.spring.worker(), self.spring.worker()]

    async def passes(self, _: UUID) -> None:
        """Time, backwards too."""
        self.spring.now += timedelta(seconds=self.source.choice((1, 5, 30, 61, 600, TIMEOUT_S, -90)))
        self.latest = max(self.latest, self.spring.now)

    async def leaves(self, device_id: UUID) -> None:
        how = self.source.choice(("deleted_at = now()", "model_id = $2", "organization_id = NULL, project_id = NULL"))
        pool = self.owner.pool
        if "model_id" in how:
            await pool.execute(f"UPDATE devices SET {how} WHERE id = $1", device_id, self.owner.model_id)
        elif "organization_id" in how:
            how += ", space_id = NULL, claimed_at = NULL"
            await pool.execute(f"UPDATE devices SET {how} WHERE id = $1", device_id)
        else:
            await pool.execute(f"UPDATE devices SET {how} WHERE id = $1", device_id)
        self.known[device_id].gone = True

    async def work(self) -> None:
        """Both workers at once, as long as there is something to do; a moment later, as for who is busy."""
        while any(await asyncio.gather(*(worker.advance(self.spring.now) for worker in self.spring.workers))):
            pass
        await self.spring.advance()

    async def check(self) -> None:
        """What must hold after every step."""
        found = await self.owner.pool.fetchrow("SELECT * FROM rollouts WHERE id = $1", UUID(self.spring.id))
        parts = await self.owner.pool.fetch(
            """SELECT p.*, d.latest_fw_file_id FROM rollout_devices p JOIN devices d ON d.id = p.device_id
                WHERE rollout_id = $1""",
            found["id"],
        )
        counted = await self.owner.pool.fetch("SELECT * FROM rollout_counts WHERE rollout_id = $1", found["id"])
        assert Counter((row["wave"], row["state"]) for row in parts) == Counter(
            {(row["wave"], row["state"]): row["devices"] for row in counted if row["devices"]}
        )
        assert sum(row["begun"] for row in counted) == sum(row["begun"] for row in parts)
        lately = [row["last_offered_at"] for row in parts if row["last_offered_at"] is not None]
        minute = [at for at in lately if self.spring.now - timedelta(minutes=1) < at <= self.spring.now]
        assert len(minute) <= PACE
        for row in parts:
            self._check_part(row, found)
        await self._check_gate(found, parts)

    def _check_part(self, row: Any, rollout: Any) -> None:
        device_id, state, known = row["device_id"], row["state"], self.known[row["device_id"]]
        # Nobody outside the waves that have begun is offered anything, and who is in one stays in it.
        belongs = next(n for n, p in enumerate(PERCENTS, 1) if position(rollout["id"], device_id) < positions_below(p))
        assert row["wave"] in (0, belongs)
        assert row["wave"] <= rollout["wave"]
        assert not known.wave or row["wave"] == known.wave
        known.wave = row["wave"]
        # Of a device that is the owner's no more others decide.
        is_told = row["latest_fw_file_id"] == self.spring.file_id and not known.gone
        assert not is_told or state in OPEN
        if rollout["status"] != "running" and state in OPEN:
            assert state != "offered", "it had not begun"
        # Each outcome has its cause, and stays; but a device that succeeded may fall back.
        if state in OUTCOMES and known.states and known.states[-1] in OUTCOMES - {"succeeded"}:
            assert state == known.states[-1]
        match state:
            case "succeeded":
                assert known.reached_target
                assert known.version == TARGET or rollout["status"] in ("finished", "aborted") or known.gone
            case "failed":
                assert known.failures
                assert row["attempts"] > RETRIES or self.ended
            case "timed_out":
                assert "offered" in known.states or row["last_offered_at"] is not None
                assert self.latest >= row["last_offered_at"] + timedelta(seconds=TIMEOUT_S)
            case "skipped":
                assert known.gone or known.reached_target
            case "cancelled":
                assert self.ended
                assert not row["begun"]
        if known.gone:
            assert state in OUTCOMES or rollout["status"] == "paused" or known.states[-1:] == ["succeeded"]
        known.states.append(state)

    async def _check_gate(self, rollout: Any, parts: list[Any]) -> None:
        """It fires where too many that reported have failed, once in a wave, and nowhere else."""
        waves = await self.owner.pool.fetch("SELECT * FROM rollout_waves WHERE rollout_id = $1", rollout["id"])
        for wave in waves:
            of_wave = [row for row in parts if row["wave"] == wave["number"]]
            failed = sum(row["state"] == "failed" or (row["state"] == "timed_out" and row["begun"]) for row in of_wave)
            reported = failed + sum(row["state"] == "succeeded" for row in of_wave)
            too_many = reported >= MIN_REPORTED and failed * 100 >= FAILED_PERCENT * reported
            fired = wave["fired_at"] is not None
            if fired and wave["number"] not in self.fired:
                self.fired.add(wave["number"])
                assert too_many
                assert rollout["status"] != "running", "what it asked for was done"
            if rollout["status"] == "running" and wave["number"] == rollout["wave"] and wave["status"] != "passed":
                assert fired or not too_many

    async def end(self) -> None:
        """Let the rollout go on until nothing is left to do: every device has one outcome then."""
        for _ in range(60):
            self.spring.now += timedelta(seconds=TIMEOUT_S / 2)
            self.latest = max(self.latest, self.spring.now)
            status = await self.owner.pool.fetchval("SELECT status FROM rollouts WHERE id = $1", UUID(self.spring.id))
            if status == "paused":
                async with change(self.edge.services) as changed:
                    await store.act(changed, self.issuer, UUID(self.spring.id), "resume", by="someone")
            await self.work()
            await self.check()
            if await self.owner.pool.fetchval(
                "SELECT settled_at IS NOT NULL FROM rollouts WHERE id = $1", UUID(self.spring.id)
            ):
                break
        else:
            pytest.fail("the rollout never ends")
        states = await self.spring.states()
        assert states.keys() == self.known.keys()
        assert set(states.values()) <= OUTCOMES


@settings(
    max_examples=6,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # to find a shorter life that fails as well would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(source=st.randoms(use_true_random=False))
async def test_every_device_ends_in_one_outcome_whatever_happens(
    edge: Any, acme: Owner, redis_client: Redis, source: random.Random
) -> None:
    """No gate fires early or twice, nobody outside the waves is offered anything, and the rollout ends."""
    async with acme.pool.acquire() as connection:
        model = await models.create(connection, acme.organization_id, vendor="Acme", name=f"Model {next(_numbers)}")
    other, acme.model_id = acme.model_id, model.id
    devices = [await acme.device() for _ in range(DEVICES)]
    gate = {"min_reported": MIN_REPORTED, "failed_percent": FAILED_PERCENT}
    spring = await campaign(
        acme,
        redis_client,
        TARGET,
        channel="command",
        report_timeout_s=TIMEOUT_S,
        grace_s=GRACE_S,
        retries=RETRIES,
        max_per_minute=PACE,
        waves=[{"percent": percent, "gate": gate} for percent in PERCENTS],
    )
    acme.model_id = other
    life = Life(edge, acme, spring, devices, source)
    await life.work()
    for _ in range(STEPS):
        await life.act()
        if source.random() < 0.7:
            await life.work()
            await life.check()
    await life.end()
