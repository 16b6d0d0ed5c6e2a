"""What a data connector sent and is to send: its attempts and its ledger; a synchronization, a replay, a test."""

import asyncio
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.scopes import ProjectScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound, TimedOut
from gateway.services import Services
from gateway.stores.connectors import connector_queues as queues
from gateway.stores.connectors import data_connectors as store
from gateway.stores.connectors import ledgers
from gateway.stores.connectors.data_connectors import Connector
from gateway.v2.moments import bounded
from schemas import ids
from schemas.events import rfc3339
from schemas.postgres import Connection

RESOURCE = "data_connectors"
TEST_WAIT_S, TEST_POLL_S = 12.0, 0.05
CONNECTOR = "/v2/projects/{project}/dataconnectors/{connector}"
NOT_ACTIVE = {400: "The data connector is not active."}


class Metrics(Struct, rename="camel"):
    """Attempts of the last three hours."""

    success_count: int
    error_count: int
    latency99p: str


class MetricsAnswer(Struct):
    """Of one connector."""

    metrics: Metrics


class Attempt(Struct, rename="camel", kw_only=True):
    """One attempt: the status, or the class of the cause (dns, connect, tls, timeout, egress, status, protocol)."""

    time: str
    event_id: str
    attempt: int
    status: int | None
    cause: str | None
    latency_ms: int
    answer: str


class AttemptsQuery(Struct, kw_only=True):
    """Which attempts: from `start_time` (in it) to `end_time` (not in it), of one event, by result and cause."""

    start_time: datetime | None = None
    end_time: datetime | None = None
    result: Literal["delivered", "failed"] | None = None
    cause: Literal["dns", "connect", "tls", "timeout", "egress", "status", "protocol"] | None = None
    event_id: Label | None = None

    def filter(self) -> ledgers.AttemptFilter:
        """As the store reads it."""
        return ledgers.AttemptFilter(
            None if self.start_time is None else bounded(self.start_time, "Start time"),
            None if self.end_time is None else bounded(self.end_time, "End time"),
            None if self.result is None else self.result == "failed",
            self.cause,
            self.event_id,
        )


class Attempts(Struct):
    """The last attempts, newest first."""

    attempts: list[Attempt]


class Replay(Struct, rename="camel"):
    """A time range: from and with `startTime`, up to and not with `endTime`."""

    start_time: datetime
    end_time: datetime


class Job(Struct, rename="camel", kw_only=True):
    """Long work on its queue: a replay, a synchronization, or the end of what it owed when it was disabled (drop).

    `events` have been put into the queue (or dropped) so far; `progress` goes from 0 to 1. It ends DONE, SUPERSEDED by
    another synchronization, or CANCELLED because the connector was disabled. A replay has the time range that it is of.
    """

    id: str
    kind: Literal["replay", "sync", "drop"]
    state: Literal["RUNNING", "DONE", "SUPERSEDED", "CANCELLED"]
    events: int
    progress: float
    create_time: str
    end_time: str | None
    replayed_from: str | None
    replayed_until: str | None


class Jobs(Struct):
    """Those that run and the last that ended, newest first."""

    jobs: list[Job]


