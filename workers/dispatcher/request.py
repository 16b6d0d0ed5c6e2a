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


class Signatures:
    """Makes the headers of one connector's requests.

    While a previous secret overlaps, `X-Dt-Signature` (which has room for one signature) is made with whichever of the
    two the receiver accepted last: `refused` is called when it turned a request down.
    """

    def __init__(self, target: Target, issuer: str, clock: Callable[[], float] = time.time) -> None:
        self._target = target
        self._issuer = issuer
        self._clock = clock
        self._use_previous = False
        self._fixed = CIMultiDict(
            {"Content-Type": "application/json", "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        )
        self._fixed.update(target.headers)

    def _overlaps(self, now: float) -> bool:
        return bool(self._target.previous_secret) and now < self._target.previous_secret_until_s

    def refused(self) -> None:
        """The receiver answered 400, 401 or 403: it may know the other secret only."""
        self._use_previous = not self._use_previous and self._overlaps(self._clock())

    def headers(self, event_id: str, body: bytes, key: SigningKey | None) -> CIMultiDict[str]:
        """The headers of an attempt that begins now."""
        target, now = self._target, self._clock()
        headers = self._fixed.copy()
        if not target.secret and key is None:
            return headers
        sums = checksums(body)
        now_s = int(now)
        overlaps = self._overlaps(now)
        if target.secret:
            secret = target.previous_secret if overlaps and self._use_previous else target.secret
            headers["X-Dt-Signature"] = symmetric_token(secret.encode(), sums, now_s)
            if target.standard:
                secrets = [target.secret, target.previous_secret] if overlaps else [target.secret]
                headers["webhook-id"] = event_id
                headers["webhook-timestamp"] = str(now_s)
                headers["webhook-signature"] = standard_signature(
                    [standard_key(secret) for secret in secrets], event_id, now_s, body
                )
        if key is not None:
            headers["DT-Asymmetric-Signature"] = key.token(self._issuer, str(target.organization_id), sums, now_s)
        return headers
