"""Who waits in Postgres, for tests that hold something on purpose."""

from schemas.postgres import Executor


async def waits_for_a_lock(executor: Executor) -> bool:
    """Whether somebody waits for what another transaction of this database holds."""
    found: bool = await executor.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    return found
