"""Wires the dispatcher of one process, and hands its slots over."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from ssl import SSLContext

from aiohttp.abc import AbstractResolver

from schemas import postgres
from schemas.blobs.store import BlobStore
from schemas.egress import EgressPolicy
from schemas.metrics import Metrics
from schemas.placement import ONE_POSTGRES, Placement
from schemas.postgres import PostgresAway
from schemas.redis import Redis
from schemas.secrets import CONNECTOR_SECRETS, SIGNING_KEYS
from schemas.settings import WorkerSettings
from schemas.signing import issuer
from workers.checkpoints import Checkpoint
from workers.dispatcher import backlogs, failing, journal, stalls, surplus
from workers.dispatcher.backlogs import Backlogs
from workers.dispatcher.client import Client
from workers.dispatcher.commits import Commits
from workers.dispatcher.configurations import Configurations
from workers.dispatcher.failing import FailingSweep
from workers.dispatcher.feeder import Feeder
from workers.dispatcher.governor import Governor
from workers.dispatcher.jobs import Jobs
from workers.dispatcher.journal import Journal
from workers.dispatcher.lanes import Lanes
from workers.dispatcher.moved import MovedEvents
from workers.dispatcher.news import News
from workers.dispatcher.reading import EventLog, by_index
from workers.dispatcher.refresher import Refresher
from workers.dispatcher.requesting import Requesting
from workers.dispatcher.retry import Random
from workers.dispatcher.roster import Roster
from workers.dispatcher.session import Session
from workers.dispatcher.stalls import StallSweep
from workers.dispatcher.surplus import SurplusSweep
from workers.dispatcher.tail import Tail
from workers.dispatcher.test_events import TestEvents
from workers.egress import Dialer
from workers.schedule import every

log = logging.getLogger(__name__)

POOL = 3
HAND_OVER_S = 2.0
"""A slot that is given back waits so long for its requests under way; the new owner repeats those that take longer."""


class Dispatcher:
    """Everything that one process needs to send webhooks. `own` is the work on one slot (see `workers.shares`)."""

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: Metrics,
        *,
        redis: Redis | None = None,
        store: BlobStore | None = None,
        generation: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
        chance: Random = random.random,
        tls: SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        checkpoint: Checkpoint = lambda _: None,
        placement: Placement = ONE_POSTGRES,
    ) -> None:
        """`redis` is where flushers tell of new events; without it the log is asked all the time."""
        self._settings = settings
        self._redis = redis
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._tls = tls
        self._resolver = resolver
        self._checkpoint = checkpoint
        self._placement = placement
        self._moved = MovedEvents(store)
        policy = EgressPolicy(settings.egress_allow, http=settings.egress_http)
        self._policy = policy
        self._slots: set[int] = set()
        self._handed_over = asyncio.Event()
        self._handed_over.set()
        self._generation = generation
        self.roster = Roster()
        self.configurations = Configurations(
            settings.vault(CONNECTOR_SECRETS),
            policy,
            issuer=issuer(settings.url),
            exposed_max=settings.connector_deliveries_max,
            timeout_s=settings.delivery_timeout_s,
            clock=clock,
        )
        self.sweep: FailingSweep | None = None
        """While it runs: warns of connectors that keep failing, and disables them after five days."""
        self.stalls: StallSweep | None = None
        """While it runs: what looks for connectors that stand still."""

    def __repr__(self) -> str:
        return f"<Dispatcher {self.roster!r}>"

    async def own(self, slot: int, done: asyncio.Event) -> None:
        """Serve the connectors of a slot until `done` is set, then let the next owner find things in order."""
        self._slots.add(slot)
        self._handed_over.clear()
        try:
            self.roster.own(slot)
            await done.wait()
            await self._hand_over(slot)
        finally:
            self._slots.discard(slot)
            if not self._slots:
                self._handed_over.set()

    async def _hand_over(self, slot: int) -> None:
        leaving = self.roster.disown(slot)
        for connector in leaving:
            connector.leaving = True
        deadline = time.monotonic() + HAND_OVER_S
        while any(c.queue.exposed for c in leaving if not c.closed):
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(0.01)
        for connector in leaving:
            self.roster.remove(connector)

    async def run(self, stop: asyncio.Event) -> None:
        """Run all loops until `stop` is set and every slot is handed over. A loop that dies ends the process."""
        settings, roster, clock, placement = self._settings, self.roster, self._clock, self._placement
        pool = await postgres.create_pool(settings.postgres_dsn, "dispatcher", POOL)
        client = Client(
            Dialer(self._policy, self._resolver, self._tls, settings.delivery_timeout_s / 2),
            settings.delivery_timeout_s,
            clock,
        )
        governor = Governor(max(1, settings.connector_deliveries_max // 2))
        notes = Journal(pool, self._metrics)
        event_log = EventLog(self._moved, distributed=placement.distributed)
        requesting, dsn = Requesting(), settings.postgres_dsn
        # Lanes, commits and the feeder wake each other; none does before all are there.
        lanes = Lanes(
            client,
            notes,
            governor,
            settings.deliveries_max,
            done=lambda connector: commits.mark(connector),
            low=lambda connector: feeder.look(connector),
            spawn=requesting.spawn,
            clock=clock,
            random=self._chance,
        )
        commits = Commits(
            Session(dsn, "dispatcher commits"),
            roster,
            lanes.pump,
            timeout_s=settings.delivery_timeout_s,
            clock=clock,
            checkpoint=self._checkpoint,
        )
        feeder = Feeder(event_log, dsn, roster, lanes.pump, requesting.spawn, clock, placement)
        news = [News(self._redis) for _ in placement.every()]
        tails = [
            Tail(event_log, Session(dsn, "dispatcher tail", by_index), roster, told, lanes.pump, clock, shards)
            for told, shards in zip(news, placement.every(), strict=True)
        ]
        jobs = Jobs(Session(dsn, "dispatcher jobs", by_index), roster, self._moved, alone=placement.distributed)
        kept = Backlogs(Session(dsn, "dispatcher backlogs", by_index), event_log, roster, clock, placement)
        test_events = TestEvents(pool, roster, self.configurations, lanes, notes, clock)
        surplus_sweep = SurplusSweep(pool, roster, settings.connector_waiting_max)
        self.sweep = sweep = FailingSweep(pool, roster, lanes.pump, self._metrics, clock)
        self.stalls = stalled = StallSweep(pool, roster, lanes, self._metrics, clock, placement)

        def on_notification(served: bool) -> None:
            jobs.wake()
            if not served:
                test_events.wake()

        refresher = Refresher(
            dsn,
            roster,
            self.configurations,
            settings.vault(SIGNING_KEYS),
            lanes,
            on_notification,
            clock=clock,
            generation=self._generation,
            placement=placement,
        )

        async def write_notes() -> None:
            await notes.write(clock())

        ending = asyncio.Event()

        try:
            async with asyncio.TaskGroup() as group:
                requests = group.create_task(requesting.run(), name="dispatcher requests")
                group.create_task(governor.run(ending, lanes.raised), name="dispatcher governor")
                for told, tail in zip(news, tails, strict=True):
                    group.create_task(told.run(ending), name="dispatcher news")
                    group.create_task(tail.run(ending), name="dispatcher tail")
                group.create_task(refresher.run(ending), name="dispatcher roster")
                group.create_task(feeder.run(ending), name="dispatcher feeder")
                group.create_task(test_events.run(ending), name="dispatcher tests")
                group.create_task(jobs.run(ending), name="dispatcher jobs")
                group.create_task(commits.run(ending), name="dispatcher commits")
                group.create_task(every(journal.INTERVAL_S, write_notes, ending), name="dispatcher journal")
                group.create_task(every(failing.INTERVAL_S, sweep.sweep, ending), name="dispatcher failing")
                group.create_task(every(backlogs.INTERVAL_S, kept.sweep, ending), name="dispatcher backlogs")
                group.create_task(every(surplus.INTERVAL_S, surplus_sweep.sweep, ending), name="dispatcher surplus")
                group.create_task(every(stalls.INTERVAL_S, stalled.sweep, ending), name="dispatcher stalls")
                await stop.wait()
                await self._handed_over.wait()
                ending.set()
                roster.outdated.set()
                commits.wake()
                test_events.wake()
                jobs.wake()
                requests.cancel()
            with contextlib.suppress(PostgresAway):
                while await notes.write(clock()):
                    pass
        finally:
            await client.close()
            await feeder.close()
            await self._moved.close()
            for tail in tails:
                await tail.close()
            for loop in (commits, jobs, kept):
                await loop.close()
            await pool.close()
