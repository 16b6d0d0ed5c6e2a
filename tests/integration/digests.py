"""What the whole database holds, to compare it with what it held before."""

from typing import Any

from schemas.postgres import Pool

_ROWS = dict.fromkeys(("api_keys", "service_account_keys"), "(to_jsonb(t) - 'last_used_at')::text")


async def everything(pool: Pool, leaving_out: str = "false", *arguments: Any) -> dict[str, str]:
    """A digest of every table; of the audit log without what meets a condition.

    That a key was used is noted of its refused calls too, and is left out.
    """
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    digests = {}
    for (table,) in tables:
        noted = table == "audit_log"
        digests[table] = await pool.fetchval(
            "SELECT md5(coalesce(string_agg(line, '|' ORDER BY line), '')) "
            f"FROM (SELECT {_ROWS.get(table, 't::text')} AS line FROM {table} t"
            f" WHERE ({leaving_out if noted else 'false'}) IS NOT TRUE) lines",
            *(arguments if noted else ()),
        )
    return digests
