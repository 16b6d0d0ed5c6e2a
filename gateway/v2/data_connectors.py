"""Data connectors: one HTTPS POST for each event of a project's devices, to a URL of the user's.

    PATCH without `update_mask`: members that are there change, null or absent ones stay, `httpConfig` merges one level
    deep, `headers` is replaced whole. With it exactly the named paths change; one named but absent becomes its default.

What is sent, when, and what happens when it fails is the dispatcher's (workers.dispatcher); this is what is set up.
"""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.api.endpoint import Endpoint, endpoint
from gateway.api.scopes import ProjectScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit, NotFound, TimedOut
from gateway.services import Services
from gateway.stores.connectors import data_connectors as store
from gateway.stores.connectors.data_connectors import Connector
from gateway.v2.paging import PageQuery
from schemas import deliveries, ids
from schemas.egress import EgressError, EgressPolicy, check_url
from schemas.events import EventType, rfc3339
from schemas.secrets import CONNECTOR_SECRETS

HEADERS_MAX, HEADER_CHARACTERS_MAX = 30, 4_096
LIST_MAX = 100
TEST_WAIT_S, TEST_POLL_S = 12.0, 0.05
OVERLAP = timedelta(days=1)
FORBIDDEN_HEADERS = {
    "host", "content-length", "content-type", "transfer-encoding", "connection", "x-dt-signature",
    "dt-asymmetric-signature", "webhook-id", "webhook-timestamp", "webhook-signature",
}  # fmt: skip
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,255}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\U0010ffff]*")
_KNOWN_EVENTS = frozenset(map(str, EventType))

Secret = Annotated[str, Meta(max_length=255)]
Words = Annotated[list[Annotated[str, Meta(max_length=255, pattern=r"^[^\x00]*$")]], Meta(max_length=LIST_MAX)]


class HttpConfig(Struct, rename="camel", kw_only=True):
    """Where to, signed how, with which headers. `signatureSecret` is shown to those who may change it."""

    url: str
    signature_secret: str
    headers: dict[str, str]


class Delivery(Struct, rename="camel", kw_only=True):
    """What goes beyond: further signatures, and for how long a failed event is tried again."""

    asymmetric_signature: bool
    standard_webhooks: bool
    retry_window_seconds: int


class DataConnector(Struct, rename="camel", kw_only=True):
    """One data connector. No events mean all, no labels none."""

    name: str
    display_name: str
    type: Literal["HTTP_PUSH"]
    status: Literal["ACTIVE", "USER_DISABLED", "SYSTEM_DISABLED"]
    events: list[str]
    labels: list[str]
    http_config: HttpConfig
    delivery: Delivery
    failing_since: str | None


class DataConnectors(Struct, rename="camel"):
    """Part of a list."""

    data_connectors: list[DataConnector]
    next_page_token: str


class HttpConfigChange(Struct, rename="camel", kw_only=True):
    """Members of `httpConfig` to set."""

    url: str | UnsetType | None = UNSET
    signature_secret: Secret | UnsetType | None = UNSET
    headers: dict[str, str] | UnsetType | None = UNSET


class DeliveryChange(Struct, rename="camel", kw_only=True):
    """Members of `delivery` to set."""

    asymmetric_signature: bool | UnsetType | None = UNSET
    standard_webhooks: bool | UnsetType | None = UNSET
    retry_window_seconds: Annotated[int, Meta(ge=60, le=604_800)] | UnsetType | None = UNSET


class Change(Struct, rename="camel", kw_only=True):
    """Members of a data connector to set."""

    display_name: Label | UnsetType | None = UNSET
    type: Literal["HTTP_PUSH"] | UnsetType | None = UNSET
    status: Literal["ACTIVE", "USER_DISABLED", "SYSTEM_DISABLED", ""] | UnsetType | None = UNSET
    events: Words | UnsetType | None = UNSET
    labels: Words | UnsetType | None = UNSET
    http_config: HttpConfigChange | UnsetType | None = UNSET
    delivery: DeliveryChange | UnsetType | None = UNSET


class UpdateQuery(Struct, kw_only=True):
    """`update_mask` names paths, separated by commas: displayName, httpConfig.url, …"""

    update_mask: str | None = None


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


