"""Rollouts end to end: waves, gates, windows, pace, and what people and devices do meanwhile."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from campaigns import Campaign, campaign, firmware
from owners import Owner
from prometheus_client import CollectorRegistry

from schemas import keys
from schemas.metrics import Metrics
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from workers.retention import Retention

THIRDS = [{"percent": 34}, {"percent": 67}, {"percent": 100}]


async def test_a_rollout_goes_through_its_waves_and_ends(acme: Owner, redis_client: Redis) -> None:
    """One wave after the other, each when the devices of the one before are through; then each has its outcome."""
    devices = [await acme.device() for _ in range(40)]  # of fewer, a wave may have none
    spring = await campaign(acme, redis_client, waves=THIRDS)
    seen: list[set[UUID]] = []
    for _ in THIRDS:
        await spring.advance(seconds=1)
        offered = await spring.offered()
        seen.append(offered)
        assert not offered & set().union(*seen[:-1])
        for device_id in offered:
            await spring.reports(device_id, "2.0.0")
    await spring.advance(seconds=1)
    assert sorted(set().union(*seen)) == sorted(devices)
    found = await spring.read()
    assert (found["status"], found["counts"]["succeeded"]) == ("finished", 40)
    assert [wave["counts"]["succeeded"] for wave in found["waves"]] == [len(one) for one in seen]
    assert await acme.pool.fetchval("SELECT settled_at IS NOT NULL FROM rollouts") is True


async def test_a_release_is_for_nobody_before_its_rollout_reaches_them(
    edge: Any, acme: Owner, redis_client: Redis
) -> None:
    """Neither before the start nor while it is paused; the prepared reply follows at once."""
    device_id = await acme.device()
    spring = await campaign(acme, redis_client, start=False)
    shard = (await acme.row(device_id))["shard"]

    async def told() -> bool:
        reply = await redis_client.hget(keys.reply(shard), str(device_id))
        return reply is not None and b'"latest_fw_version":"2.0.0"' in reply

    await acme.pool.execute("UPDATE devices SET firmware_version = '1.1.0' WHERE id = $1", device_id)
    await spring.advance(seconds=1)
    assert (await spring.offered(), await told()) == (set(), False)
    await spring.act("start")
    await spring.advance(seconds=1)
    assert (await spring.offered(), await told()) == ({device_id}, True)
    assert (await spring.act("pause"))["reason"] == f"paused by key:{acme.key_id}"
    assert (await spring.offered(), await told()) == (set(), False)
    await spring.advance(seconds=1)
    assert (await spring.states())[device_id] == "waiting"
    await spring.act("resume")
    await spring.advance(seconds=1)
    assert (await spring.offered(), await told()) == ({device_id}, True)


async def test_the_command_channel_sends_update_firmware(acme: Owner, redis_client: Redis) -> None:
    """With where the bytes are and what proves them; its answers are evidence, the version is the proof."""
    device_id = await acme.device()
    spring = await campaign(acme, redis_client, channel="command", grace_s=60, retries=0)
    await spring.advance(seconds=1)
    [command] = (await acme.call("GET", f"/devices/{device_id}/commands"))["items"]
    assert (command["command"], command["parameters"]) == (
        "update_firmware",
        {
            "url": f"https://gw/v1/devices/{device_id}/files/{spring.file_id}/content?token=t",
            "version": "2.0.0",
            "checksum": "ab" * 32,
            "signature": None,
        },
    )
    for status, state in (("in_progress", "downloading"), ("done", "installing")):
        await acme.pool.execute(
            """UPDATE commands SET status = $1, delivered_at = $2,
                      finished_at = CASE WHEN $1 = 'done' THEN $2::timestamptz END""",
            status,
            spring.now,
        )
        await spring.advance(seconds=1)
        assert (await spring.states())[device_id] == state
    await spring.advance(seconds=61)
    [part] = (await acme.call("GET", f"{spring.path}/devices", state="failed"))["items"]
    assert (part["device_id"], part["attempts"], part["wave"]) == (str(device_id), 1, 1)
    assert part["reason"] == "still reports the version before, after the command was done"


async def test_a_command_of_a_paused_rollout_is_not_handed_out(edge: Any, acme: Owner, redis_client: Redis) -> None:
    """Not even before the worker has taken it back; then it is aborted. One that the device has is left alone."""
    first, second = await acme.device(), await acme.device()
    spring = await campaign(acme, redis_client, channel="command")
    await spring.advance(seconds=1)

    async def next_command(device_id: UUID) -> Any:
        headers = {"authorization": edge.services.access_key(device_id, 0)}
        async with edge.http.get(f"{edge.url}/v1/devices/{device_id}/command", headers=headers) as answer:
            return (await answer.json()).get("name")

    assert await next_command(first) == "update_firmware"
    await spring.act("pause")
    assert (await next_command(first), await next_command(second)) == ("update_firmware", None)
    await spring.advance(seconds=1)
    assert await spring.states() == {first: "downloading", second: "waiting"}
    statuses = dict(await acme.pool.fetch("SELECT device_id, status FROM commands"))
    assert statuses == {first: "pending", second: "aborted"}


async def test_a_gate_pauses_once(acme: Owner, redis_client: Redis) -> None:
    """From so many reports on and not before; whoever resumes has seen it, and it is quiet from then on."""
    for _ in range(10):
        await acme.device()
    gate = {"min_reported": 4, "failed_percent": 50}
    spring = await campaign(
        acme, redis_client, channel="command", retries=0, waves=[{"count": 6, "gate": gate}, {"percent": 100}]
    )
    await spring.advance(seconds=1)
    first = sorted(device_id for device_id, state in (await spring.states()).items() if state == "offered")
    assert len(first) == 6
    for number, device_id in enumerate(first[:4], start=1):
        await _fails(spring, device_id)
        await spring.advance(seconds=1)
        assert await spring.status() == ("running" if number < 4 else "paused")
    found = await spring.read()
    assert found["reason"] == "the gate of wave 1: 4 of 4 that reported have failed"
    (told,) = (await acme.call("GET", "/audit", actor="system"))["items"]
    assert (told["action"], told["after"]) == ("fire_gate", {"status": "paused", "reason": found["reason"]})
    await spring.act("resume")
    await spring.advance(seconds=1)
    for device_id in first[4:]:
        await _fails(spring, device_id)
    await spring.advance(seconds=1)
    found = await spring.read()
    assert (found["status"], found["wave"], found["waves"][1]["counts"]["offered"]) == ("running", 2, 4)


async def test_a_gate_takes_devices_back_to_a_version(acme: Owner, redis_client: Redis) -> None:
    """The rollout is aborted, and those that it had reached are sent the older version; nobody else is."""
    for _ in range(6):
        await acme.device()
    good = await firmware(acme, "1.5.0")
    gate = {"failed_count": 1, "on_failure": "roll_back", "back_to_file_id": str(good)}
    spring = await campaign(
        acme, redis_client, channel="command", retries=0, waves=[{"count": 3, "gate": gate}, {"percent": 100}]
    )
    await spring.advance(seconds=1)
    first = sorted(device_id for device_id, state in (await spring.states()).items() if state == "offered")
    await spring.reports(first[0], "2.0.0")
    await spring.advance(seconds=1)
    await _fails(spring, first[1])
    await spring.advance(seconds=1)
    assert await spring.status() == "aborted"
    [back] = (await acme.call("GET", "/rollouts", file_id=good))["items"]
    assert (back["taken_back_from"], back["status"]) == (spring.id, "running")
    taken = (await acme.call("GET", f"/rollouts/{back['id']}/devices"))["items"]
    assert {part["device_id"] for part in taken} == {str(device_id) for device_id in first[:2]}
    await spring.advance(seconds=11)
    assert (await acme.row(first[0]))["latest_fw_version"] == "1.5.0"
    sent = await acme.pool.fetch("SELECT device_id FROM commands WHERE parameters ->> 'version' = '1.5.0'")
    assert [row["device_id"] for row in sent] == [first[0]]
    await spring.reports(first[0], "1.5.0")
    await spring.advance(seconds=11)
    taken = (await acme.call("GET", f"/rollouts/{back['id']}/devices"))["items"]
    assert {part["device_id"]: part["state"] for part in taken} == {
        str(first[0]): "succeeded",
        str(first[1]): "skipped",
    }
    assert (await acme.call("GET", f"/rollouts/{back['id']}"))["status"] == "finished"


async def test_a_gate_aborts(acme: Owner, redis_client: Redis) -> None:
    """`→ abort`: who waits is cancelled, nobody is taken back."""
    for _ in range(3):
        await acme.device()
    gate = {"failed_count": 1, "on_failure": "abort"}
    waves = [{"count": 2, "gate": gate}, {"percent": 100}]
    spring = await campaign(acme, redis_client, channel="command", retries=0, waves=waves)
    await spring.advance(seconds=1)
    first = sorted(device_id for device_id, state in (await spring.states()).items() if state == "offered")
    await _fails(spring, first[0])
    await spring.advance(seconds=1)
    found = await spring.read()
    assert (found["status"], found["reason"]) == ("aborted", "the gate of wave 1: 1 of 1 that reported have failed")
    assert Counter((await spring.states()).values()) == {"failed": 1, "cancelled": 2}
    assert await spring.offered() == set()
    assert len((await acme.call("GET", "/rollouts"))["items"]) == 1


async def test_a_rollout_and_its_waves_begin_at_their_times(acme: Owner, redis_client: Redis) -> None:
    """`scheduled` until its own time, which may be put off; a wave waits for its own, however soon the one before is
    through.
    """
    devices = {await acme.device() for _ in range(4)}
    begins = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    waves = [{"count": 1}, {"percent": 100, "starts_at": (begins + timedelta(hours=2)).isoformat()}]
    spring = await campaign(acme, redis_client, starts_at=begins.isoformat(), waves=waves)
    assert await spring.status() == "scheduled"
    begins += timedelta(minutes=30)
    assert (await acme.call("PATCH", spring.path, {"starts_at": begins.isoformat()}))["status"] == "scheduled"
    await spring.advance(minutes=80)
    assert (await spring.status(), await spring.offered()) == ("scheduled", set())
    assert [one["id"] for one in (await acme.call("GET", "/rollouts", status="scheduled"))["items"]] == [spring.id]
    assert (await acme.call("GET", "/rollouts", status="running"))["items"] == []
    await spring.advance(minutes=11)
    [first] = await spring.offered()
    assert await spring.status() == "running"
    await spring.reports(first, "2.0.0")
    await spring.advance(minutes=80)
    assert ((await spring.read())["wave"], await spring.offered()) == (1, set())
    await spring.advance(minutes=20)
    assert await spring.offered() == devices - {first}
    of_wave = (await acme.call("GET", f"{spring.path}/devices", wave=1))["items"]
    assert [part["device_id"] for part in of_wave] == [str(first)]


async def test_a_person_lets_a_wave_pass(acme: Owner, redis_client: Redis) -> None:
    """Where the gate says so; of two who do, the second is told that nothing waits."""
    for _ in range(4):
        await acme.device()
    spring = await campaign(
        acme, redis_client, waves=[{"count": 1, "soak_s": 60, "gate": {"on_success": "wait"}}, {"percent": 100}]
    )
    await spring.advance(seconds=1)
    [first] = await spring.offered()
    assert (await spring.act("next_wave"))[0] == 409
    await spring.reports(first, "2.0.0")
    await spring.advance(seconds=1)
    await spring.advance(seconds=59)
    assert (await spring.read())["waves"][0]["status"] == "soaking"
    await spring.advance(seconds=2)
    assert (await spring.read())["waves"][0]["status"] == "waiting"
    assert (await spring.act("next_wave"))["waves"][0]["status"] == "passed"
    assert (await spring.act("next_wave"))[0] == 409
    await spring.advance(seconds=1)
    assert len(await spring.offered()) == 3


async def test_no_more_than_so_many_a_minute_are_newly_offered(acme: Owner, redis_client: Redis) -> None:
    """In any minute, also where a worker is another one."""
    for _ in range(7):
        await acme.device()
    spring = await campaign(acme, redis_client, max_per_minute=3)
    counts = []
    for _ in range(5):
        await spring.advance(seconds=20)
        counts.append(len(await spring.offered()))
    assert counts == [3, 3, 3, 6, 6]


async def test_a_window_opens_in_the_time_zone_of_each_space(acme: Owner, redis_client: Redis) -> None:
    """And closes: who has not begun by then waits for the next day, until the time to report is over."""
    far = await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": "Tokyo"})
    await acme.call("PATCH", f"/spaces/{far['id']}", {"time_zone": "Asia/Tokyo"})
    near, away = await acme.device(), await acme.device(space_id=UUID(far["id"]))
    window = {"opens": "02:00:00", "closes": "04:00:00"}
    spring = await campaign(acme, redis_client, window=window, report_timeout_s=90_000)
    spring.now = spring.now.replace(hour=1, minute=0, second=0) if spring.now.hour < 1 else spring.now
    spring.now = spring.now.replace(hour=1, minute=30)
    await spring.advance()
    assert await spring.offered() == set()
    await spring.advance(hours=1)
    assert await spring.offered() == {near}
    await spring.advance(hours=2)
    assert await spring.offered() == set()
    await spring.advance(hours=13)
    assert await spring.offered() == {away}
    await spring.advance(hours=9)
    assert await spring.offered() == {near}
    await spring.advance(hours=24)
    assert (await spring.states())[near] == "timed_out"


async def test_downloads_may_come_before_the_window(acme: Owner, redis_client: Redis) -> None:
    """The device is told at any time, and sent the command that installs once the window has opened."""
    device_id = await acme.device()
    window = {"opens": "02:00:00", "closes": "04:00:00", "download_before": True}
    spring = await campaign(acme, redis_client, channel="command", window=window)
    spring.now = (spring.now + timedelta(days=1)).replace(hour=1, minute=0)
    await spring.advance()
    assert await spring.offered() == {device_id}
    await acme.pool.execute(
        "UPDATE rollout_devices SET fetch_began_at = $1, fetched_at = $1, due_at = '-infinity'", spring.now
    )
    await spring.advance(minutes=59)
    assert (await spring.states())[device_id] == "downloading"
    assert await acme.pool.fetchval("SELECT count(*) FROM commands") == 0
    await spring.advance(minutes=2)
    assert await acme.pool.fetchval("SELECT count(*) FROM commands WHERE status = 'pending'") == 1
    await spring.reports(device_id, "1.0.0")
    await acme.pool.execute("UPDATE commands SET delivered_at = $1", spring.now)
    await spring.advance(seconds=1)
    assert (await spring.states())[device_id] == "installing"


async def test_devices_that_come_later_are_taken_in_where_that_is_wanted(acme: Owner, redis_client: Redis) -> None:
    """A dynamic rollout goes on; another one has ended by then."""
    first = await acme.device()
    spring = await campaign(acme, redis_client, dynamic=True)
    await spring.advance(seconds=1)
    await spring.reports(first, "2.0.0")
    await spring.advance(seconds=1)
    late = await acme.device()
    await spring.advance(seconds=11)
    assert (await spring.offered(), await spring.status()) == ({late}, "running")


async def test_labels_and_spaces_choose_devices_of_a_wave(acme: Owner, redis_client: Redis) -> None:
    """All labels must be there; a space has those below it. Who is of no wave is offered nothing, and counted so."""
    below = await acme.call("POST", "/spaces", {"parent_id": str(acme.space_id), "name": "Shelf"})
    cellar = await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": "Cellar"})
    beta = await acme.device(labels={"ring": "beta", "floor": "1"}, space_id=UUID(cellar["id"]))
    inside = await acme.device(space_id=UUID(below["id"]))
    outside = await acme.device(labels={"ring": "stable"}, space_id=UUID(cellar["id"]))
    spring = await campaign(acme, redis_client, waves=[{"labels": {"ring": "beta"}}, {"space_id": str(acme.space_id)}])
    for expected in (beta, inside):
        await spring.advance(seconds=1)
        assert await spring.offered() == {expected}
        await spring.reports(expected, "2.0.0")
    await spring.advance(seconds=1)
    assert await spring.states() == {beta: "succeeded", inside: "succeeded", outside: "skipped"}


async def test_a_device_that_leaves_is_skipped(acme: Owner, globex: Owner, redis_client: Redis) -> None:
    """Deleted, of another model, of another owner: each with its reason; what it was sent is taken back."""
    deleted, other_model, sold, up_to_date = [await acme.device() for _ in range(4)]
    spring = await campaign(acme, redis_client, channel="command")
    await spring.advance(seconds=1)
    assert set((await spring.states()).values()) == {"offered"}
    await acme.call("DELETE", f"/devices/{deleted}")
    model = await acme.call("POST", "/models", {"vendor": "Acme", "name": "Other"})
    await acme.pool.execute("UPDATE devices SET model_id = $2 WHERE id = $1", other_model, UUID(model["id"]))
    await acme.pool.execute(
        "UPDATE devices SET organization_id = $2, project_id = $3, space_id = $4 WHERE id = $1",
        sold,
        globex.organization_id,
        globex.project_id,
        globex.space_id,
    )
    await spring.reports(up_to_date, "3.0.0")
    await spring.advance(seconds=1)
    parts = {UUID(part["device_id"]): part for part in (await acme.call("GET", f"{spring.path}/devices"))["items"]}
    assert {part["state"] for part in parts.values()} == {"skipped"}
    assert [parts[one]["reason"] for one in (deleted, other_model, sold, up_to_date)] == [
        "it was deleted",
        "it is of another model",
        "it has another owner",
        "has a newer version",
    ]
    assert await acme.pool.fetchval("SELECT count(*) FROM commands WHERE status = 'pending'") == 0


async def test_a_withdrawn_file_aborts_its_rollout(acme: Owner, redis_client: Redis) -> None:
    """Who downloads is left alone until its time is over; everybody else is offered nothing."""
    busy, idle = await acme.device(), await acme.device()
    spring = await campaign(acme, redis_client, report_timeout_s=3600)
    await spring.advance(seconds=1)
    await acme.pool.execute(
        "UPDATE rollout_devices SET fetch_began_at = $2, due_at = '-infinity' WHERE device_id = $1", busy, spring.now
    )
    await acme.pool.execute("UPDATE files SET status = 'withdrawn'")
    await spring.advance(seconds=1)
    found = await spring.read()
    assert (found["status"], found["reason"]) == ("aborted", "its file was withdrawn")
    assert (await spring.states(), await spring.offered()) == ({busy: "downloading", idle: "cancelled"}, set())
    await spring.advance(hours=1)
    assert (await spring.states())[busy] == "timed_out"


async def test_a_device_that_falls_back_is_offered_again_up_to_its_retries(acme: Owner, redis_client: Redis) -> None:
    """After a power cut it reports the version before: offered once more, then it has failed."""
    device_id, _ = await acme.device(), await acme.device()
    spring = await campaign(acme, redis_client, retries=1)
    await spring.advance(seconds=1)
    await spring.reports(device_id, "2.0.0")
    await spring.advance(seconds=1)
    assert (await spring.states())[device_id] == "succeeded"
    await spring.reports(device_id, "1.0.0")
    await spring.advance(seconds=1)
    assert (await spring.states())[device_id] == "offered"
    await acme.pool.execute("UPDATE rollout_devices SET fetch_began_at = $1, fetched_at = $1", spring.now)
    await spring.advance(seconds=1)
    await spring.reports(device_id, "1.0.0")
    await spring.advance(seconds=1)
    assert (await spring.states())[device_id] == "failed"


async def test_a_newer_version_goes_before(acme: Owner, redis_client: Redis) -> None:
    """Who was offered the older one, and has not begun, is offered the newer; who has begun gets through first."""
    busy, idle = await acme.device(), await acme.device()
    spring = await campaign(acme, redis_client)
    await spring.advance(seconds=1)
    await acme.pool.execute(
        "UPDATE rollout_devices SET fetch_began_at = $2, due_at = '-infinity' WHERE device_id = $1", busy, spring.now
    )
    summer = await campaign(acme, redis_client, "3.0.0")
    summer.now = spring.now
    for _ in range(2):
        await summer.advance(seconds=11)
    assert await spring.states() == {busy: "downloading", idle: "skipped"}
    assert (await summer.states(), await summer.offered()) == ({busy: "waiting", idle: "offered"}, {idle})
    await spring.reports(busy, "2.0.0")
    await summer.advance(seconds=11)
    assert await summer.offered() == {busy, idle}
    older = await campaign(acme, redis_client, "2.5.0")
    older.now = summer.now
    await older.advance(seconds=11)
    assert (await summer.offered(), await older.offered()) == ({busy, idle}, set())


async def test_a_rollout_waits_for_a_second_person(acme: Owner, redis_client: Redis) -> None:
    """The one who made or started it is not one; and it waits for its time then."""
    await acme.device()
    other = (await acme.call("POST", "/api_keys", {"kind": "organization", "name": "Other"}))["key"]
    spring = await campaign(acme, redis_client, needs_approval=True)
    assert await spring.status() == "waiting_for_approval"
    assert (await spring.act("approve"))[0] == 403
    assert (await acme.call("PATCH", spring.path, {"retries": 3}))[0] == 409
    assert (await spring.act("approve", key=other))["status"] == "running"
    assert (await spring.act("approve", key=other))["status"] == "running"


async def _fails(spring: Campaign, device_id: UUID) -> None:
    """The device's command fails, after it has been fetched."""
    await spring.owner.pool.execute(
        "UPDATE commands SET status = 'failed', delivered_at = $2, finished_at = $2 WHERE device_id = $1",
        device_id,
        spring.now,
    )


