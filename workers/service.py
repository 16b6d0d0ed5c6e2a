"""One worker process: its share of the shards to flush, of the webhooks to send and of the lists to import, and the
loops that look after devices, commands and replies. `FLEETGATE_WORKER_ROLES` leaves it some of that only.

Postgres or Redis being away ends nothing: every loop tries again, and shards are taken again when both are there. A
loop that dies of a fault of ours ends the process with its cause; the supervisor starts another.
"""

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Literal

from schemas import blobs, download_tokens, logs, placement, postgres, redis
from schemas.blobs.store import BlobStore
from schemas.deliveries import SLOT_LOCKS, SLOTS
from schemas.master_keys import MasterKeys
from schemas.metrics import Metrics
from schemas.placement import Placement
from schemas.postgres import Pool, PostgresAway
from schemas.settings import SettingsError, WorkerSettings
from workers import (
    command_clock,
    due,
    file_janitor,
    firmware_sweep,
    janitor,
    key_overlaps,
    license_clock,
    postgres_history,
    replies,
    retention,
    standings,
)
from workers.checkpoints import Checkpoint
from workers.command_clock import CommandClock
from workers.dispatcher.dispatcher import Dispatcher
from workers.file_janitor import FileJanitor
from workers.firmware_sweep import FirmwareSweep
from workers.flusher import outbox
from workers.flusher.lanes import Lanes
from workers.importer.importer import Importer
from workers.janitor import Janitor
from workers.key_overlaps import KeyOverlaps
from workers.license_clock import LicenseClock
from workers.offline import OfflineSweep
from workers.postgres_history import PostgresHistory
from workers.replies import ReplyRefresher
from workers.retention import Retention
from workers.rollouts import store as rollouts
from workers.rollouts.rollouts import Rollouts
from workers.schedule import every
from workers.shares import Shares
from workers.standings import Standings

if TYPE_CHECKING:
    from workers.archiver.archiver import Archiver

log = logging.getLogger(__name__)

FLUSH_LOCKS = 0x666C7368
SWEEP_LOCKS = 0x73776565
RETRY_S = 1.0