class Attempts(Struct):
    """The last attempts, newest first."""

    attempts: list[Attempt]


class Replay(Struct, rename="camel"):
    """A time range: from and with `startTime`, up to and not with `endTime`."""

    start_time: datetime
    end_time: datetime


class Replayed(Struct):
    """How many events are sent once more."""

    events: int


class NewSecret(Struct, rename="camel"):
    """The secret from now on; the one before is used beside it for a day."""

    signature_secret: Annotated[str, Meta(min_length=1, max_length=255)]


# Reading and setting members ----------------------------------------------------------------------------------


class _Draft:
    """A connector while it is being changed, its secrets opened."""

    def __init__(self, services: Services, connector: Connector) -> None:
        self.vault = services.settings.vault(CONNECTOR_SECRETS)
        self.policy = EgressPolicy(services.settings.egress_allow, http=services.settings.egress_http)
        self.connector = connector

    def display_name(self, value: str | None) -> None:
        self.connector.display_name = value or ""

    def type(self, value: str | None) -> None:
        """There is one type; naming it changes nothing."""

    def status(self, value: str | None) -> None:
        if value == "SYSTEM_DISABLED" and self.connector.status != value:
            raise DoesNotFit("Status must be ACTIVE or USER_DISABLED")
        self.connector.status = value or "ACTIVE"

    def events(self, value: list[str] | None) -> None:
        unknown = sorted(set(value or ()) - _KNOWN_EVENTS)
        if unknown:
            raise DoesNotFit(f"Events holds unknown types: {', '.join(unknown)}")
        self.connector.event_types = list(dict.fromkeys(value or ()))

    def labels(self, value: list[str] | None) -> None:
        self.connector.labels = list(dict.fromkeys(value or ()))

    def url(self, value: str | None) -> None:
        try:
            self.connector.url = str(check_url(value or "", self.policy))
        except EgressError as error:
            raise DoesNotFit(f"HttpConfig.url: {error}") from None

    def signature_secret(self, value: str | None) -> None:
        self.connector.secret = self.vault.seal((value or "").encode(), self.connector.id)

    def headers(self, value: dict[str, str] | None) -> None:
        given = value or {}
        if len(given) > HEADERS_MAX:
            raise DoesNotFit(f"HttpConfig.headers: at most {HEADERS_MAX}")
        for name, text in given.items():
            if name.lower() in FORBIDDEN_HEADERS:
                raise DoesNotFit(f"HttpConfig.headers: {name} is set by the gateway itself")
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
                raise DoesNotFit("HttpConfig.headers: a name or value has characters that no header has")
            if len(text) > HEADER_CHARACTERS_MAX:
                raise DoesNotFit(f"HttpConfig.headers: a value has at most {HEADER_CHARACTERS_MAX} characters")
        self.connector.headers = store.seal_headers(self.vault, self.connector.id, given)

    def asymmetric_signature(self, value: bool | None) -> None:
        self.connector.asymmetric_signature = bool(value)

    def standard_webhooks(self, value: bool | None) -> None:
        self.connector.standard_webhooks = bool(value)

    def retry_window_seconds(self, value: int | None) -> None:
        self.connector.retry_window_s = value or store.new(self.connector.project_id).retry_window_s

    def finish(self) -> Connector:
        """The connector as it is to be stored. Raises Refusal when it cannot be sent to."""
        if not self.connector.url:
            raise DoesNotFit("HttpConfig.url can't be blank")
        if self.connector.standard_webhooks and not self.connector.secret:
            raise DoesNotFit("Delivery.standardWebhooks needs a signatureSecret")
        return self.connector


_GROUPS: dict[str, tuple[str, ...]] = {
    "http_config": ("url", "signature_secret", "headers"),
    "delivery": ("asymmetric_signature", "standard_webhooks", "retry_window_seconds"),
}
_SINGLE = ("display_name", "type", "status", "events", "labels")


def _apply(draft: _Draft, change: Change) -> None:
    """Set the members that are there."""
    for name in _SINGLE:
        value = getattr(change, name)
        if value is not UNSET and value is not None:
            getattr(draft, name)(value)
    for group, names in _GROUPS.items():
        inner = getattr(change, group)
        if inner is UNSET or inner is None:
            continue
        for name in names:
            value = getattr(inner, name)
            if value is not UNSET and value is not None:
                getattr(draft, name)(value)


