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

import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.parser import Parser
from msgspec import Meta, Struct

from schemas.sentences import complaint_of, matching, patterns_of

FOLDER = Path(__file__).parent / "vendors"
PLACE = re.compile(r"{([a-z][a-z0-9_]*)}")

Word = Annotated[
    str,
    matching(
        r"^[a-z][a-z0-9_]{0,62}$",
        "must be at most 63 lower-case letters, digits and underscores, and begin with a letter",
    ),
]
Expression = Annotated[str, Meta(min_length=1, max_length=500)]
"""A JMESPath expression."""
Filled = Annotated[str, Meta(max_length=4000)]
"""Text in which `{name}` stands for a setting or a credential."""


class ManifestError(ValueError):
    """A manifest that cannot be used; the text is a sentence that names file and line."""


class Field(Struct, forbid_unknown_fields=True):
    """Something a person enters: a setting when the connector is created, a credential when it is authorised."""

    label: str
    help: str = ""
    default: str | None = None
    pattern: str = r"[^\x00-\x1f]{1,2000}"


class ApiKey(Struct, tag="api_key", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """A header of its own."""

    header: str
    value: Filled


class Basic(Struct, tag="basic", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """HTTP basic authentication."""

    user: Filled
    password: Filled


class Bearer(Struct, tag="bearer", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """A token that lives long."""

    token: Filled


class ClientCredentials(Struct, tag="client_credentials", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """OAuth 2.0 client credentials (RFC 6749, section 4.4). `client` says where id and secret go."""

    token_url: Filled
    client_id: Filled = "{client_id}"
    client_secret: Filled = "{client_secret}"  # noqa: S105 (a place)
    scope: str = ""
    client: Literal["basic", "body"] = "basic"
    parameters: dict[str, Filled] = {}
    token: Expression = "access_token"  # noqa: S105 (a place)
    lifetime: Expression = "expires_in"
    """Where in the answer the token is, and for how many seconds it is good."""


class AuthorizationCode(Struct, tag="authorization_code", tag_field="kind", forbid_unknown_fields=True, frozen=True):
    """OAuth 2.0 authorization code with refresh (RFC 6749, sections 4.1 and 6) and PKCE (RFC 7636)."""

    authorize_url: Filled
    token_url: Filled
    client_id: Filled = "{client_id}"
    client_secret: Filled = "{client_secret}"  # noqa: S105 (a place)
    scope: str = ""
    client: Literal["basic", "body"] = "body"
    parameters: dict[str, Filled] = {}


Authentication = ApiKey | Basic | Bearer | ClientCredentials | AuthorizationCode


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
    may hold the paging's parameter: `/devices/{page}`. `total_header` is a header of the answer.
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

    @property
    def counts(self) -> bool:
        """Whether the vendor says how many devices there are."""
        return bool(self.total or self.total_header)

    @property
    def path_parameter(self) -> str:
        """The paging's parameter, where that is in the path."""
        name = getattr(self.paging, "parameter", "")
        return name if name and f"{{{name}}}" in self.path else ""


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

    @property
    def leading(self) -> set[str]:
        """Settings and credentials that say where requests go and how they are proven."""
        return {name for _, text in _texts(msgspec.to_builtins(self)) for name in PLACE.findall(text)}


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with `{name}` replaced; a name without value becomes nothing."""
    return PLACE.sub(lambda found: values.get(found[1], ""), text)


def parse(text: str, source: str) -> Manifest:
    """A manifest from its text. Raises ManifestError with the line at fault."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{source}: {error}") from None
    try:
        manifest = msgspec.convert(found, Manifest)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `$")
        keys = re.findall(r"\w+", path.rstrip("`"))
        unknown = re.search(r"unknown field `(\w+)`", sentence)
        line = _line_of(text, [*keys, unknown[1]] if unknown else keys)
        wrong = complaint_of(sentence, patterns_of(Manifest)) if "regex" in sentence else sentence
        raise ManifestError(f"{source}, line {line}: {'.'.join(keys) or 'the manifest'}: {wrong}") from None
    for keys, expression in _expressions(found):
        try:
            jmespath.compile(expression)
            _check_functions(Parser().parse(expression).parsed)
        except JMESPathError as error:
            cause = str(error).splitlines()[0]
            raise ManifestError(f"{source}, line {_line_of(text, keys)}: {'.'.join(keys)}: {cause}") from None
    known = {*manifest.settings, *manifest.credentials}
    for keys, words in _texts(found):
        for name in PLACE.findall(words):
            paged = keys[-1] == "path" and name in (manifest.list.path_parameter, _telemetry_parameter(manifest))
            if name not in known and not paged and not (keys[0] == "telemetry" and name == "id"):
                raise ManifestError(
                    f"{source}, line {_line_of(text, keys)}: {'.'.join(keys)}: there is no setting or credential {name}"
                )
    for kind in ("settings", "credentials"):
        for name, field in found.get(kind, {}).items():
            try:
                re.compile(field.get("pattern", ""))
            except re.error as error:
                raise ManifestError(
                    f"{source}, line {_line_of(text, [kind, name, 'pattern'])}: {kind}.{name}.pattern: {error}"
                ) from None
    return manifest


_EXPRESSIONS = {
    "items",
    "total",
    "cursor",
    "id",
    "name",
    "serial",
    "mac",
    "model",
    "firmware",
    "space",
    "online",
    "time",
    "token",
    "lifetime",
    "inside",
}


def _expressions(found: dict[str, Any], keys: tuple[str, ...] = ()) -> list[tuple[list[str], str]]:
    out: list[tuple[list[str], str]] = []
    for key, value in found.items():
        path = (*keys, key)
        if (
            isinstance(value, dict)
            and path[0] in ("list", "device", "telemetry", "authentication")
            and key not in ("query", "headers", "body")
        ):
            out += _expressions(value, path)
        elif isinstance(value, str) and len(path) > 1 and (key in _EXPRESSIONS or path[-2] == "values"):
            if path[0] == "authentication" and found.get("kind") != "client_credentials":
                continue
            out.append(([*path], value))
    return out


def _telemetry_parameter(manifest: Manifest) -> str:
    listing = None if manifest.telemetry is None else manifest.telemetry.list
    return "" if listing is None else listing.path_parameter


def _check_functions(node: Any) -> None:
    """The library finds a wrong function only when it calls it. Raises JMESPathError."""
    if not isinstance(node, dict):
        return
    if node["type"] == "function_expression":
        known = Functions.FUNCTION_TABLE.get(node["value"])
        if known is None:
            raise JMESPathError(f"there is no function {node['value']}()")
        wanted, given = known["signature"], len(node["children"])
        variadic = bool(wanted) and wanted[-1].get("variadic", False)
        if given < len(wanted) or (given > len(wanted) and not variadic):
            raise JMESPathError(f"{node['value']}() takes {len(wanted)} arguments, not {given}")
    for child in node["children"]:
        _check_functions(child)


def _texts(found: dict[str, Any], keys: tuple[str, ...] = ()) -> list[tuple[list[str], str]]:
    """All texts in which `{name}` must be a setting or a credential; in bodies it may be the vendor's own."""
    out: list[tuple[list[str], str]] = []
    for key, value in found.items():
        path = (*keys, key)
        if isinstance(value, dict) and path[0] in ("list", "telemetry", "authentication") and key != "body":
            out += _texts(value, path)
        elif isinstance(value, str) and (
            path[0] in ("base_url", "authentication") or key == "path" or keys[-1:] in (("query",), ("headers",))
        ):
            out.append(([*path], value))
    return out


def _line_of(text: str, keys: list[str]) -> int:
    """The line of the deepest of these keys that the text has: its table's header, or its own line."""
    table: list[str] = []
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*\[+([\w.\"-]+)\]+", line)
        key = re.match(r"\s*([\w-]+)\s*=", line)
        if head:
            table = head[1].replace('"', "").split(".")
            path = table
        elif key:
            path = [*table, key[1]]
        else:
            continue
        if path == keys[: len(path)] and len(path) > depth:
            best, depth = number, len(path)
    return best


def read(path: Path) -> Manifest:
    """The manifest of a file. Raises ManifestError."""
    try:
        return parse(path.read_text("utf-8"), path.name)
    except OSError as error:
        raise ManifestError(f"{path.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path.name}: it is not UTF-8") from None
    except RecursionError:
        raise ManifestError(f"{path.name}: it is nested too deeply") from None


class Catalog(NamedTuple):
    """All manifests by provider, which is the name of the file: the operator's own stand before those of fleetgate.

    `broken` says why a file is none. A provider is one or the other: one whose own manifest is broken is not read by
    that of fleetgate, which may lead elsewhere.
    """

    manifests: dict[str, Manifest]
    broken: dict[str, str]


def catalog(folder: str = "") -> Catalog:
    """What there is now: files are looked at again whenever they change."""
    found = Catalog({}, {})
    for place in (FOLDER, Path(folder)) if folder else (FOLDER,):
        for path in sorted(place.glob("*.toml")):
            found.manifests.pop(path.stem, None)
            found.broken.pop(path.stem, None)
            try:
                found.manifests[path.stem] = _read_once(path, _stamp(path))
            except ManifestError as error:
                found.broken[path.stem] = str(error)
    return found


def available(folder: str = "") -> dict[str, Manifest]:
    """The manifests that can be used, by provider."""
    return catalog(folder).manifests


def _stamp(path: Path) -> tuple[int, ...]:
    """Different after every change of a file."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=1024)
def _read_once(path: Path, _stamp: tuple[int, ...]) -> Manifest:
    return read(path)


def schema() -> dict[str, Any]:
    """The JSON schema of manifests."""
    return msgspec.json.schema(Manifest)


if __name__ == "__main__":
    json.dump(schema(), sys.stdout, indent=2)
    sys.stdout.write(os.linesep)