async def run(settings: WorkerSettings, metrics: Metrics, stop: asyncio.Event, checkpoint: Checkpoint) -> None:
    """Run all loops of this worker's roles until `stop` is set. Raises SettingsError when the master key is another."""
    pool = await postgres.create_pool(settings.postgres_dsn, "worker", settings.postgres_pool)
    client = redis.connect(settings.redis_url, settings.redis_ca)
    store = blobs.open_store(settings)
    roles, share = settings.roles.split(","), settings.rollouts_share
    try:
        shards, master_keys, placed = await _installation(pool, settings, stop)
        history = PostgresHistory(pool, client, metrics)
        steps: dict[str, due.Step] = {}
        async with asyncio.TaskGroup() as group:
            if "flusher" in roles or "dispatcher" in roles:
                group.create_task(every(postgres_history.INTERVAL_S, history.look, stop), name="postgres history")
            if "flusher" in roles:
                lanes = Lanes(pool, client, metrics, settings, shards, history, checkpoint, placed)
                flushers = Shares(settings.postgres_dsn, "flusher", FLUSH_LOCKS, shards, lanes.own)
                group.create_task(flushers.run(stop), name="flushers")
                group.create_task(every(outbox.LOOK_S, lanes.take_outbox, stop), name="outbox")
            if "dispatcher" in roles and shards:
                dispatcher = Dispatcher(
                    settings,
                    metrics,
                    redis=client,
                    generation=lambda: history.generation,
                    checkpoint=checkpoint,
                    placement=placed,
                    store=store,
                )
                slots = Shares(settings.postgres_dsn, "dispatcher", SLOT_LOCKS, SLOTS, dispatcher.own)
                group.create_task(dispatcher.run(stop), name="dispatcher")
                group.create_task(slots.run(stop), name="dispatcher slots")
            if "importer" in roles and shards:
                importer = Importer(settings, pool, client, shards)
                group.create_task(importer.run(stop), name="importer")
            if "rollouts" in roles and master_keys is not None:
                url = functools.partial(download_tokens.url, settings.url, master_keys)
                campaigns = Rollouts(pool, client, metrics, url, checkpoint=checkpoint, share=share)
                steps[rollouts.DUE] = campaigns.advance
            if "archiver" in roles and settings.archive and shards:
                archiver = _archiver(pool, store, metrics, settings, shards, checkpoint)
                group.create_task(archiver.run(stop), name="archiver")
            if "upkeep" in roles:
                refresher = ReplyRefresher(pool, client)
                keeper = Retention(pool, metrics, settings, shards)
                hot_days = settings.archive_hot_days if settings.archive else None
                tidier = Janitor(pool, settings.retention_days, hot_days=hot_days, shards=shards)
                swept = Shares(settings.postgres_dsn, "offline sweep", SWEEP_LOCKS, shards, _until_done)
                sweeper = OfflineSweep(
                    pool, client, metrics, shards, owned=lambda: swept.slots, distributed=placed.distributed
                )
                clock = CommandClock(pool, client, metrics)
                licenses = LicenseClock(pool, client, metrics)
                overlaps = KeyOverlaps(pool, client)
                releases = FirmwareSweep(pool, client, share)
                files = FileJanitor(pool, store, metrics)
                kept = Standings(pool, placed, standings.SHARE)
                steps |= {
                    replies.DUE: refresher.drain,
                    key_overlaps.DUE: overlaps.end,
                    firmware_sweep.DUE: releases.advance,
                    command_clock.DUE: clock.advance,
                    license_clock.DUE: licenses.advance,
                    standings.DUE: kept.settle,
                }
                group.create_task(every(janitor.INTERVAL_S, tidier.tidy, stop), name="janitor")
                group.create_task(every(retention.INTERVAL_S, keeper.tidy, stop), name="retention")
                group.create_task(every(file_janitor.INTERVAL_S, files.tidy, stop), name="file janitor")
                group.create_task(swept.run(stop), name="offline sweep shards")
                group.create_task(every(settings.sweep_interval_s, sweeper.sweep, stop), name="offline sweep")
                group.create_task(every(standings.REPAIR_S, kept.repair, stop), name="repair of standings")
            if steps:
                group.create_task(due.run(pool, steps, stop), name="what is due")
    finally:
        await store.close()
        await client.aclose()
        await pool.close()


def _archiver(
    pool: Pool, store: BlobStore, metrics: Metrics, settings: WorkerSettings, shards: int, checkpoint: Checkpoint
) -> "Archiver":
    try:
        from workers.archiver.archiver import Archiver
    except ImportError:
        raise SettingsError("FLEETGATE_ARCHIVE is on: install fleetgate[archive]") from None
    return Archiver(pool, store, metrics, settings, shards, checkpoint)


async def _until_done(_shard: int, done: asyncio.Event) -> None:
    """The work on a shard that is swept with all others of this worker."""
    await done.wait()


async def _installation(
    pool: Pool, settings: WorkerSettings, stop: asyncio.Event
) -> tuple[int, MasterKeys, Placement] | tuple[Literal[0], None, Placement]:
    """How many shards there are, the master keys, and where the shards lie; nothing of it when `stop` was set before
    Postgres was there.
    """
    while not stop.is_set():
        try:
            await postgres.check_sessions(settings.postgres_dsn)
            found = await postgres.installation(pool)
            return found.shards, MasterKeys.fitting(found.generations, settings), await placement.find(pool)
        except PostgresAway as error:
            logs.event(log, logging.WARNING, "postgres_away", cause=str(error))
            await asyncio.sleep(RETRY_S)
    return 0, None, placement.ONE_POSTGRES
