"""What nodes do for a window of the log: they are asked, since settings of a session do not reach them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import ids, postgres
from schemas.postgres import Connection
from workers.dispatcher.reading import EventLog, Span, by_index

EVENTS = 20_000


class Explaining:
    """A connection that has each statement on events explained first."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plans: list[str] = []

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        """What the statement finds."""
        if "events" in sql:
            plan = await self._connection.fetch(f"EXPLAIN {sql}", *arguments)
            self.plans.append("\n".join(row[0] for row in plan))
        return await self._connection.fetch(sql, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_a_window_is_read_by_index_on_its_node_whatever_is_known_of_other_days(dsn: str) -> None:
    """Empty partitions, of days that come, were analysed: that is no reason to sort all that is left of the log."""
    connection = await postgres.connect(dsn, "tests")
    project_id = ids.new_id()
    await connection.execute(
        """INSERT INTO events (shard, seq, stored_at, type, device_id, project_id, ts, data)
           SELECT 1, n, now(), 'telemetry', $1, $2, now(), '{}' FROM generate_series(1, $3::int) n""",
        ids.new_id(),
        project_id,
        EVENTS,
    )
    await connection.execute("ANALYZE events")
    await by_index(connection)
    explaining: Any = Explaining(connection)
    spans = [Span(1, 1, EVENTS, datetime.now(UTC) - timedelta(hours=1))]
    events = await EventLog(distributed=True).read_window(explaining, project_id, spans, 100)
    assert [event.seq for event in events] == list(range(1, 101))
    [plan] = explaining.plans
    assert "Index Scan" in plan
    assert "Seq Scan" not in plan
    assert "->  Sort" not in plan
    assert await connection.fetchval("SHOW enable_seqscan") == "off"
    await connection.close()
