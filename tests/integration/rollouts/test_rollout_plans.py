"""Plans of rollouts: what does not fit is refused by name, whose they are, and what may be changed when."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from campaigns import campaign, firmware
from owners import Owner
from prometheus_client import CollectorRegistry

from gateway.stores.files.catalog import IN_ROLLOUT
from schemas import ids
from schemas.metrics import Metrics
from schemas.redis import Redis
from schemas.settings import WorkerSettings
from workers.retention import Retention

NEW_FIRMWARE = {"name": "F", "file_type": "firmware", "version": "4.0.0"}
NOBODY = str(ids.new_id())
BAD_PLANS: list[tuple[dict[str, Any], str]] = [
    ({"file_id": NOBODY}, "File id: file not found"),
    ({"waves": []}, "Waves: Expected array of length >= 1"),
    ({"waves": [{}]}, "Waves[0]: give one of percent, count, labels and space id"),
    ({"waves": [{"percent": 5, "count": 5}]}, "Waves[0]: give one of percent, count, labels and space id"),
    ({"waves": [{"percent": 50}, {"percent": 50}]}, "Waves[1].percent must be more than that of the waves before"),
    ({"waves": [{"percent": 0}]}, "Waves[0].percent: Expected float > 0"),
    ({"waves": [{"percent": 101}]}, "Waves[0].percent: Expected float <= 100"),
    ({"waves": [{"count": 2**63}]}, "Waves[0].count: Expected int <= 2147483647"),
    ({"waves": [{"labels": {}}]}, "Waves[0].labels must be 1 to 20 labels"),
    ({"waves": [{"space_id": NOBODY}]}, "Waves[0].space id: space not found"),
    (
        {"waves": [{"percent": 1, "gate": {"failed_percent": 1, "failed_count": 1}}]},
        "Waves[0].gate: give failed percent or failed count",
    ),
    ({"waves": [{"percent": 1, "gate": {"on_failure": "roll_back"}}]}, "Waves[0].gate: roll_back and back to file id"),
    (
        {"waves": [{"percent": 1, "gate": {"on_failure": "roll_back", "back_to_file_id": NOBODY}}]},
        "Waves[0].gate.back to file id: file not found",
    ),
    ({"window": {"opens": "02:00:00", "closes": "02:00:00"}}, "Window opens and closes at the same time"),
    ({"window": {"opens": "02:00:00+01:00", "closes": "03:00:00"}}, "Window.opens: Expected time with no timezone"),
    ({"max_per_minute": 0}, "Max per minute: Expected int >= 1"),
    ({"retries": 11}, "Retries: Expected int <= 10"),
    ({"report_timeout_s": 59}, "Report timeout s: Expected int >= 60"),
    ({"starts_at": "2026-05-04T12:00:00"}, "Starts at: Expected datetime with a timezone"),
    ({"name": "\0"}, "Name: a text must not hold U+0000"),
    ({"waves": [{"labels": {"ring\0": "x"}}]}, "Waves[0].labels: a text must not hold U+0000"),
]


async def test_what_does_not_fit_is_refused_by_name(acme: Owner) -> None:
    """422, with what to change; an unknown member is 400."""
    file_id = str(await firmware(acme, "2.0.0"))
    wrong = []
    for given, text in BAD_PLANS:
        status, said = await acme.call("POST", "/rollouts", {"name": "Spring", "file_id": file_id} | given)
        if status != 422 or not said.startswith(text):
            wrong.append((given, status, said))
    assert wrong == []
    assert (await acme.call("POST", "/rollouts", {"name": "Spring", "file_id": file_id, "speed": 1}))[0] == 400
    assert (await acme.call("GET", "/rollouts"))["items"] == []


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"status": "withdrawn"}, "File id: the file was withdrawn"),
        ({"file_type": "map"}, "File id: only firmware is rolled out"),
    ],
)
async def test_only_firmware_that_stands_is_rolled_out(acme: Owner, columns: Any, text: str) -> None:
    """Drafts may be planned for; started they may not be before they are released."""
    file_id = str(await firmware(acme, "2.0.0", **columns))
    assert await acme.call("POST", "/rollouts", {"name": "Spring", "file_id": file_id}) == (422, text)
    draft = str(await firmware(acme, "2.1.0", status="draft"))
    planned = await acme.call("POST", "/rollouts", {"name": "Spring", "file_id": draft})
    status, said = await acme.call("POST", f"/rollouts/{planned['id']}/start")
    assert (status, said.partition(":")[0]) == (409, "File is not released")


async def test_nobody_else_knows_of_a_rollout(acme: Owner, globex: Owner, redis_client: Redis) -> None:
    """Neither another owner, nor the same organization as vendor: 404, whatever they ask for."""
    spring = await campaign(acme, redis_client)
    path = f"/rollouts/{spring.id}"
    calls = [("GET", path), ("PATCH", path), ("GET", f"{path}/devices")]
    calls += [("POST", f"{path}/{action}") for action in ("start", "approve", "pause", "resume", "abort", "next_wave")]
    for method, where in calls:
        body = {"name": "Mine"} if method == "PATCH" else None
        assert await globex.call(method, where, body) == (404, "Rollout not found"), where
        assert await acme.partner(method, where, body) == (404, "Rollout not found"), where
    assert (await globex.call("GET", "/rollouts"))["items"] == (await acme.partner("GET", "/rollouts"))["items"] == []
    mine = {"name": "Mine", "file_id": str(spring.file_id)}
    assert await globex.call("POST", "/rollouts", mine) == (422, "File id: file not found")
    assert await globex.partner("POST", "/rollouts", mine) == (422, "File id: file not found")


async def test_a_vendor_rolls_out_to_all_devices_of_its_model(acme: Owner, globex: Owner, redis_client: Redis) -> None:
    """Whoever owns them; by nothing that is the owners', who cannot overtake it."""
    own, unclaimed = await acme.device(), await acme.device(claimed=False)
    sold = await globex.device(model_id=acme.model_id)
    file_id = await firmware(acme, "2.0.0")
    body = {"name": "Spring", "file_id": str(file_id)}
    for wave in ({"labels": {"a": "b"}}, {"space_id": str(acme.space_id)}):
        status, said = await acme.partner("POST", "/rollouts", body | {"waves": [wave]})
        assert (status, said) == (422, "Waves[0]: labels and spaces are the owners': give percent or count")
    made = await acme.partner("POST", "/rollouts", body)
    assert await globex.call("POST", "/rollouts", body) == (
        422,
        "File id: the vendor of the model rolls it out itself",
    )
    await acme.partner("POST", f"/rollouts/{made['id']}/start")
    spring = await campaign(acme, redis_client, "3.0.0", start=False)
    await spring.advance(seconds=1)
    parts = (await acme.partner("GET", f"/rollouts/{made['id']}/devices", state="offered"))["items"]
    assert {UUID(part["device_id"]) for part in parts} == {own, unclaimed, sold}


