"""The partitions of the event log: one for each UTC day, named by it."""

from datetime import UTC, date, datetime, time

from schemas.postgres import Executor

PREFIX = "events_"


def name_of(day: date) -> str:
    """The partition of a day."""
    return f"{PREFIX}{day:%Y%m%d}"


def begin_of(day: date) -> datetime:
    """When a day begins, and its partition with it."""
    return datetime.combine(day, time(), UTC)


async def days(executor: Executor) -> list[date]:
    """The days that the log has partitions of, oldest first."""
    rows = await executor.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'events'::regclass"
    )
    return sorted(datetime.strptime(row["name"], f"{PREFIX}%Y%m%d").date() for row in rows)
