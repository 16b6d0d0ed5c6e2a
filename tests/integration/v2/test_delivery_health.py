"""How deliveries of data connectors go, as people look at it: at a glance, over time, and why one is disabled."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from owners import Owner
from projects import Account, account_of

from schemas import ids
from schemas.deliveries import LATENCY_BOUNDS_MS
from schemas.postgres import Pool

NOW = datetime.now(UTC)


@pytest.fixture
async def reader(acme: Owner) -> Account:
    return await account_of(acme, "project.user")


async def connector(acme: Owner, **columns: Any) -> str:
    """A connector that dispatchers have worked for."""
    values = {"id": ids.new_xid(), "project_id": acme.project_id, "status": "ACTIVE", "url": "https://r.example/"}
    values |= columns
    places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
    await acme.pool.execute(f"INSERT INTO data_connectors ({', '.join(values)}) VALUES ({places})", *values.values())
    return str(values["id"])


async def attempted(pool: Pool, connector_id: str, minutes_ago: int, successes: int, errors: int, ms: int) -> None:
    """Attempts of one minute, all of which took as long."""
    latencies = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    latencies[LATENCY_BOUNDS_MS.index(ms)] = successes + errors
    await pool.execute(
        "INSERT INTO delivery_minutes VALUES ($1, date_trunc('minute', $2::timestamptz), $3, $4, $5)",
        connector_id,
        NOW - timedelta(minutes=minutes_ago),
        successes,
        errors,
        latencies,
    )


async def test_a_glance_tells_how_each_connector_of_a_project_goes(acme: Owner, reader: Account) -> None:
    """Successes and errors of three hours, what waits, how far it is behind."""
    good = await connector(acme, accepted=10, delivered=7, backlog=5)
    idle = await connector(acme)
    await acme.pool.execute(
        """INSERT INTO waiting_deliveries (connector_id, shard, seq, stored_at, cause, owed_since, next_at)
           SELECT $1, 0, n, now(), 'failed', now() - interval '1 minute' * n, now() FROM generate_series(1, 3) n""",
        good,
    )
    await attempted(acme.pool, good, 10, 8, 2, 50)
    await attempted(acme.pool, good, 190, 100, 100, 50)
    status, found = await reader.ask("GET", f"/v2/projects/{acme.project_id}/dataconnectors:health")
    assert status == 200, found
    first, second = found["health"]
    assert [each["name"].rpartition("/")[2] for each in found["health"]] == sorted([good, idle])
    shown = first if first["name"].endswith(good) else second
    assert (shown["successCount"], shown["errorCount"], shown["pending"], shown["backlog"]) == (8, 2, 3, 5)
    assert 180 <= shown["oldestPendingSeconds"] < 240
    other = second if shown is first else first
    assert (other["successCount"], other["pending"], other["oldestPendingSeconds"], other["disabled"]) == (
        0,
        0,
        0,
        None,
    )


async def test_a_disabled_connector_says_since_when_why_and_what_it_dropped(acme: Owner, reader: Account) -> None:
    """By the system with the beginning of its five days; by a user without."""
    since = NOW - timedelta(days=5)
    failing = await connector(acme, accepted=4, delivered=1, failing_since=since)
    await acme.pool.execute("UPDATE data_connectors SET status = 'SYSTEM_DISABLED' WHERE id = $1", failing)
    await acme.pool.execute(
        "INSERT INTO connector_notices (connector_id, at, kind, failing_since) VALUES ($1, $2, 'system_disabled', $3)",
        failing,
        NOW,
        since,
    )
    path = f"/v2/projects/{acme.project_id}/dataconnectors/{failing}:health"
    _, found = await reader.ask("GET", path)
    assert found["disabled"]["by"] == "SYSTEM"
    assert found["disabled"]["failingSince"] == since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert found["disabled"]["since"]
    assert (found["disabled"]["droppedEvents"], found["disabled"]["isDropping"]) == (0, True)
    await acme.pool.execute("UPDATE connector_jobs SET state = 'DONE', events = 3 WHERE connector_id = $1", failing)
    _, found = await reader.ask("GET", path)
    assert (found["disabled"]["droppedEvents"], found["disabled"]["isDropping"]) == (3, False)
    stopped = await connector(acme, status="USER_DISABLED")
    _, found = await reader.ask("GET", f"/v2/projects/{acme.project_id}/dataconnectors/{stopped}:health")
    assert found["disabled"] == {
        "since": None, "by": "USER", "failingSince": None, "droppedEvents": 0, "isDropping": False,
    }  # fmt: skip
    status, _ = await reader.ask("GET", f"/v2/projects/{acme.project_id}/dataconnectors/{ids.new_xid()}:health")
    assert status == 404


async def test_attempts_are_summed_by_steps_of_whole_minutes(acme: Owner, reader: Account) -> None:
    """Three hours by the minute, a day by five; what had no attempt is left out."""
    made = await connector(acme)
    for minutes_ago, ms in ((2, 100), (3, 1000), (200, 10)):
        await attempted(acme.pool, made, minutes_ago, 3, 1, ms)
    path = f"/v2/projects/{acme.project_id}/dataconnectors/{made}:minutes"
    _, short = await reader.ask("GET", path)
    assert (short["stepSeconds"], len(short["points"])) == (60, 2)
    older, newer = short["points"]
    assert (older["successCount"], older["errorCount"]) == (3, 1)
    assert older["latencyMedianMs"] > newer["latencyMedianMs"] > 0
    start = (NOW - timedelta(hours=24)).strftime("%Y-%m-%dT%H:%M:%SZ")
    end = NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    _, day = await reader.ask("GET", f"{path}?startTime={start}&endTime={end}")
    assert day["stepSeconds"] == 300
    assert sum(point["successCount"] for point in day["points"]) == 9
    assert len(day["points"]) <= 3
    for wrong in (
        f"start_time={end}&end_time={start}",
        f"start_time=2026-01-01T00:00:00Z&end_time={end}",
        "end_time=0001-01-01T00:00:00%2B14:00",
        "end_time=9999-12-31T23:59:59-14:00",
    ):
        status, refused = await reader.ask("GET", f"{path}?{wrong}")
        assert status == 400, refused


async def test_attempts_are_found_by_time_result_and_cause(acme: Owner, reader: Account) -> None:
    """Each filter alone and together; bounds that no clock has are refused."""
    made = await connector(acme)
    for n, (status, cause) in enumerate([(200, None), (503, "status"), (None, "dns"), (204, None)]):
        await acme.pool.execute(
            """INSERT INTO delivery_attempts (connector_id, at, event_id, attempt, status, cause, latency_ms, answer)
               VALUES ($1, $2, $3, 1, $4, $5, 12, 'text')""",
            made,
            NOW - timedelta(minutes=n),
            f"e{n}",
            status,
            cause,
        )
    path = f"/v2/projects/{acme.project_id}/dataconnectors/{made}:attempts"
    from_ = (NOW - timedelta(minutes=2)).isoformat().replace("+00:00", "Z")
    to = (NOW - timedelta(minutes=1)).isoformat().replace("+00:00", "Z")
    for query, expected in (
        ("", {"e0", "e1", "e2", "e3"}),
        ("result=failed", {"e1", "e2"}),
        ("result=delivered", {"e0", "e3"}),
        ("cause=dns", {"e2"}),
        ("event_id=e3", {"e3"}),
        (f"start_time={from_}", {"e0", "e1", "e2"}),
        (f"startTime={from_}&endTime={to}", {"e2"}),
        (f"start_time={from_}&result=delivered", {"e0"}),
    ):
        _, found = await reader.ask("GET", f"{path}?{query}")
        assert {each["eventId"] for each in found["attempts"]} == expected, query
    for wrong in ("result=maybe", "cause=weather", "start_time=0001-01-01T00:00:00%2B14:00", "end_time=soon"):
        assert (await reader.ask("GET", f"{path}?{wrong}"))[0] == 400, wrong


async def test_all_that_does_not_fit_is_told_at_once_before_anything_is_saved(acme: Owner) -> None:
    """By the path of each setting; what fits is told as nothing, and nothing is made."""
    developer = await account_of(acme, "project.developer")
    path = f"/v2/projects/{acme.project_id}/dataconnectors"
    wrong = {
        "httpConfig": {"url": "https://127.0.0.1/", "headers": {"Host": "x"}, "signatureSecret": "short"},
        "events": ["earthquake"],
        "delivery": {"standardWebhooks": True},
    }
    _, found = await developer.ask("POST", f"{path}:check", wrong)
    assert {fault["path"] for fault in found["faults"]} >= {
        "httpConfig.url", "httpConfig.headers", "httpConfig.signatureSecret", "events",
    }  # fmt: skip
    assert all(fault["error"] for fault in found["faults"])
    _, found = await developer.ask("POST", f"{path}:check", {})
    assert found == {"faults": [{"path": "httpConfig.url", "error": "Can't be blank"}]}
    made = await connector(acme)
    assert (await developer.ask("POST", f"{path}/{made}:check", {"displayName": "B"}))[1] == {"faults": []}
    _, found = await developer.ask("POST", f"{path}/{made}:check", {"delivery": {"standardWebhooks": True}})
    assert [fault["path"] for fault in found["faults"]] == ["delivery.standardWebhooks"]
    assert len((await developer.ask("GET", path))[1]["dataConnectors"]) == 1
    assert (await developer.ask("GET", f"{path}/{made}"))[1]["displayName"] == ""


async def test_a_replay_of_times_that_no_clock_has_is_refused(acme: Owner) -> None:
    """400, and nothing breaks."""
    developer = await account_of(acme, "project.developer")
    made = await connector(acme)
    path = f"/v2/projects/{acme.project_id}/dataconnectors/{made}:replay"
    for start, end in (
        ("0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"),
    ):
        status, refused = await developer.ask("POST", path, {"startTime": start, "endTime": end})
        assert status == 400, refused
    wanted = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-02T00:00:00Z"}
    status, job = await developer.ask("POST", path, wanted)
    assert (status, job["replayedFrom"][:10], job["replayedUntil"][:10]) == (200, "2026-01-01", "2026-01-02")
