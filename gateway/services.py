"""What every request handler may use, put together once by `gateway.app`."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from msgspec import Struct

from gateway.event_tail import EventTail
from gateway.ingest.call_limit import CallLimit
from gateway.ingest.ingest import Ingest
from gateway.tenant_shares import TenantShares
from schemas.egress import GuardedResolver
from schemas.ids import AccessKeys
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
    shards: int
    ingest: Ingest
    call_limit: CallLimit
    events: EventTail
    shares: TenantShares
    resolver: GuardedResolver
    """Looks up where URLs that are saved lead to."""
    closing: asyncio.Event
    """Set when the process shuts down, which ends open streams."""
    metrics: Metrics
    clock: Callable[[], datetime]

    @property
    def url(self) -> str:
        """The base URL that devices, receivers and people are told to call."""
        return self.settings.url
