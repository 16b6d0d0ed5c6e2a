"""The one counted end of every telemetry message.

At the edge:      received = accepted + refused (by reason)
At the flusher:   accepted = stored + rejected (by reason) + still in the stream
"""

from enum import StrEnum


class Refused(StrEnum):
    """Why an edge did not accept a message; the device got a 4xx or 503."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    STATE_FULL = "state_full"
    SHED_MEMORY = "shed_memory"
    SHED_BACKLOG = "shed_backlog"
    SHED_PENDING = "shed_pending"
    REDIS_AWAY = "redis_away"
    REDIS_FULL = "redis_full"
    REDIS_DISK = "redis_disk"
    REDIS_REPLICAS = "redis_replicas"
    REBUILDING = "rebuilding"


class Stored(StrEnum):
    """What the flusher did with a message it read."""

    STORED = "stored"
    DELETED = "rejected_deleted"
    OLD_KEY = "rejected_old_key"
    QUARANTINED = "rejected_quarantined"
