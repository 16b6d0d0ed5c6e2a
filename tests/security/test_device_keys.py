"""A device's key is rotated without losing the device: both keys are good until the new one is used, then only that."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from edges import RunningEdge
from flushing import store_all
from owners import Owner

from gateway.stores.devices import rotation
from schemas import keys, replies
from schemas.redis import Redis
from workers.key_overlaps import KeyOverlaps
from workers.replies import ReplyRefresher

SOON = timedelta(seconds=5)


@dataclass
class Rotating:
    """A device whose key is rotated, an edge, and the workers' part, done when a test says so."""

    edge: RunningEdge
    owner: Owner
    redis: Redis
    device_id: UUID
    old: str

    async def rotate(self, **body: Any) -> str:
        """By the owner; the new key."""
        answer = await self.owner.call("POST", f"/devices/{self.device_id}/rotate_key", body)
        return str(answer["access_key"])

    async def doors(self, key: str) -> list[int]:
        """The statuses of what this key opens: the hot path, the same by ASGI, a call that only ASGI serves."""
        url, headers = f"{self.edge.url}/v1/devices/{self.device_id}", {"authorization": key}
        statuses = []
        for path, body in (("/telemetry", b'{"status":"online"}'), ("/telemetry?", b'{"status":"online"}'), ("", None)):
            method = "GET" if body is None else "POST"
            async with self.edge.http.request(method, url + path, data=body, headers=headers) as answer:
                statuses.append(answer.status)
        return statuses

    async def counted(self) -> dict[str, int]:
        """How the messages ended that were stored or dropped."""
        return dict(await self.owner.pool.fetch("SELECT outcome, sum(count)::int FROM ingest_ledger GROUP BY 1"))

    async def flush(self) -> None:
        """Store what was taken, and write the replies that became other ones."""
        await store_all(self.edge, self.redis)
        refresher = ReplyRefresher(self.owner.pool, self.redis)
        while await refresher.refresh(datetime.now(UTC) + SOON):
            pass


@pytest.fixture
async def rotating(edge: RunningEdge, acme: Owner, redis_client: Redis) -> Rotating:
    """A claimed device that has its first key."""
    device_id = await acme.device()
    old = edge.services.access_keys.issue(str(device_id), 0)
    return Rotating(edge, acme, redis_client, device_id, old)


GOOD, TURNED_AWAY = [201, 201, 200], [401, 401, 401]


async def test_the_old_key_is_good_until_the_new_one_is_used(rotating: Rotating) -> None:
    """On the hot path, by ASGI, and for what is in between when it ends: nothing that was taken is lost."""
    new = await rotating.rotate()
    assert (new[:2], new[2:] != rotating.old[2:]) == ("01", True)
    assert await rotating.doors(rotating.old) == GOOD
    await rotating.flush()
    assert await rotating.doors(rotating.old) == GOOD
    assert await rotating.doors(new) == GOOD
    await rotating.flush()
    assert await rotating.doors(rotating.old) == TURNED_AWAY
    assert await rotating.doors(new) == GOOD
    await rotating.flush()
    counted = await rotating.counted()
    assert counted.pop("stored") >= 4 * 2
    assert counted.keys() <= {"rejected_old_key"}


async def test_what_a_key_sends_after_its_end_is_not_stored(rotating: Rotating) -> None:
    """An edge writes a message to the log while it looks up that it must turn it away: the log proves nothing."""
    await rotating.rotate()
    await rotating.owner.pool.execute(
        "UPDATE devices SET previous_key_good = false, previous_key_until = now() - interval '1 minute' WHERE id = $1",
        rotating.device_id,
    )
    await rotating.flush()
    assert await rotating.doors(rotating.old) == TURNED_AWAY
    await rotating.flush()
    assert await rotating.counted() == {"rejected_old_key": 2}


async def test_a_call_other_than_telemetry_uses_the_new_key_too(rotating: Rotating) -> None:
    """A device may fetch commands for long before it sends anything."""
    new = await rotating.rotate()
    url = f"{rotating.edge.url}/v1/devices/{rotating.device_id}/command"
    async with rotating.edge.http.get(url, headers={"authorization": new}) as answer:
        assert answer.status == 200
    await rotating.flush()
    assert await rotating.doors(rotating.old) == TURNED_AWAY