def _apply_masked(draft: _Draft, change: Change, mask: str) -> None:
    """Set exactly what the mask names; what is named but absent becomes its default."""
    for path in filter(None, (part.strip() for part in mask.split(","))):
        outer, _, member = re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", path).partition(".")
        if outer in _SINGLE and not member:
            _set(draft, outer, getattr(change, outer))
        elif outer in _GROUPS and (not member or member in _GROUPS[outer]):
            inner = getattr(change, outer)
            for name in (member,) if member else _GROUPS[outer]:
                _set(draft, name, getattr(inner, name) if isinstance(inner, Struct) else UNSET)
        else:
            raise DoesNotFit(f"Update mask names an unknown path: {path}")


def _set(draft: _Draft, name: str, value: Any) -> None:
    getattr(draft, name)(None if value is UNSET else value)


def _shown(services: Services, connector: Connector, scope: ProjectScope) -> DataConnector:
    vault = services.settings.vault(CONNECTOR_SECRETS)
    may_change = Permission.DEVELOP in scope.permissions
    secret = vault.open(connector.secret, connector.id).decode() if may_change else ""
    return DataConnector(
        name=f"projects/{connector.project_id}/dataconnectors/{connector.id}",
        display_name=connector.display_name,
        type="HTTP_PUSH",
        status=connector.status,  # type: ignore[arg-type]
        events=connector.event_types,
        labels=connector.labels,
        http_config=HttpConfig(
            url=connector.url,
            signature_secret=secret,
            headers=store.open_headers(vault, connector) if may_change else {},
        ),
        delivery=Delivery(
            asymmetric_signature=connector.asymmetric_signature,
            standard_webhooks=connector.standard_webhooks,
            retry_window_seconds=connector.retry_window_s,
        ),
        failing_since=None if connector.failing_since is None else rfc3339(connector.failing_since),
    )


# Calls ---------------------------------------------------------------------------------------------------------

CONNECTORS = "/v2/projects/{project}/dataconnectors"
CONNECTOR = CONNECTORS + "/{connector}"
NOT_ACTIVE = {400: "The data connector is not active."}


