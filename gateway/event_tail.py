"""Follows the event log for those who watch it: one reader an edge, however many watch.

    log ──new events of watched projects──▶ tail ──those that pass the filter──▶ watch ──▶ its client

The tail reads only while somebody watches. A watch begins at the head of the log: nothing is replayed. What its client
does not read in time waits in a buffer with a limit; beyond it the watch has overflowed and is over, so that a slow
reader costs neither memory nor the others' time. While Postgres is away nothing comes, and nothing is lost: the tail
goes on from its place. Each node of a distributed data plane is read by itself, so one that is away stops no others.
"""

import asyncio
import functools
import logging
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway.refusals import TooMany, Unavailable, retry_after_s
from gateway.stores.events import log as stored_log
from gateway.stores.events.log import Span
from schemas import event_log, ids, logs, rendering
from schemas.device_models import DeviceModels, ModelNames
from schemas.metrics import Metrics
from schemas.placement import Placement
from schemas.postgres import Pool, PostgresAway
from schemas.settings import EdgeSettings

log = logging.getLogger(__name__)

POLL_S = 0.1
RETRY_S = 0.5
READ_MAX = 1_000
"""Events of each shard that one read covers."""
CLOCK_SLACK = timedelta(days=1)
"""How far a clock may jump back before events would be looked for in too few partitions."""
BUFFER_EVENTS_MAX = 1_000
BUFFER_BYTES_MAX = 1024 * 1024


class TailEvent:
    """An event of the log; it is put together once for all who watch."""

    __slots__ = ("_labels", "_row", "_text", "json", "model")

    def __init__(self, row: Any, model: ModelNames) -> None:
        self._row = row
        self.model = model
        self._labels: dict[str, str] | None = None
        self._text = ""
        event_id = ids.event_id(int(row["stored_at"].timestamp()), row["shard"], row["seq"])
        self.json = rendering.event(event_id, row["type"], row["project_id"], row["device_id"], row["ts"], row["data"])

    def __getitem__(self, column: str) -> Any:
        return self._row[column]

    @property
    def labels(self) -> dict[str, str]:
        """Those that the device had when the event was stored."""
        if self._labels is None:
            self._labels = msgspec.json.decode(self._row["labels"] or "{}", type=dict[str, str])
        return self._labels

    @property
    def text(self) -> str:
        """What words of a search are looked for in."""
        if not self._text:
            row = self._row
            name, labels = ids.device_name(row["device_id"]), row["labels"] or ""
            self._text = f"{name} {self.model.device_type} {self.model.product_number} {labels}".lower()
        return self._text


class WatchFilter(Struct, frozen=True, kw_only=True):
    """Which events of a project pass; empty members let all pass."""

    event_types: frozenset[str] = frozenset()
    device_ids: frozenset[UUID] | None = None
    device_types: frozenset[str] = frozenset()
    product_numbers: frozenset[str] = frozenset()
    labels: Sequence[tuple[str, str | None]] = ()
    words: Sequence[str] = ()

    def passes(self, event: TailEvent) -> bool:
        """Whether an event is wanted."""
        return (
            (not self.event_types or event["type"] in self.event_types)
            and (self.device_ids is None or event["device_id"] in self.device_ids)
            and (not self.device_types or event.model.device_type in self.device_types)
            and (not self.product_numbers or event.model.product_number in self.product_numbers)
            and all(self._has(event.labels, key, value) for key, value in self.labels)
            and all(word in event.text for word in self.words)
        )

    @staticmethod
    def _has(labels: dict[str, str], key: str, value: str | None) -> bool:
        return key in labels if value is None else labels.get(key) == value


class StreamLimits(Struct, frozen=True):
    """How many may watch at once on one edge: all, those of an organization, those of an account."""

    total: int
    organization: int
    account: int

    @classmethod
    def of(cls, settings: EdgeSettings) -> "StreamLimits":
        """Those of the settings."""
        return cls(settings.streams_max, settings.organization_streams_max, settings.account_streams_max)


class Watcher(Struct, frozen=True):
    """Who watches, and for which organization."""

    organization_id: UUID
    account_id: str


class Watch:
    """One who watches the events of a project; `news` is set when there is something to take."""

    def __init__(self, project_id: UUID, watcher: Watcher, wanted: WatchFilter) -> None:
        self.project_id = project_id
        self.watcher = watcher
        self.news = asyncio.Event()
        self.overflowed = False
        self.begins: dict[int, int] = {}
        """For each shard the first event to see."""
        self._wanted = wanted
        self._events: deque[bytes] = deque()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Watch project={self.project_id} waiting={len(self._events)}>"

    def offer(self, event: TailEvent) -> None:
        """Put an event into the buffer, if it is wanted; overflow when there is no room."""
        if self.overflowed or event["seq"] < self.begins.get(event["shard"], 0) or not self._wanted.passes(event):
            return
        self._events.append(event.json)
        self._bytes += len(event.json)
        if len(self._events) > BUFFER_EVENTS_MAX or self._bytes > BUFFER_BYTES_MAX:
            self.overflowed = True
            self._events.clear()
        self.news.set()

    def take(self) -> list[bytes]:
        """All that waits, in the order it was stored."""
        taken = list(self._events)
        self._events.clear()
        self._bytes = 0
        return taken


