"""When a program last called by a key: noted to the minute, so that a call costs no write, and never waited for."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from schemas.postgres import Executor, PostgresAway

NOTED_EVERY = timedelta(minutes=1)


async def note(
    connection: Executor,
    table: Literal["api_keys", "service_account_keys"],
    key_id: UUID | str,
    noted: datetime | None,
    now: datetime,
) -> None:
    """Note that a key, proved just now, was used. `noted` is what its row says.

    Of many calls at once the first writes. A row that somebody holds is left: the next call notes it. So is one that
    Postgres does not take, read-only or with a full disk: calls that only read are answered there all the same.
    """
    if noted is not None and noted > now - NOTED_EVERY:
        return
    with suppress(PostgresAway):
        await connection.execute(
            f"""UPDATE {table} SET last_used_at = $2
                 WHERE id = (SELECT id FROM {table} WHERE id = $1 AND last_used_at IS NOT DISTINCT FROM $3
                                FOR NO KEY UPDATE SKIP LOCKED)""",
            key_id,
            now,
            noted,
        )