async def test_waves_that_have_begun_stay_as_they_are(acme: Owner, redis_client: Redis) -> None:
    """The others may be changed while a rollout goes on, and a wave that grows takes out none of its devices."""
    for _ in range(10):
        await acme.device()
    first = {"percent": 30}
    spring = await campaign(acme, redis_client, waves=[first, {"percent": 60}])
    await spring.advance(seconds=1)
    before = await spring.offered()
    assert await acme.call("PATCH", spring.path, {"waves": [{"percent": 50}]}) == (
        409,
        "Waves that have begun cannot be changed: send them as they are, before the others",
    )
    changed = await acme.call("PATCH", spring.path, {"waves": [first, {"percent": 100}], "max_per_minute": 1_000})
    assert [wave["percent"] for wave in changed["waves"]] == [30, 100]
    assert await acme.call("PATCH", spring.path, {"channel": "command"}) == (
        409,
        "Channel can be changed only in a draft",
    )
    for device_id in before:
        await spring.reports(device_id, "2.0.0")
    await spring.advance(seconds=1)
    states = await spring.states()
    assert {device_id for device_id, state in states.items() if state == "succeeded"} == before
    assert len(await spring.offered()) == 10 - len(before)
    await spring.act("abort")
    assert (await acme.call("PATCH", spring.path, {"name": "Autumn"}))[0] == 409


