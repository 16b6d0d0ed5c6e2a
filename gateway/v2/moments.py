"""Times that callers give to bound what they ask for, within what every clock and database can tell apart."""

from datetime import UTC, datetime

from gateway.refusals import DoesNotFit
from schemas.telemetry import EARLIEST
from schemas.times import aware

LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def bounded(moment: datetime, name: str) -> datetime:
    """The time, with its offset. Raises DoesNotFit for one before 1970, or so late that its offset leads nowhere."""
    found = aware(moment)
    if not EARLIEST <= found <= LATEST:
        raise DoesNotFit(f"{name} must not be before 1970, nor after the year {LATEST.year}")
    return found
