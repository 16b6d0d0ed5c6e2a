"""What a connector wants sent where, and the request that this makes of a body at one attempt."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec
from multidict import CIMultiDict
from yarl import URL

from schemas.egress import EgressError, EgressPolicy, check_url
from schemas.secrets import Vault
from schemas.signing import SigningKey, checksums, standard_key, standard_signature, symmetric_token
from workers.egress import Origin

ISSUED_BEFORE_S = 30
"""Signatures are backdated by this much: receivers whose clocks are slow reject what seems to come from the future."""
REFUSED_MAX = 1_000
REFUSED_RUN = 4
"""So many refusals of one secret and no success in between, and the other one is tried first."""
_PARTS = re.compile(r"[^:]*://([^/?]*)(.*)", re.DOTALL)
_NO_PART_OF_A_URI = re.compile(r"[^\x21\x23-\x3b=\x3f-\x5b\x5d_a-z~]")
USER_AGENT = f"fleetgate/{version('fleetgate')}"


class Target(msgspec.Struct, frozen=True):
    """A connector's configuration at one revision, its secrets in the clear."""

    revision: int
    url: URL | None
    refusal: str
    """Why the URL must not be requested, where `url` is None."""
    headers: Mapping[str, str]
    secret: str
    previous_secret: str
    previous_secret_until_s: float
    asymmetric: bool
    standard: bool
    event_types: frozenset[str]
    label_keys: frozenset[str]
    retry_window_s: int
    organization_id: UUID
    in_flight_max: int | None = None
    given_url: str = ""
    """As it was given, where it differs from `url`."""

    @classmethod
    def of_row(cls, row: Mapping[str, Any], vault: Vault, policy: EgressPolicy) -> "Target":
        """From a row of `data_connectors` with its organization. Raises SecretError."""
        owner = row["id"]
        headers = vault.open(row["headers"], owner)
        until: datetime | None = row["previous_secret_until"]
        url, refusal = None, ""
        try:
            url = check_url(row["url"], policy)
        except EgressError as error:
            refusal = str(error)
        return cls(
            revision=row["revision"],
            url=url,
            refusal=refusal,
            headers=msgspec.json.decode(headers, type=dict[str, str]) if headers else {},
            secret=vault.open(row["secret"], owner).decode(),
            previous_secret=vault.open(row["previous_secret"], owner).decode(),
            previous_secret_until_s=until.timestamp() if until else 0.0,
            asymmetric=row["asymmetric_signature"],
            standard=row["standard_webhooks"],
            event_types=frozenset(row["event_types"]),
            label_keys=frozenset(row["labels"]),
            retry_window_s=row["retry_window_s"],
            organization_id=row["organization_id"],
            in_flight_max=row["in_flight_max"],
            given_url=row["url"],
        )

    def __repr__(self) -> str:
        return f"<Target revision={self.revision}>"

    def wants(self, event_type: str) -> bool:
        """Whether events of this type are sent."""
        return not self.event_types or event_type in self.event_types