async def test_two_people_at_one_rollout_and_a_worker_leave_one_truth(acme: Owner, redis_client: Redis) -> None:
    """Whoever comes second is told how it stands, or that it was done; nobody waits for ever."""
    devices = [await acme.device() for _ in range(12)]
    spring = await campaign(acme, redis_client, waves=[{"count": 3, "gate": {"on_success": "wait"}}, {"percent": 100}])
    spring.workers = [spring.worker(), spring.worker()]
    said: list[Any] = []
    for number in range(4):
        for device_id in await spring.offered():
            await spring.reports(device_id, "2.0.0")
        patch = {"waves": [{"count": 3, "gate": {"on_success": "wait"}}, {"percent": 100, "soak_s": number}]}
        async with asyncio.timeout(30):
            *answers, _, _ = await asyncio.gather(
                *(spring.act(action) for action in ("pause", "resume", "next_wave", "pause", "next_wave", "resume")),
                acme.call("PATCH", spring.path, patch),
                acme.call("PATCH", spring.path, {"max_per_minute": 100 + number}),
                *(worker.advance(spring.now) for worker in spring.workers),
            )
        said += answers
        await spring.act("resume")
        await spring.advance(seconds=5)
    refused = [answer for answer in said if isinstance(answer, list | tuple)]
    assert {status for status, _ in refused} == {409}
    async with asyncio.timeout(30):
        while await spring.status() != "finished":
            await spring.act("next_wave")
            await spring.advance(seconds=5)
            for device_id in await spring.offered():
                await spring.reports(device_id, "2.0.0")
    assert await spring.states() == dict.fromkeys(devices, "succeeded")
    counted = (await spring.read())["waves"]
    assert Counter({"succeeded": 12}) == sum((Counter(+Counter(wave["counts"])) for wave in counted), Counter())


async def test_a_file_is_not_deleted_from_under_its_rollouts(acme: Owner, redis_client: Redis) -> None:
    """409 while one has not ended, or what its devices did is kept: a million rows would go with the file at once."""
    await acme.device()
    refused = (409, IN_ROLLOUT)
    made = await acme.call("POST", "/files", NEW_FIRMWARE | {"model_id": str(acme.model_id)})
    planned = await campaign(acme, redis_client, file_id=UUID(made["id"]), start=False)
    assert await acme.call("DELETE", f"/files/{made['id']}") == refused
    await planned.act("abort")
    await planned.advance(seconds=1)
    assert await acme.call("DELETE", f"/files/{made['id']}") == {"success": True}
    over = await campaign(acme, redis_client)
    await over.advance(seconds=1)
    await acme.partner("POST", f"/files/{over.file_id}/withdraw")
    assert await acme.partner("DELETE", f"/files/{over.file_id}") == refused
    await over.advance(seconds=1)
    assert (await over.status(), set((await over.states()).values())) == ("aborted", {"cancelled"})
    assert await acme.partner("DELETE", f"/files/{over.file_id}") == refused
    assert (await over.read())["counts"]["cancelled"] == 1
    settings = WorkerSettings(postgres_dsn="", redis_url="", master_key="")
    await Retention(acme.pool, Metrics(CollectorRegistry()), settings, 4).tidy(over.now + timedelta(days=366))
    assert await acme.partner("DELETE", f"/files/{over.file_id}") == {"success": True}
    assert (await over.read())[0] == 404


async def test_a_draft_may_become_anything(acme: Owner, redis_client: Redis) -> None:
    """Also of other firmware; the firmware before is open to all again."""
    device_id = await acme.device()
    spring = await campaign(acme, redis_client, start=False)
    other = await firmware(acme, "3.0.0")
    changed = await acme.call("PATCH", spring.path, {"file_id": str(other), "needs_approval": True, "window": None})
    assert (changed["version"], changed["needs_approval"]) == ("3.0.0", True)
    await acme.pool.execute("UPDATE devices SET firmware_version = '1.0.1' WHERE id = $1", device_id)
    assert (await acme.row(device_id))["latest_fw_version"] == "2.0.0"
    sweeps = await acme.pool.fetch("SELECT file_id FROM firmware_sweeps")
    assert {row["file_id"] for row in sweeps} == {spring.file_id, other}