class EventTail:
    """The reader of one edge."""

    def __init__(self, pool: Pool, shards: int, placement: Placement, limits: StreamLimits, metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._pool = pool
        self._shards = range(shards)
        self._placement = placement
        self._models = DeviceModels()
        self._watches: dict[UUID, set[Watch]] = {}
        self._places: dict[int, int] | None = None
        self._since: dict[int, datetime] = {}
        """For each place the time before which nothing of it is left to read."""
        self._count = 0
        self._counts: Counter[UUID | str] = Counter()
        self._watched = asyncio.Event()

    def __repr__(self) -> str:
        return f"<EventTail watches={self._count}>"

    async def begin(self, watch: Watch) -> None:
        """Let a watch see everything that is stored after this returns, and nothing from before it was called.

        Raises Unavailable when too many watch, TooMany when too many of its organization or account do.
        """
        self._count_in(watch.watcher)
        now = datetime.now(UTC)
        try:
            found = await self._placement.read(self._shards, functools.partial(event_log.heads, self._pool))
        except BaseException:
            self._count_out(watch.watcher)
            raise
        watch.begins = {shard: head for heads in found.results for shard, head in heads.items()}
        self._watches.setdefault(watch.project_id, set()).add(watch)
        if self._places is None:
            self._places, self._since = dict(watch.begins), dict.fromkeys(watch.begins, now)
        self._watched.set()

    def end(self, watch: Watch) -> None:
        """Watch no more."""
        watching = self._watches[watch.project_id]
        watching.remove(watch)
        self._count_out(watch.watcher)
        if not watching:
            del self._watches[watch.project_id]
        if not self._watches:
            self._watched.clear()
            self._places = None

    def _count_in(self, watcher: Watcher) -> None:
        limits = self._limits
        of_organization, of_account = self._counts[watcher.organization_id], self._counts[watcher.account_id]
        if of_organization >= limits.organization:
            raise self._too_many("organization", limits.organization)
        if of_account >= limits.account:
            raise self._too_many("account", limits.account)
        if self._count >= limits.total:
            self._metrics.limited.labels("streams").inc()
            raise Unavailable(f"{limits.total} streams are open here already", retry_after_s=retry_after_s())
        self._count += 1
        self._counts.update((watcher.organization_id, watcher.account_id))

    def _too_many(self, whose: str, most: int) -> TooMany:
        self._metrics.limited.labels(f"{whose} streams").inc()
        return TooMany(f"{most} streams of the {whose} are open here already", retry_after_s=retry_after_s())

    def _count_out(self, watcher: Watcher) -> None:
        self._count -= 1
        for one in (watcher.organization_id, watcher.account_id):
            self._counts[one] -= 1
            if not self._counts[one]:
                del self._counts[one]

    async def run(self) -> None:
        """Read for all who watch, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for shards in self._placement.apart(self._shards):
                group.create_task(self._follow(shards), name=f"event tail {shards}")

    async def _follow(self, shards: list[int]) -> None:
        away = False
        while True:
            await self._watched.wait()
            try:
                behind = await self._poll(shards)
                away = False
            except PostgresAway as error:
                if not away:
                    logs.event(log, logging.WARNING, "tail_waits_for_postgres", cause=str(error))
                away, behind = True, False
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(0 if behind else POLL_S)

    async def _poll(self, shards: list[int]) -> bool:
        """Read what is new in these shards; whether there is more."""
        places, now = self._places, datetime.now(UTC)
        if places is None:
            return False
        heads = await event_log.heads(self._pool, shards)
        for shard in heads.keys() - places.keys():
            # Its node was away when the first watch began.
            places[shard], self._since[shard] = heads[shard], now
        if any(heads[shard] < places[shard] for shard in shards):
            # Postgres is at an earlier point, and its numbers are given again: what comes now is new.
            logs.event(log, logging.ERROR, "log_went_back", heads=heads)
            places.update(heads)
            for watch in (watch for watches in self._watches.values() for watch in watches):
                watch.begins |= heads
            return False
        spans = [
            Span(shard, places[shard], min(heads[shard], places[shard] + READ_MAX))
            for shard in shards
            if heads[shard] > places[shard]
        ]
        if not spans:
            return False
        since = min(self._since[span.shard] for span in spans)
        found = await stored_log.read(self._pool, spans, list(self._watches), since - CLOCK_SLACK)
        models = await self._models.of(self._pool, {row["device_id"] for row in found}) if found else {}
        if self._places is not places:
            return False
        for span in spans:
            places[span.shard] = span.high
        for row in found:
            event = TailEvent(row, models[row["device_id"]])
            for watch in self._watches.get(row["project_id"], ()):
                watch.offer(event)
        behind = any(heads[span.shard] > span.high for span in spans)
        if not behind:
            self._since |= dict.fromkeys(shards, now)
        return behind