async def test_parts_of_rollouts_go_so_long_after_their_end_and_nobody_else_is_offered_anything(
    acme: Owner, redis_client: Redis
) -> None:
    """The rollout stays, with its counts: it says for whom its firmware is. So does the part of whom it is offered."""
    settings = WorkerSettings(postgres_dsn="", redis_url="", master_key="", rollouts_days=30)
    keeper = Retention(acme.pool, Metrics(CollectorRegistry()), settings, 4)
    done, fell_back, failed = [await acme.device() for _ in range(3)]
    over = await campaign(acme, redis_client, retries=0, report_timeout_s=60)
    await over.advance(seconds=1)
    await over.reports(done, "2.0.0")
    await over.reports(fell_back, "2.0.0")
    await over.advance(seconds=90)
    assert await over.states() == {done: "succeeded", fell_back: "succeeded", failed: "timed_out"}
    await over.reports(fell_back, "1.0.0")
    await over.advance(seconds=1)
    younger = await campaign(acme, redis_client, "3.0.0", waves=[{"labels": {"none": "such"}}], dynamic=True)
    await younger.advance(seconds=1)
    before = await over.read(), await over.offered(), await younger.states()
    assert (before[0]["status"], before[1], len(before[2])) == ("finished", {fell_back}, 3)
    await keeper.tidy(over.now + timedelta(days=29))
    assert len(await over.states()) == 3
    await keeper.tidy(over.now + timedelta(days=31))
    assert await over.states() == {fell_back: "succeeded"}
    latecomer = await acme.device()
    await over.reports(latecomer, "1.0.1")
    assert (await over.read(), await over.offered(), await younger.states()) == before
    await over.reports(fell_back, "2.0.0")
    await keeper.tidy(over.now + timedelta(days=31))
    assert await over.states() == {}
