"""What every request handler may use, put together once by `gateway.app`."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from msgspec import Struct

from gateway.event_tail import EventTail
from gateway.identity.provider import IdentityProvider
from gateway.ingest.call_limit import CallLimit
from gateway.ingest.ingest import Ingest
from gateway.live_states import LiveStates
from gateway.passwords import Passwords
from gateway.refusals import UNKNOWN_MASTER_KEY, Unavailable, retry_after_s
from gateway.stores.events.tiers import Tiers
from gateway.tenant_shares import TenantShares
from gateway.transfers import Downloads, Transfers
from schemas.blobs.store import BlobStore
from schemas.egress import GuardedResolver
from schemas.ids import AccessKeys, UnknownGeneration
from schemas.master_keys import MasterKeys
from schemas.metrics import Metrics
from schemas.postgres import Pool
from schemas.redis import Redis
from schemas.settings import EdgeSettings


class Services(Struct, frozen=True, kw_only=True):
    """The services of one edge process."""

    settings: EdgeSettings
    postgres: Pool
    redis: Redis
    access_keys: AccessKeys
    master_keys: MasterKeys
    shards: int
    ingest: Ingest
    call_limit: CallLimit
    events: EventTail
    live: LiveStates
    shares: TenantShares
    log: Tiers
    """The event log, wherever its days lie."""
    blobs: BlobStore
    """Where the bytes of files lie."""
    uploads: Transfers
    dumps: Transfers
    """Uploads of devices, which are no reason to refuse one of a tenant."""
    downloads: Downloads
    passwords: Passwords
    identity: IdentityProvider
    """Where people may sign in, too."""
    resolver: GuardedResolver
    """Looks up where URLs that are saved lead to."""
    closing: asyncio.Event
    """Set when the process shuts down, which ends open streams."""
    metrics: Metrics
    clock: Callable[[], datetime]

    def access_key(self, device_id: UUID, version: int) -> str:
        """A device's access key of a version. Raises Unavailable when it is of a master key that is not known here."""
        try:
            return self.access_keys.issue(str(device_id), version)
        except UnknownGeneration:
            raise Unavailable(UNKNOWN_MASTER_KEY, retry_after_s=retry_after_s()) from None

    def account_secret(self, generation: int, key_id: str) -> str:
        """The secret of a service account's key. Raises Unavailable likewise."""
        secret = self.master_keys.secret(generation, key_id)
        if secret is None:
            raise Unavailable(UNKNOWN_MASTER_KEY, retry_after_s=retry_after_s())
        return secret

    @property
    def url(self) -> str:
        """The base URL that devices, receivers and people are told to call."""
        return self.settings.url
