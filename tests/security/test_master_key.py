"""The master key is rotated while everything runs: what the old one made stays good, what is new is of the new one."""

import base64
import time
from typing import Any

import disruptive as dt
import pytest
from edges import RunningEdge, open_shards, running_edge
from owners import Owner, owner
from projects import Account, account_of

from gateway.api.callers.access_tokens import issue_token
from gateway.refusals import UNKNOWN_MASTER_KEY, Conflict, DoesNotFit
from gateway.stores.accounts import master_keys
from schemas import postgres
from schemas.command_settings import MigrateSettings
from schemas.environment import load
from schemas.ids import AccessKeys, next_key_version
from schemas.master_keys import MasterKeys
from schemas.postgres import Pool
from schemas.redis import Redis
from schemas.secrets import derived_secret
from schemas.settings import Keys, SettingsError
from tests.conftest import MASTER_KEY

NEXT, THIRD = "6b" * 32, "7c" * 32


async def begin(pool: Pool, *given: str) -> int:
    """The operator's `fleetgate admin master-keys rotate`."""
    async with pool.acquire() as connection, connection.transaction():
        return (await master_keys.begin(connection, given)).generation


async def retire(pool: Pool, generation: int, *, end_them: bool = False) -> None:
    """The operator's `fleetgate admin master-keys retire`."""
    async with pool.acquire() as connection, connection.transaction():
        await master_keys.retire(connection, generation, end_them=end_them)


async def register(tenant: Owner, sn: str) -> tuple[int, Any]:
    """A device registers: status and answer."""
    key = await tenant.call("POST", f"/models/{tenant.model_id}/hardware_keys", {"name": "Line"})
    mac = f"02:00:00:00:aa:{int(sn):02x}"
    body = {"hardware_key": key["key"], "mac": mac, "sn": sn, "firmware_version": "1.0.0"}
    return await tenant.ask("POST", "/v1/devices", body, key="")


async def doors(tenant: Owner, device_id: Any, key: str) -> list[int]:
    """The statuses of what a key opens: on the hot path and by ASGI."""
    path = f"/v1/devices/{device_id}"
    posted, _ = await tenant.ask("POST", f"{path}/telemetry", {"status": "online"}, key)
    read, _ = await tenant.ask("GET", path, None, key)
    return [posted, read]


