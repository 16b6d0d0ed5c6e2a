"""Manifests: what the generic provider must know of a vendor's cloud to import its devices, as a TOML file.

    title = "Acme Cloud"
    base_url = "https://api.acme.example/v1"

    [authentication]
    kind = "bearer"
    token = "{token}"                 # {…} stands for a setting or a credential

    [credentials.token]
    label = "API token"

    [list]
    path = "/devices"
    items = "data"                    # JMESPath: where in the answer the devices are
    total = "meta.total"

    [list.paging]
    kind = "page"
    parameter = "page"

    [device]
    id = "uuid"                       # JMESPath, in one device
    name = "display_name"

What a member means stands at its struct below; `python -m schemas.manifests` prints the JSON schema.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from schemas.manifests.authentication import Authentication, AuthorizationCode
from schemas.manifests.texts import PLACE, Expression, Filled, Word, filled
from schemas.sentences import matching


class Field(Struct, forbid_unknown_fields=True):
    """Something a person enters: a setting when the connector is created, a credential when it is authorised."""

    label: str
    help: str = ""
    default: str | None = None
    pattern: str = r"[^\x00-\x1f]{1,2000}"


class NoPaging(Struct, tag="none", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """One answer holds all."""


class PagePaging(Struct, tag="page", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """A page number. Without `total` the list ends with an empty page, never with a short one: vendors cap sizes."""

    parameter: str
    first: int = 1
    size_parameter: str = ""
    size: Annotated[int, Meta(ge=1, le=10_000)] = 100


class OffsetPaging(Struct, tag="offset", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """How many devices to pass over."""

    parameter: str
    size_parameter: str = ""
    size: Annotated[int, Meta(ge=1, le=10_000)] = 100


class CursorPaging(Struct, tag="cursor", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """A token, or the URL of the next page, in the answer; absent, null, false, 0 or empty on the last page.

    With `header` it is in that header of the answer. With `keep_path` only the query of such a URL counts: the links of
    some vendors lack a part of the path.
    """

    cursor: Expression | None = None
    header: str = ""
    keep_path: bool = False
    parameter: str = ""
    size_parameter: str = ""
    size: Annotated[int, Meta(ge=1, le=10_000)] = 100


class LinkPaging(Struct, tag="link", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """The header `Link` with rel="next" (RFC 8288)."""

    size_parameter: str = ""
    size: Annotated[int, Meta(ge=1, le=10_000)] = 100


Paging = NoPaging | PagePaging | OffsetPaging | CursorPaging | LinkPaging


class Listing(Struct, forbid_unknown_fields=True):
    """The request for a list. `items` and `total` are JMESPath in its answer; POST puts parameters into `body`.

    Where `items` is an object of devices by id, `key` is the member that each id becomes. Where devices lie inside the
    items (devices of sites), `inside` says where in an item, and each device has its item as member `$parent`. A `path`
    may hold the paging's parameter: `/devices/{page}`. `total_header` is a header of the answer. With `for_each` it is
    asked once for each item of another list.
    """

    path: Filled
    items: Expression
    method: Literal["GET", "POST"] = "GET"
    query: dict[str, Filled] = {}
    headers: dict[str, Filled] = {}
    body: dict[str, Any] | None = None
    total: Expression | None = None
    total_header: str = ""
    key: str = ""
    inside: Expression | None = None
    paging: Paging = NoPaging()
    for_each: "Loop | None" = None

    @property
    def counts(self) -> bool:
        """Whether the vendor says how many devices there are."""
        return bool(self.total or self.total_header)

    @property
    def path_parameter(self) -> str:
        """The paging's parameter, where that is in the path."""
        name = getattr(self.paging, "parameter", "")
        return name if name and f"{{{name}}}" in self.path else ""


class Loop(Listing, forbid_unknown_fields=True, kw_only=True):
    """The list of what another one is asked for: sites, groups. `values` find in each item what is `{name}` there; the
    item is member `$parent` of whatever that list has.
    """

    values: dict[Word, Expression]


class Detail(Struct, forbid_unknown_fields=True):
    """A request for each device of the list. Its answer, or what `item` finds in it, is member `$detail` of the device.

    `{id}` is the device's id; `values` find others in it.
    """

    path: Filled
    item: Expression = "@"
    query: dict[str, Filled] = {}
    headers: dict[str, Filled] = {}
    values: dict[Word, Expression] = {}


class Device(Struct, forbid_unknown_fields=True):
    """Where in one device its members lie (JMESPath). `space` is a path `a/b/c` or a list of names."""

    id: Expression
    name: Expression
    serial: Expression | None = None
    mac: Expression | None = None
    model: Expression | None = None
    firmware: Expression | None = None
    space: Expression | None = None


class Telemetry(Struct, forbid_unknown_fields=True):
    """Values of devices. Without `list` they lie in the device list itself; `online` is true, false, or a word.

    `time` says when the values were taken: ISO 8601, or seconds or milliseconds since 1970.
    """

    values: dict[str, Expression] = {}
    time: Expression | None = None
    online: Expression | None = None
    online_words: tuple[str, ...] = ("online", "connected", "active", "up", "available")
    list: Listing | None = None
    id: Expression | None = None


class Manifest(Struct, forbid_unknown_fields=True, kw_only=True):
    """One vendor's cloud."""

    title: Annotated[str, Meta(min_length=1, max_length=100)]
    base_url: Filled
    authentication: Authentication
    list: Listing
    device: Device
    detail: Detail | None = None
    telemetry: Telemetry | None = None
    settings: dict[Word, Field] = {}
    credentials: dict[Word, Field] = {}
    notes: str = ""
    checked: Annotated[str, matching(r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$", "must be a date such as 2026-01-31")] = ""
    """When it was last compared with the vendor's documentation, `sources`."""
    sources: tuple[str, ...] = ()
    requests_per_s: Annotated[float, Meta(gt=0, le=1000)] = 10.0

    @property
    def consents(self) -> bool:
        """Whether it is authorised by the vendor's own consent page."""
        return isinstance(self.authentication, AuthorizationCode)

    def urls(self, settings: Mapping[str, str]) -> tuple[str, ...]:
        """Where a connector with these settings leads; without those that credentials are part of."""
        known = {name: settings.get(name, field.default or "") for name, field in self.settings.items()}
        members = (getattr(self.authentication, name, "") for name in ("token_url", "authorize_url"))
        return tuple(
            filled(text, known) for text in (self.base_url, *members) if text and {*PLACE.findall(text)} <= {*known}
        )