@endpoint("GET", CONNECTORS, caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_connectors(services: Services, project: ProjectScope, query: PageQuery) -> DataConnectors:
    """List the data connectors of a project."""
    found = await store.listed(services.postgres, project.id, query.page_token, query.page_size + 1)
    page = found[: query.page_size]
    shown = [_shown(services, connector, project) for connector in page]
    return DataConnectors(shown, page[-1].id if len(found) > len(page) else "")


@endpoint(
    "POST", CONNECTORS, caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors={409: "The project has too many."}
)
async def create_connector(services: Services, project: ProjectScope, body: Change) -> DataConnector:
    """Make a data connector. It gets the events that are stored from now on."""
    draft = _Draft(services, store.new(project.id))
    _apply(draft, body)
    async with services.postgres.acquire() as connection, connection.transaction():
        made = await store.create(connection, draft.finish())
    return _shown(services, made, project)


@endpoint("GET", CONNECTOR + ":metrics", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_metrics(services: Services, project: ProjectScope, connector: str) -> MetricsAnswer:
    """Read how its attempts went in the last three hours."""
    found = await store.read(services.postgres, project.id, connector)
    recent = await deliveries.recent(services.postgres, found.id, services.clock())
    return MetricsAnswer(Metrics(recent.successes, recent.errors, f"{recent.latency_p99_s:.3f}s"))


@endpoint("GET", CONNECTOR + ":attempts", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def list_attempts(services: Services, project: ProjectScope, connector: str) -> Attempts:
    """List its last attempts: all that failed, and some that did not."""
    found = await store.read(services.postgres, project.id, connector)
    return Attempts([_attempt(row) for row in await deliveries.attempts(services.postgres, found.id)])


@endpoint("GET", CONNECTOR + ":ledger", caller=SERVICE_ACCOUNT, permission=Permission.READ)
async def read_ledger(services: Services, project: ProjectScope, connector: str) -> deliveries.Ledger:
    """Read what became of every event that it accepted, and what lies ahead of it."""
    await store.read(services.postgres, project.id, connector)
    found = await deliveries.ledger(services.postgres, connector)
    if found is None:
        raise NotFound(store.UNKNOWN)
    return found


@endpoint("POST", CONNECTOR + ":sync", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors=NOT_ACTIVE)
async def synchronize(services: Services, project: ProjectScope, connector: str) -> dict[str, Any]:
    """Send it the newest event of each type of each device."""
    async with services.postgres.acquire() as connection, connection.transaction():
        held = await _hold_active(services, connection, project, connector)
        await store.synchronize(connection, held)
    return {}


@endpoint("POST", CONNECTOR + ":replay", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP, errors=NOT_ACTIVE)
async def replay(services: Services, project: ProjectScope, connector: str, body: Replay) -> Replayed:
    """Send it all events of a time range once more."""
    start, end = _utc(body.start_time), _utc(body.end_time)
    if end <= start:
        raise DoesNotFit("EndTime must be after startTime")
    async with services.postgres.acquire() as connection, connection.transaction():
        held = await _hold_active(services, connection, project, connector)
        return Replayed(await store.replay(connection, held, start, end))


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
        held = await store.hold(connection, project.id, connector)
        waiting_id = await store.add_test(connection, held, _test_event(project, services.clock()))
    async with asyncio.timeout(TEST_WAIT_S) as waiting:
        try:
            while True:
                row = await store.attempt_of(services.postgres, connector, waiting_id)
                if row is not None:
                    return _attempt(dict(row))
                await asyncio.sleep(TEST_POLL_S)
        except asyncio.CancelledError:
            if not waiting.expired():
                raise
            raise TimedOut("No dispatcher sent the test event in time: is a worker running?") from None


@endpoint("POST", CONNECTOR + ":rotateSecret", caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP)
async def rotate_secret(services: Services, project: ProjectScope, connector: str, body: NewSecret) -> DataConnector:
    """Sign with another secret. Standard Webhooks are signed with both for a day, so that receivers can follow."""
    vault = services.settings.vault(CONNECTOR_SECRETS)
    async with services.postgres.acquire() as connection, connection.transaction():
        held = await store.hold(connection, project.id, connector)
        await store.rotate_secret(connection, held, vault.seal(body.signature_secret.encode(), held.id), OVERLAP)
        return _shown(services, await store.read(connection, project.id, connector), project)


@endpoint(
    "GET",
    CONNECTOR,
    caller=SERVICE_ACCOUNT,
    permission=Permission.READ,
    errors={404: "There is no such data connector."},
)
async def read_connector(services: Services, project: ProjectScope, connector: str) -> DataConnector:
    """Read one data connector."""
    return _shown(services, await store.read(services.postgres, project.id, connector), project)


@endpoint("PATCH", CONNECTOR, caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP)
async def update_connector(
    services: Services, project: ProjectScope, connector: str, query: UpdateQuery, body: Change
) -> DataConnector:
    """Change a data connector, from its next attempt on. Disabled, it drops what it owes; enabled, it begins anew."""
    async with services.postgres.acquire() as connection, connection.transaction():
        draft = _Draft(services, await store.hold(connection, project.id, connector))
        if query.update_mask is None:
            _apply(draft, body)
        else:
            _apply_masked(draft, body, query.update_mask)
        return _shown(services, await store.update(connection, draft.finish()), project)


@endpoint("DELETE", CONNECTOR, caller=SERVICE_ACCOUNT, permission=Permission.DEVELOP)
async def delete_connector(services: Services, project: ProjectScope, connector: str) -> dict[str, Any]:
    """Delete a data connector; nothing more is sent."""
    await store.delete(services.postgres, (await store.read(services.postgres, project.id, connector)).id)
    return {}


async def _hold_active(services: Services, connection: Any, project: ProjectScope, connector: str) -> Connector:
    held = await store.hold(connection, project.id, connector)
    if held.status != "ACTIVE":
        raise DoesNotFit("The data connector is not active")
    return held


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


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


ENDPOINTS: tuple[Endpoint, ...] = (
    list_connectors,
    create_connector,
    read_metrics,
    list_attempts,
    read_ledger,
    synchronize,
    replay,
    send_test,
    rotate_secret,
    read_connector,
    update_connector,
    delete_connector,
)