async def test_devices_go_on_with_old_keys_and_get_new_ones(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """On edges that run all the time and know both keys: registering and rotating give keys of the new generation."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, master_keys_more=NEXT) as edge:
        acme = await owner(edge, "Acme")
        status, old = await register(acme, "1")
        assert (status, old["access_key"][:2]) == (201, "00")
        assert await begin(acme.pool, MASTER_KEY, NEXT) == 1
        status, new = await register(acme, "2")
        assert (status, new["access_key"]) == (201, AccessKeys("", NEXT).issue(new["id"], 64))
        assert await doors(acme, old["id"], old["access_key"]) == [201, 200]
        assert await doors(acme, new["id"], new["access_key"]) == [201, 200]
        rotated = await acme.ask("POST", f"/core/v1/partner/devices/{old['id']}/rotate_key", None, acme.partner_key)
        assert rotated[1]["access_key"][:2] == "40"
        assert await doors(acme, old["id"], old["access_key"]) == [201, 200]
        assert await doors(acme, old["id"], rotated[1]["access_key"]) == [201, 200]
        # The key that may have been stolen makes no keys of devices that are of the new generation.
        forged = AccessKeys("", MASTER_KEY).issue(new["id"], 64)
        assert await doors(acme, new["id"], forged) == [401, 401]
        assert (await doors(acme, new["id"], AccessKeys(MASTER_KEY).issue(new["id"], 0)))[1] == 401


async def test_accounts_go_on_with_old_secrets_and_get_new_ones(dsn: str, redis_url: str, redis_client: Redis) -> None:
    """In `/v2`, by secret and by token; the old master key proves nothing of a new key."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, master_keys_more=NEXT) as edge:
        acme = await owner(edge, "Acme")
        old = await account_of(acme, "project.admin")
        await begin(acme.pool, MASTER_KEY, NEXT)
        path = f"/v2/projects/{acme.project_id}"
        _, made = await old.ask("POST", f"{path}/serviceaccounts/{old.id}/keys")
        key_id = made["key"]["id"]
        assert made["secret"] == derived_secret(NEXT, key_id)
        new = Account(acme, old.id, key_id, made["secret"], old.email)
        now = int(time.time())
        for account, good, bad in ((old, MASTER_KEY, NEXT), (new, NEXT, MASTER_KEY)):
            assert (await account.ask("GET", path))[0] == 200
            token = issue_token(good, account.id, account.key_id, now)
            assert (await account.ask("GET", path, authorization=f"Bearer {token}"))[0] == 200
            secret = derived_secret(bad, account.key_id)
            forged = base64.b64encode(f"{account.key_id}:{secret}".encode()).decode()
            assert (await account.ask("GET", path, authorization=f"Basic {forged}"))[0] == 401
            token = issue_token(bad, account.id, account.key_id, now)
            assert (await account.ask("GET", path, authorization=f"Bearer {token}"))[0] == 401
            project = await account.client(dt.Project.get_project, str(acme.project_id))
            assert project.project_id == str(acme.project_id)


async def test_an_edge_that_was_not_given_the_new_key_turns_nobody_away(edge: RunningEdge, acme: Owner) -> None:
    """503 to devices of the new generation, never 401, at which they forget their keys; nobody registers there."""
    await begin(acme.pool, MASTER_KEY, NEXT)
    device_id = await acme.device()
    key = AccessKeys("", NEXT).issue(str(device_id), 64)
    assert (await acme.row(device_id))["key_version"] == 64
    assert await doors(acme, device_id, key) == [503, 503]
    registered = await acme.pool.fetchval("SELECT count(*) FROM devices")
    assert await register(acme, "1") == (503, {"error": UNKNOWN_MASTER_KEY})
    assert await acme.pool.fetchval("SELECT count(*) FROM devices") == registered
    assert (await acme.call("POST", f"/devices/{device_id}/rotate_key"))[0] == 503
    assert (await acme.row(device_id))["key_version"] == 64
    assert await doors(acme, device_id, "ff" * 16) == [401, 401]


async def test_a_generation_ends_when_nothing_is_of_it(acme: Owner, pool: Pool) -> None:
    """Then the old key is needed no more, and alone fits no longer; what is still of it is counted before."""
    device_id = await acme.device()
    account = await account_of(acme, "project.user")
    assert await begin(pool, MASTER_KEY, NEXT) == 1
    with pytest.raises(Conflict, match=r"^1 devices and 1 keys of service accounts"):
        await retire(pool, 0)
    with pytest.raises(Conflict, match="generation of new keys"):
        await retire(pool, 1)
    await pool.execute("UPDATE devices SET key_version = 64 WHERE id = $1", device_id)
    with pytest.raises(Conflict, match=r"^0 devices and 1 keys"):
        await retire(pool, 0)
    await retire(pool, 0, end_them=True)
    assert await pool.fetchval("SELECT count(*) FROM service_account_keys WHERE id = $1", account.key_id) == 0
    generations = (await postgres.installation(pool)).generations
    assert repr(MasterKeys.fitting(generations, Keys(master_key=NEXT))) == "<MasterKeys generations=1>"
    with pytest.raises(SettingsError, match="not the key of this database"):
        MasterKeys.fitting(generations, Keys(master_key=MASTER_KEY))


async def test_keys_that_do_not_fit_are_told_at_the_start(pool: Pool) -> None:
    """One that is missing would turn devices away, of two new ones nobody knows which is next; any order will do."""
    generations = (await postgres.installation(pool)).generations
    with pytest.raises(SettingsError, match="several keys that this database does not know"):
        MasterKeys.fitting(generations, Keys(master_key=MASTER_KEY, master_keys_more=f"{NEXT},{THIRD}"))
    with pytest.raises(DoesNotFit, match="next master key"):
        await begin(pool, MASTER_KEY)
    await begin(pool, NEXT, MASTER_KEY)
    generations = (await postgres.installation(pool)).generations
    with pytest.raises(SettingsError, match="lacks the master key of generation 0"):
        MasterKeys.fitting(generations, Keys(master_key=NEXT))
    both = MasterKeys.fitting(generations, Keys(master_key=NEXT, master_keys_more=MASTER_KEY))
    assert (both.newest, both.of(0), both.of(1)) == (1, MASTER_KEY, NEXT)
    given = {"FLEETGATE_POSTGRES_DSN": "postgresql://x", "FLEETGATE_MASTER_KEY": MASTER_KEY}
    for more in ("x", NEXT.upper(), f"{NEXT};{THIRD}"):
        with pytest.raises(SettingsError, match="FLEETGATE_MASTER_KEYS_MORE is not usable"):
            load(MigrateSettings, given | {"FLEETGATE_MASTER_KEYS_MORE": more})


async def test_four_generations_may_be_in_use(pool: Pool) -> None:
    """Versions of keys have room for no more: the oldest is retired first, and its versions are used again."""
    keys = [MASTER_KEY, *(f"{n:02x}" * 32 for n in range(1, 5))]
    for n in range(1, 4):
        assert await begin(pool, *keys[: n + 1]) == n
    with pytest.raises(Conflict, match="retire the oldest"):
        await begin(pool, *keys)
    await retire(pool, 0)
    assert await begin(pool, *keys[1:]) == 4
    assert await pool.fetchval("SELECT first_key_version()") == 0


def test_secrets_that_the_old_key_sealed_are_opened() -> None:
    """Where no key of its own seals them."""
    sealed = Keys(master_key=MASTER_KEY).vault("tests").seal(b"secret", "row")
    for keys in (
        Keys(master_key=MASTER_KEY, master_keys_more=NEXT),
        Keys(master_key=NEXT, master_keys_more=MASTER_KEY),
    ):
        assert keys.vault("tests").open(sealed, "row") == b"secret"


def test_versions_tell_generations_apart_and_never_repeat() -> None:
    """In each 64 at most; a device of another generation begins with the first of the new one."""
    assert [next_key_version(version, 0) for version in (0, 1, 62, 63)] == [1, 2, 63, None]
    assert [next_key_version(version, 1) for version in (0, 63, 64, 127, 128)] == [64, 64, 65, None, 64]
    assert next_key_version(70, 5) == 71
    device = "01a21c75-d011-74d2-9815-56a03e4489d7"
    keys = AccessKeys(MASTER_KEY, NEXT, following=2)
    for version in (0, 63, 64, 127):
        key = keys.issue(device, version)
        assert keys.verify(device.encode(), key.encode())
        assert AccessKeys(MASTER_KEY).verify(device.encode(), key.encode()) == (version < 64)
    for wrong in (b"", b"\xff", b"8" * 32, b"f" * 32, key[:-1].encode(), key.upper().encode()):
        assert not keys.verify(device.encode(), wrong)
    awaited = [digit for digit in "0123456789abcdefg" if keys.awaits(digit.encode() * 32)]
    assert awaited == ["8", "9", "a", "b"]