class Requests:
    """Makes the requests of one connector.

    While a previous secret overlaps, `X-Dt-Signature` (which has room for one signature) is made with whichever of the
    two the receiver accepted last. An event that was answered with any other status than 2xx is tried with the other
    one: receivers say in many ways that they do not accept a signature. `heard` is called with what they said.
    """

    def __init__(
        self,
        target: Target,
        issuer: str,
        clock: Callable[[], float] = time.time,
        before: "Requests | None" = None,
    ) -> None:
        """`before` are those of an earlier revision: what they heard holds while the secrets are the same."""
        self.origin = Origin.of_url(target.url) if target.url else None
        """Where to; None: nowhere, for the target's `refusal`."""
        self.target = target
        self._issuer = issuer
        self._clock = clock
        self._use_previous = False
        """Which secret is tried first."""
        self._refusals = 0
        self._under_way: dict[str, bool] = {}
        self._refused: dict[str, bool] = {}
        """By event: whether it was the previous secret that did not help."""
        self._head = _head(target.url, target.given_url, target.headers) if target.url else b""
        if before is not None and before._secrets() == self._secrets():
            self._use_previous, self._refused = before._use_previous, before._refused

    def _overlaps(self, now: float) -> bool:
        return bool(self.target.previous_secret) and now < self.target.previous_secret_until_s

    def _secrets(self) -> tuple[str, str]:
        return self.target.secret, self.target.previous_secret

    def heard(self, event_id: str, status: int | None) -> None:
        """The receiver answered an attempt with this status, or not at all."""
        previous = self._under_way.pop(event_id, None)
        if previous is None or status is None:
            return
        if 200 <= status < 300:
            self._use_previous, self._refusals = previous, 0
            self._refused.pop(event_id, None)
            return
        self._refused[event_id] = previous
        if len(self._refused) > REFUSED_MAX:
            del self._refused[next(iter(self._refused))]
        if previous is self._use_previous:
            self._refusals += 1
            if self._refusals >= REFUSED_RUN:
                self._use_previous, self._refusals = not previous, 0

    def _secret(self, event_id: str, *, overlaps: bool) -> str:
        """The one that signs this attempt."""
        if not overlaps:
            return self.target.secret
        refused = self._refused.get(event_id)
        previous = self._use_previous if refused is None else not refused
        self._under_way[event_id] = previous
        return self.target.previous_secret if previous else self.target.secret

    def make(self, event_id: str, body: bytes, key: SigningKey | None) -> bytes:
        """The request of an attempt that begins now, as it goes over the wire. `key` is for asymmetric signatures."""
        return b"%b\r\n%bContent-Length: %d\r\n\r\n%b" % (
            self._head,
            self._signatures(event_id, body, key).encode(),
            len(body),
            body,
        )

    def _signatures(self, event_id: str, body: bytes, key: SigningKey | None) -> str:
        """Header lines."""
        target, now = self.target, self._clock()
        if not target.secret and not target.asymmetric:
            return ""
        lines = ""
        sums = checksums(body)
        now_s = int(now) - ISSUED_BEFORE_S
        if target.secret:
            overlaps = self._overlaps(now)
            secret = self._secret(event_id, overlaps=overlaps)
            lines = f"X-Dt-Signature: {symmetric_token(secret.encode(), sums, now_s)}\r\n"
            if target.standard:
                secrets = [target.secret, target.previous_secret] if overlaps else [target.secret]
                signature = standard_signature([standard_key(secret) for secret in secrets], event_id, now_s, body)
                lines += f"webhook-id: {event_id}\r\nwebhook-timestamp: {now_s}\r\nwebhook-signature: {signature}\r\n"
        if target.asymmetric and key is not None:
            token = key.token(self._issuer, str(target.organization_id), sums, now_s)
            lines += f"DT-Asymmetric-Signature: {token}\r\n"
        return lines


def as_given(url: URL, text: str) -> tuple[str, str]:
    """The host and the request target of a URL, byte for byte as somebody wrote it: signed URLs bear no other form.

    Only what no URI may hold is encoded, or else there would be no request.
    """
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return url.host_port_subcomponent or "", url.raw_path_qs
    host, rest = parts.groups()
    path = rest if rest.startswith("/") else f"/{rest}"
    return (
        host if host.isascii() else url.host_port_subcomponent or "",
        _NO_PART_OF_A_URI.sub(lambda found: quote(found[0], safe=""), path),
    )


def _head(url: URL, given: str, own: Mapping[str, str]) -> bytes:
    """The request line and the headers that are the same in all requests; `own` headers replace ours."""
    host, path = as_given(url, given)
    headers = CIMultiDict(
        {
            "Host": host,
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
    )
    for name, value in own.items():
        headers[name] = value
    return "\r\n".join([f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]).encode()
