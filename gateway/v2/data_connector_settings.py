"""The settings of a data connector: how clients see them, and how each of them is set.

    PATCH without `update_mask`: members that are there change, null or absent ones stay, `httpConfig` merges one level
    deep, `headers` is replaced whole. With it exactly the named paths change; one named but absent becomes its default.

`SETTINGS` has a line for each setting. A new one is

    a column                    by a migration, which also adds it to the triggers `follow_change` and `tell`
    where it is stored          `Connector` and `SETTABLE` in gateway/stores/connectors/data_connectors.py
    how clients see it          a member of the structs below, `Draft` and `shown`
    what the dispatcher does    `Target` and its `of_row` in workers/dispatcher/request.py

tests/unit/api/test_data_connector_settings.py fails until all of them know it.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.scopes import ProjectScope
from gateway.api.validation import Label
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from gateway.stores.connectors import data_connectors as store
from gateway.stores.connectors.data_connectors import Connector
from gateway.v2 import update_masks
from schemas import egress
from schemas import events as event_types
from schemas.bounds import IN_FLIGHT, RETRY_WINDOW_S
from schemas.constant_time import same_bytes
from schemas.egress import EgressError, EgressPolicy, check_url
from schemas.events import rfc3339
from schemas.secrets import CONNECTOR_SECRETS
from schemas.signing import decoded_secret

HEADERS_MAX, HEADER_CHARACTERS_MAX = 30, 4_096
LIST_MAX = 100
FORBIDDEN_HEADERS = {
    "host", "content-length", "content-type", "content-encoding", "transfer-encoding", "te", "trailer", "connection",
    "keep-alive", "proxy-connection", "upgrade", "http2-settings", "expect",
    "x-dt-signature", "dt-asymmetric-signature", "webhook-id", "webhook-timestamp", "webhook-signature",
}  # fmt: skip
"""What frames a request, belongs to the connection, or proves who sent it. Some servers take `_` for `-` in names."""
SECRET_CHARACTERS_MIN, SECRET_CHARACTERS_MAX = 8, 255
"""Whoever has one signed request can try secrets on it, as many as he likes: short ones are found in hours."""
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,255}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\U0010ffff]*")


InFlight = Annotated[int, Meta(ge=IN_FLIGHT.least, le=IN_FLIGHT.most)]
RetryWindow = Annotated[int, Meta(ge=RETRY_WINDOW_S.least, le=RETRY_WINDOW_S.most)]
SignatureSecret = Annotated[str, Meta(min_length=SECRET_CHARACTERS_MIN, max_length=SECRET_CHARACTERS_MAX)]
Secret = Annotated[
    str,
    Meta(
        max_length=SECRET_CHARACTERS_MAX,
        description=f"At least {SECRET_CHARACTERS_MIN} characters where it is a new one; empty for none.",
    ),
]
Words = Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(max_length=LIST_MAX)]


class HttpConfig(Struct, rename="camel", kw_only=True):
    """Where to, signed how, with which headers. `signatureSecret` is shown to those who may change it."""

    url: str
    signature_secret: str
    headers: dict[str, str]


class Delivery(Struct, rename="camel", kw_only=True):
    """What goes beyond: further signatures, for how long a failed event is tried again, and how many requests there may
    be at once; null means as many as the receiver is found to take.
    """

    asymmetric_signature: bool
    standard_webhooks: bool
    retry_window_seconds: int
    max_in_flight: int | None


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


class OtherTypes(Struct, rename="camel", kw_only=True):
    """What connectors of other types have; clients that know those say null of it."""

    azure_service_bus_config: UnsetType | None = UNSET
    azure_event_hub_config: UnsetType | None = UNSET
    pubsub_config: UnsetType | None = UNSET
    aws_sqs_config: UnsetType | None = UNSET


class HttpConfigChange(Struct, rename="camel", kw_only=True):
    """Members of `httpConfig` to set."""

    url: str | UnsetType | None = UNSET
    signature_secret: Secret | UnsetType | None = UNSET
    headers: dict[str, str] | UnsetType | None = UNSET


class DeliveryChange(Struct, rename="camel", kw_only=True):
    """Members of `delivery` to set."""

    asymmetric_signature: bool | UnsetType | None = UNSET
    standard_webhooks: bool | UnsetType | None = UNSET
    retry_window_seconds: RetryWindow | UnsetType | None = UNSET
    max_in_flight: InFlight | UnsetType | None = UNSET


class Change(OtherTypes, rename="camel", kw_only=True):
    """Members of a data connector to set."""

    display_name: Label | UnsetType | None = UNSET
    type: Literal["HTTP_PUSH"] | UnsetType | None = UNSET
    status: Literal["ACTIVE", "USER_DISABLED", "SYSTEM_DISABLED", ""] | UnsetType | None = UNSET
    events: Words | UnsetType | None = UNSET
    labels: Words | UnsetType | None = UNSET
    http_config: HttpConfigChange | UnsetType | None = UNSET
    delivery: DeliveryChange | UnsetType | None = UNSET


class Draft:
    """A connector while it is being changed, its secrets opened."""

    def __init__(self, services: Services, connector: Connector) -> None:
        self.vault = services.settings.vault(CONNECTOR_SECRETS)
        self.policy = EgressPolicy(services.settings.egress_allow, http=services.settings.egress_http)
        self.connector = connector
        self._signs_anew = False
        """Whether the secret or what it signs is another."""

    def display_name(self, value: str | None) -> None:
        self.connector.display_name = value or ""

    def type(self, value: str | None) -> None:
        """There is one type; naming it changes nothing."""

    def status(self, value: str | None) -> None:
        if value == "SYSTEM_DISABLED" and self.connector.status != value:
            raise DoesNotFit("Status must be ACTIVE or USER_DISABLED")
        self.connector.status = value or "ACTIVE"

    def events(self, value: list[str] | None) -> None:
        unknown = event_types.unknown(value or ())
        if unknown:
            raise DoesNotFit(f"Events holds unknown types: {', '.join(unknown)}")
        self.connector.event_types = list(dict.fromkeys(value or ()))

    def labels(self, value: list[str] | None) -> None:
        self.connector.labels = list(dict.fromkeys(value or ()))

    def url(self, value: str | None) -> None:
        try:
            check_url(value or "", self.policy)
        except EgressError as error:
            raise DoesNotFit(f"HttpConfig.url: {error}") from None
        self.connector.url = value or ""

    def signature_secret(self, value: str | None) -> None:
        secret = (value or "").encode()
        # A shorter one of earlier days may be sent back as it was read.
        is_new = not same_bytes(secret, self.vault.open(self.connector.secret, self.connector.id))
        if is_new and 0 < len(value or "") < SECRET_CHARACTERS_MIN:
            raise DoesNotFit(f"HttpConfig.signatureSecret must have at least {SECRET_CHARACTERS_MIN} characters")
        self.connector.secret = self.vault.seal(secret, self.connector.id)
        self._signs_anew = True

    def headers(self, value: dict[str, str] | None) -> None:
        given = value or {}
        if len(given) > HEADERS_MAX:
            raise DoesNotFit(f"HttpConfig.headers: at most {HEADERS_MAX}")
        names: dict[str, str] = {}
        for name, text in given.items():
            if name.lower().replace("_", "-") in FORBIDDEN_HEADERS:
                raise DoesNotFit(f"HttpConfig.headers: {name} is set by the gateway itself")
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text):
                raise DoesNotFit("HttpConfig.headers: a name or value has characters that no header has")
            if (other := names.setdefault(name.lower(), name)) != name:
                raise DoesNotFit(f"HttpConfig.headers: {other} and {name} are one header")
            if len(text) > HEADER_CHARACTERS_MAX:
                raise DoesNotFit(f"HttpConfig.headers: a value has at most {HEADER_CHARACTERS_MAX} characters")
        self.connector.headers = store.seal_headers(self.vault, self.connector.id, given)

    def asymmetric_signature(self, value: bool | None) -> None:
        self.connector.asymmetric_signature = bool(value)

    def standard_webhooks(self, value: bool | None) -> None:
        self._signs_anew |= bool(value) and not self.connector.standard_webhooks
        self.connector.standard_webhooks = bool(value)

    def retry_window_seconds(self, value: int | None) -> None:
        self.connector.retry_window_s = value or RETRY_WINDOW_S.default

    def max_in_flight(self, value: int | None) -> None:
        self.connector.in_flight_max = value

    def finish(self) -> Connector:
        """The connector as it is to be stored. Raises Refusal when it cannot be sent to."""
        if not self.connector.url:
            raise DoesNotFit("HttpConfig.url can't be blank")
        if self.connector.standard_webhooks and not self.connector.secret:
            raise DoesNotFit("Delivery.standardWebhooks needs a signatureSecret")
        if self.connector.standard_webhooks and self._signs_anew:
            check_standard_secret(self.vault.open(self.connector.secret, self.connector.id).decode())
        return self.connector


def check_standard_secret(secret: str) -> None:
    """Raises DoesNotFit where libraries of Standard Webhooks would not take this secret."""
    if decoded_secret(secret) is None:
        raise DoesNotFit(
            "HttpConfig.signatureSecret: Standard Webhooks take a secret in base64, as `openssl rand -base64 32` makes "
            "one, with or without whsec_ before it"
        )


async def check_target(services: Services, organization_id: UUID, change: Change) -> None:
    """Raises DoesNotFit when the URL that a change gives leads inward. Waits for name servers: no lock is held yet."""
    url = _http(change).url
    if isinstance(url, str):
        policy = EgressPolicy(services.settings.egress_allow, http=services.settings.egress_http)
        try:
            await egress.check_target(check_url(url, policy), services.resolver, organization_id)
        except EgressError as error:
            raise DoesNotFit(f"HttpConfig.url: {error}") from None


async def faults(services: Services, organization_id: UUID, connector: Connector, change: Change) -> dict[str, str]:
    """All that does not fit of a change to a connector, by the path of its setting; nothing is stored."""
    draft, found = Draft(services, connector), dict[str, str]()

    def note(error: DoesNotFit) -> None:
        path = next((one.in_json for one in SETTINGS if error.text.lower().startswith(one.in_json.lower())), "")
        text = error.text[len(path) :].lstrip(": ")
        found.setdefault(path, text[:1].upper() + text[1:])

    for setting in SETTINGS:
        value = setting.given(change)
        if value is not UNSET and value is not None:
            try:
                setting.put(draft, value)
            except DoesNotFit as error:
                note(error)
    try:
        if "httpConfig.url" not in found:
            await check_target(services, organization_id, change)
        draft.finish()
    except DoesNotFit as error:
        note(error)
    return found


class Setting(NamedTuple):
    """One setting: its path and column, what a change says of it, and how it is set; None sets its default."""

    path: str
    column: str
    """Empty for what is the same for all connectors."""
    given: Callable[[Change], Any]
    put: Callable[[Draft, Any], None]

    @property
    def in_json(self) -> str:
        """Its path as clients write it."""
        return re.sub("_([a-z])", lambda letter: letter[1].upper(), self.path)


T = TypeVar("T")


def _setting(
    path: str, column: str, given: Callable[[Change], T | UnsetType | None], put: Callable[[Draft, T | None], None]
) -> Setting:
    """A setting whose value has one type wherever it comes by."""
    return Setting(path, column, given, put)


def _http(change: Change) -> HttpConfigChange:
    return change.http_config if isinstance(change.http_config, HttpConfigChange) else HttpConfigChange()


def _delivery(change: Change) -> DeliveryChange:
    return change.delivery if isinstance(change.delivery, DeliveryChange) else DeliveryChange()


SETTINGS: tuple[Setting, ...] = (
    _setting("display_name", "display_name", lambda change: change.display_name, Draft.display_name),
    _setting("type", "", lambda change: change.type, Draft.type),
    _setting("status", "status", lambda change: change.status, Draft.status),
    _setting("events", "event_types", lambda change: change.events, Draft.events),
    _setting("labels", "labels", lambda change: change.labels, Draft.labels),
    _setting("http_config.url", "url", lambda change: _http(change).url, Draft.url),
    _setting(
        "http_config.signature_secret", "secret", lambda change: _http(change).signature_secret, Draft.signature_secret
    ),
    _setting("http_config.headers", "headers", lambda change: _http(change).headers, Draft.headers),
    _setting(
        "delivery.asymmetric_signature",
        "asymmetric_signature",
        lambda change: _delivery(change).asymmetric_signature,
        Draft.asymmetric_signature,
    ),
    _setting(
        "delivery.standard_webhooks",
        "standard_webhooks",
        lambda change: _delivery(change).standard_webhooks,
        Draft.standard_webhooks,
    ),
    _setting(
        "delivery.retry_window_seconds",
        "retry_window_s",
        lambda change: _delivery(change).retry_window_seconds,
        Draft.retry_window_seconds,
    ),
    _setting(
        "delivery.max_in_flight", "in_flight_max", lambda change: _delivery(change).max_in_flight, Draft.max_in_flight
    ),
)


def apply(draft: Draft, change: Change) -> None:
    """Set the members that are there."""
    for setting in SETTINGS:
        value = setting.given(change)
        if value is not UNSET and value is not None:
            setting.put(draft, value)


def apply_masked(draft: Draft, change: Change, mask: str) -> None:
    """Set exactly what the mask names, single settings or whole groups; what is named but absent becomes its default.

    Paths may be written as in the JSON (`httpConfig.url`) or with underscores.
    """
    for name in update_masks.paths(mask):
        named = [setting for setting in SETTINGS if setting.path == name or setting.path.startswith(f"{name}.")]
        if not named:
            raise DoesNotFit(f"Update mask names an unknown path: {name}")
        for setting in named:
            value = setting.given(change)
            setting.put(draft, None if value is UNSET else value)


def shown(services: Services, connector: Connector, scope: ProjectScope) -> DataConnector:
    """A connector as the caller may see it: what is a secret, or may be, only if it may change it."""
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
            url=connector.url if may_change else without_secrets(connector.url),
            signature_secret=secret,
            headers=store.open_headers(vault, connector) if may_change else {},
        ),
        delivery=Delivery(
            asymmetric_signature=connector.asymmetric_signature,
            standard_webhooks=connector.standard_webhooks,
            retry_window_seconds=connector.retry_window_s,
            max_in_flight=connector.in_flight_max,
        ),
        failing_since=None if connector.failing_since is None else rfc3339(connector.failing_since),
    )


def without_secrets(url: str) -> str:
    """Where a URL leads to. What stands before the host and behind it is a secret for many a receiver, and left out."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    rest = "/…" if parts.path.strip("/") or parts.query or parts.fragment else parts.path
    return f"{parts.scheme}://{host}{rest}"