async def test_the_time_ends_the_old_key_whether_the_new_one_is_used_or_not(rotating: Rotating) -> None:
    """At once with no overlap, as for a stolen key; else when it is over, by which the sweep looks."""
    stolen = await rotating.rotate(overlap_s=0)
    assert await rotating.doors(rotating.old) == TURNED_AWAY
    await rotating.flush()
    counted = await rotating.counted()
    assert (counted.get("stored", 0), counted.get("rejected_old_key")) == (0, 2)
    await rotating.rotate(overlap_s=60)
    assert await rotating.doors(stolen) == GOOD
    overlaps = KeyOverlaps(rotating.owner.pool, rotating.redis)
    assert await overlaps.end(datetime.now(UTC) + timedelta(seconds=50)) == 0
    assert await rotating.doors(stolen) == GOOD
    assert await overlaps.end(datetime.now(UTC) + timedelta(seconds=70)) == 1
    assert await rotating.doors(stolen) == TURNED_AWAY


async def test_rotating_again_leaves_the_key_that_the_device_has(rotating: Rotating) -> None:
    """Whoever lost the new key asks for another: the lost one ends, and the device is not locked out."""
    lost = await rotating.rotate()
    new = await rotating.rotate()
    assert await rotating.doors(lost) == TURNED_AWAY
    assert await rotating.doors(rotating.old) == GOOD
    assert await rotating.doors(new) == GOOD


async def test_what_a_parent_sends_for_its_child_does_not_use_the_childs_new_key(rotating: Rotating) -> None:
    """The child itself has not got it yet."""
    parent, owner = rotating.device_id, rotating.owner
    child = await owner.device(parent_id=parent)
    await owner.call("POST", f"/devices/{child}/rotate_key")
    key = rotating.edge.services.access_keys.issue(str(child), 0)
    for _ in range(2):
        url, headers = f"{rotating.edge.url}/v1/devices/{parent}/children/telemetries", {"authorization": rotating.old}
        body = {str(child): {"status": "online"}}
        async with rotating.edge.http.post(url, json=body, headers=headers) as answer:
            assert answer.status == 201
        await rotating.flush()
        url = f"{rotating.edge.url}/v1/devices/{child}"
        async with rotating.edge.http.get(url, headers={"authorization": key}) as answer:
            assert answer.status == 200


async def test_a_reply_that_is_rebuilt_knows_both_keys(rotating: Rotating) -> None:
    """Redis may come back empty in between."""
    new = await rotating.rotate()
    pool = rotating.owner.pool
    shard = (await rotating.owner.row(rotating.device_id))["shard"]
    await rotating.redis.delete(keys.reply(shard))
    async with pool.acquire() as connection:
        await replies.rebuild(connection, rotating.redis, shard)
    assert await rotating.doors(rotating.old) == GOOD
    assert await rotating.doors(new) == GOOD


async def test_owner_and_vendor_may_rotate_and_nobody_else(acme: Owner, globex: Owner) -> None:
    """Each by its own key; of a device that is neither's own nothing is told; too little of a role is refused."""
    device_id = await acme.device()
    path = f"devices/{device_id}/rotate_key"
    for key, api, status in (
        (acme.key, "organization", 200),
        (acme.partner_key, "partner", 200),
        (globex.key, "organization", 404),
        (globex.partner_key, "partner", 404),
    ):
        assert (await acme.ask("POST", f"/core/v1/{api}/{path}", None, key))[0] == status, api
    row = await acme.row(device_id)
    assert (row["key_version"], row["previous_key_version"]) == (2, 0)
    developer = await acme.call("POST", "/api_keys", {"kind": "organization", "name": "d", "role": "project.developer"})
    assert (await acme.call("POST", f"/{path}", key=developer["key"]))[0] == 403
    reader = await acme.call("POST", "/api_keys", {"kind": "partner", "name": "r", "role": "partner.user"})
    assert (await acme.ask("POST", f"/core/v1/partner/{path}", None, reader["key"]))[0] == 403
    for body, refused in (({"overlap_s": -1}, 422), ({"overlap_s": 10**9}, 422), ({"overlap": 1}, 400), ([], 422)):
        assert (await acme.ask("POST", f"/core/v1/organization/{path}", body))[0] == refused, body
    await acme.pool.execute("UPDATE devices SET deleted_at = now() WHERE id = $1", device_id)
    assert (await acme.call("POST", f"/{path}"))[0] == 404
    assert (await acme.ask("POST", f"/core/v1/partner/{path}", None, acme.partner_key))[0] == 404


async def test_versions_never_repeat(acme: Owner) -> None:
    """A key that ended stays so: when there are no more versions rotating is refused."""
    device_id = await acme.device(key_version=63)
    assert await acme.call("POST", f"/devices/{device_id}/rotate_key") == (409, rotation.TOO_OFTEN)