@endpoint("GET", CONNECTOR + ":metrics", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_metrics(services: Services, project: ProjectScope, connector: str) -> MetricsAnswer:
    """Read how its attempts went in the last three hours."""
    found = await store.read(services.postgres, project.id, connector)
    recent = await ledgers.recent(services.postgres, found.id, services.clock())
    return MetricsAnswer(Metrics(recent.successes, recent.errors, f"{recent.latency_p99_s:.3f}s"))


@endpoint("GET", CONNECTOR + ":attempts", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_attempts(services: Services, project: ProjectScope, connector: str, query: AttemptsQuery) -> Attempts:
    """List its last attempts: the last 100 that failed, and some of those that did not."""
    found = await store.read(services.postgres, project.id, connector)
    rows = await ledgers.attempts(services.postgres, found.id, query.filter())
    return Attempts([_attempt(row) for row in rows])


@endpoint("GET", CONNECTOR + ":ledger", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_ledger(services: Services, project: ProjectScope, connector: str) -> ledgers.Ledger:
    """Read what became of every event that it accepted, and what lies ahead of it."""
    await store.read(services.postgres, project.id, connector)
    found = await ledgers.ledger(services.postgres, connector)
    if found is None:
        raise NotFound(store.UNKNOWN)
    return found


@endpoint("POST", CONNECTOR + ":sync", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors=NOT_ACTIVE)
async def synchronize(services: Services, project: ProjectScope, connector: str) -> dict[str, Any]:
    """Send it the newest event of each type of each device. `…:jobs` tells how far that is."""
    async with services.postgres.acquire() as connection, connection.transaction():
        locked = await _lock_active(connection, project, connector)
        await queues.synchronize(connection, locked)
    return {}


@endpoint(
    "POST",
    CONNECTOR + ":replay",
    caller=SERVICE_ACCOUNT,
    permission=Permission.DEVELOP,
    errors={**NOT_ACTIVE, 409: "Too many replays run."},
)
async def replay(services: Services, project: ProjectScope, connector: str, body: Replay) -> Job:
    """Send it all events of a time range once more. `…:jobs` tells how far that is."""
    start, end = bounded(body.start_time, "StartTime"), bounded(body.end_time, "EndTime")
    if end <= start:
        raise DoesNotFit("EndTime must be after startTime")
    async with services.postgres.acquire() as connection, connection.transaction():
        locked = await _lock_active(connection, project, connector)
        return _job(await queues.replay(connection, services.shards, locked, start, end))


@endpoint("GET", CONNECTOR + ":jobs", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_jobs(services: Services, project: ProjectScope, connector: str) -> Jobs:
    """List what is being done with its queue, and what was done last."""
    found = await store.read(services.postgres, project.id, connector)
    return Jobs([_job(job) for job in await queues.jobs(services.postgres, found.id)])


@endpoint(
    "POST",
    CONNECTOR + ":test",
    caller=SERVICE_ACCOUNT,
    permission=Permission.DEVELOP,
    errors={504: "No dispatcher sent it in time."},
)
async def send_test(services: Services, project: ProjectScope, connector: str) -> Attempt:
    """Send it one event now, even while it is disabled, and read what the receiver answered."""
    async with services.postgres.acquire() as connection, connection.transaction():
        locked = await store.lock(connection, project.id, connector)
        waiting_id = await queues.add_test(connection, locked, _test_event(project, services.clock()))
    async with asyncio.timeout(TEST_WAIT_S) as waiting:
        try:
            while True:
                row = await queues.attempt_of(services.postgres, connector, waiting_id)
                if row is not None:
                    return _attempt(dict(row))
                await asyncio.sleep(TEST_POLL_S)
        except asyncio.CancelledError:
            if not waiting.expired():
                raise
            raise TimedOut("No dispatcher sent the test event in time: is a worker running?") from None


async def _lock_active(connection: Connection, project: ProjectScope, connector: str) -> Connector:
    locked = await store.lock(connection, project.id, connector)
    if locked.status != "ACTIVE":
        raise DoesNotFit("The data connector is not active")
    return locked


def _job(job: queues.Job) -> Job:
    return Job(
        id=str(job.id),
        kind=job.kind,
        state=job.state,
        events=job.events,
        progress=1.0 if job.state == "DONE" else round(job.passed / max(1, job.total, job.passed), 4),
        create_time=rfc3339(job.created_at),
        end_time=None if job.ended_at is None else rfc3339(job.ended_at),
        replayed_from=None if job.start_at is None else rfc3339(job.start_at),
        replayed_until=None if job.end_at is None else rfc3339(job.end_at),
    )


def _attempt(row: dict[str, Any]) -> Attempt:
    return Attempt(
        time=rfc3339(row["at"]),
        event_id=row["event_id"],
        attempt=row["attempt"],
        status=row["status"],
        cause=row["cause"],
        latency_ms=row["latency_ms"],
        answer=row["answer"],
    )


def _test_event(project: ProjectScope, now: datetime) -> dict[str, Any]:
    """A telemetry event of no device; receivers know it by its id."""
    device_id, moment = "test", rfc3339(now)
    data = {"telemetry": {"updateTime": moment, "status": "online", "telemetries": {"test": True}}}
    return {
        "event": {
            "eventId": ids.new_xid(),
            "targetName": f"projects/{project.id}/devices/{device_id}",
            "eventType": "telemetry",
            "data": data,
            "timestamp": moment,
        },
        "labels": {},
        "metadata": {"deviceId": device_id, "projectId": str(project.id), "deviceType": "test", "productNumber": ""},
    }


ENDPOINTS: tuple[Endpoint, ...] = (
    read_metrics,
    list_attempts,
    read_ledger,
    synchronize,
    replay,
    list_jobs,
    send_test,
)
