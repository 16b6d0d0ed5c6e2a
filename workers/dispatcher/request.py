"""What a connector wants sent where, and the request that this makes of a body at one attempt."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any
from uuid import UUID

import msgspec
from multidict import CIMultiDict
from yarl import URL

from schemas.egress import EgressError, EgressPolicy, check_url
from schemas.secrets import Vault
from schemas.signing import SigningKey, checksums, standard_key, standard_signature, symmetric_token
from workers.egress import Origin

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

    @classmethod
    def of_row(cls, row: Mapping[str, Any], vault: Vault, policy: EgressPolicy) -> "Target":
        """From a row of `data_connectors` with its organisation. Raises SecretError."""
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
        )

    def __repr__(self) -> str:
        return f"<Target revision={self.revision}>"

    def wants(self, event_type: str) -> bool:
        """Whether events of this type are sent."""
        return not self.event_types or event_type in self.event_types


class Requests:
    """Makes the requests of one connector.

    While a previous secret overlaps, `X-Dt-Signature` (which has room for one signature) is made with whichever of the
    two the receiver accepted last: `refused` is called when it turned a request down.
    """

    def __init__(self, target: Target, issuer: str, clock: Callable[[], float] = time.time) -> None:
        self.origin = Origin.of_url(target.url) if target.url else None
        """Where to; None: nowhere, for the target's `refusal`."""
        self.target = target
        self._issuer = issuer
        self._clock = clock
        self._use_previous = False
        self._head = _head(target.url, target.headers) if target.url else b""

    def _overlaps(self, now: float) -> bool:
        return bool(self.target.previous_secret) and now < self.target.previous_secret_until_s

    def refused(self) -> None:
        """The receiver answered 400, 401 or 403: it may know the other secret only."""
        self._use_previous = not self._use_previous and self._overlaps(self._clock())

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
        now_s = int(now)
        if target.secret:
            overlaps = self._overlaps(now)
            secret = target.previous_secret if overlaps and self._use_previous else target.secret
            lines = f"X-Dt-Signature: {symmetric_token(secret.encode(), sums, now_s)}\r\n"
            if target.standard:
                secrets = [target.secret, target.previous_secret] if overlaps else [target.secret]
                signature = standard_signature([standard_key(secret) for secret in secrets], event_id, now_s, body)
                lines += f"webhook-id: {event_id}\r\nwebhook-timestamp: {now_s}\r\nwebhook-signature: {signature}\r\n"
        if target.asymmetric and key is not None:
            token = key.token(self._issuer, str(target.organization_id), sums, now_s)
            lines += f"DT-Asymmetric-Signature: {token}\r\n"
        return lines


def _head(url: URL, own: Mapping[str, str]) -> bytes:
    """The request line and the headers that are the same in all requests; `own` headers replace ours."""
    headers = CIMultiDict(
        {
            "Host": url.host_port_subcomponent or "",
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",
        }
    )
    headers.update(own)
    return "\r\n".join(
        [f"POST {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    ).encode()
