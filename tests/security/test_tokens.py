"""A token is what it says: made by who had the secret, good for an hour, kept by no cache."""

import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from edges import RunningEdge
from jwt.utils import base64url_encode
from owners import Owner
from projects import account_of

from gateway.api.callers.access_tokens import AUDIENCE, token_key
from tests.conftest import MASTER_KEY

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
NO_TIMES = ("soon", "", "1e400", None, True, [], {}, 2**70, -1, 1e300, float("inf"))


def signed(claims: dict[str, Any], key: bytes, **headers: Any) -> str:
    """A JWT with whatever claims: the library itself would refuse to make some."""
    head, body = ({"alg": "HS256"} | headers), claims
    parts = [base64url_encode(json.dumps(part).encode()) for part in (head, body)]
    return b".".join([*parts, base64url_encode(hmac.digest(key, b".".join(parts), "sha256"))]).decode()


async def test_an_assertion_whose_times_are_none_is_not_good(acme: Owner) -> None:
    """`iat`, `exp` and `nbf` that are texts, lists or out of range: 400 like every assertion that is not good."""
    account = await account_of(acme, "project.user")
    url, now = f"{acme.url}/oauth2/token", int(time.time())
    usual = {"iss": account.email, "aud": url, "iat": now, "exp": now + 3600}
    for name in ("iat", "exp"):
        for value in (*NO_TIMES, str(usual[name])):
            forged = signed(usual | {name: value}, account.secret.encode(), kid=account.key_id)
            async with acme.http.post(url, data={"grant_type": GRANT, "assertion": forged}) as answer:
                assert (answer.status, (await answer.json())["error"]) == (400, "invalid_grant"), (name, value)


async def test_an_assertion_whose_key_id_is_no_text_is_not_good(acme: Owner) -> None:
    """Nor one that JSON can say and UTF-8 cannot: half a surrogate pair."""
    account = await account_of(acme, "project.user")
    url, now = f"{acme.url}/oauth2/token", int(time.time())
    usual = {"iss": account.email, "aud": url, "iat": now, "exp": now + 3600}
    for kid in ("\ud800", f"{account.key_id}\udfff", "\0", "", None, 1, True, [], {}):
        forged = signed(usual, account.secret.encode(), kid=kid)
        async with acme.http.post(url, data={"grant_type": GRANT, "assertion": forged}) as answer:
            assert (answer.status, (await answer.json())["error"]) == (400, "invalid_grant"), kid


async def test_a_token_whose_times_are_none_is_not_good(acme: Owner) -> None:
    """Even one that is signed with our key."""
    account = await account_of(acme, "project.user")
    now, key = int(time.time()), token_key(MASTER_KEY)
    usual = {"sub": account.id, "key": account.key_id, "aud": AUDIENCE, "iat": now, "exp": now + 3600}
    path = f"/v2/projects/{acme.project_id}"
    for name in ("iat", "exp"):
        for value in (*NO_TIMES, str(usual[name])):
            token = signed(usual | {name: value}, key)
            assert (await account.ask("GET", path, authorization=f"Bearer {token}"))[0] == 401, (name, value)


@pytest.mark.parametrize("way", ["token", "key", "api key", "registration", "refusal"])
async def test_no_cache_keeps_what_is_answered(edge: RunningEdge, acme: Owner, way: str) -> None:
    """`Cache-Control: no-store` on tokens (RFC 6749, section 5.1), and on all else that an API answers."""
    account = await account_of(acme, "project.admin")
    organization = {"authorization": acme.key}
    basic = {"authorization": account.basic}
    now = int(time.time())
    claims = {"iss": account.email, "aud": f"{acme.url}/oauth2/token", "iat": now, "exp": now + 60}
    assertion = jwt.encode(claims, account.secret, "HS256", headers={"kid": account.key_id})
    key = await acme.call("POST", f"/models/{acme.model_id}/hardware_keys", {"name": "Line"})
    device = {"hardware_key": key["key"], "sn": "1", "mac": "02:00:00:00:99:99", "firmware_version": "1.0.0"}
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "token": ("/oauth2/token", {"data": {"grant_type": GRANT, "assertion": assertion}}),
        "key": (f"/v2/projects/{acme.project_id}/serviceaccounts/{account.id}/keys", {"headers": basic}),
        "api key": (
            "/core/v1/organization/api_keys",
            {"headers": organization, "json": {"kind": "partner", "name": "k"}},
        ),
        "registration": ("/v1/devices", {"json": device}),
        "refusal": ("/oauth2/token", {"data": {}}),
    }
    path, given = calls[way]
    async with edge.http.post(edge.url + path, **given) as answer:
        assert (answer.status, answer.headers["cache-control"]) == (answer.status, "no-store")
        assert answer.status in ((400,) if way == "refusal" else (200, 201))


async def test_an_api_key_ends_at_its_time(acme: Owner) -> None:
    """Its calls are 401 from then on, with a sentence that says so to whoever has the key, and to nobody else."""
    in_an_hour = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = await acme.call(
        "POST", "/api_keys", {"kind": "organization", "name": "Short", "role": "project.user", "expires_at": in_an_hour}
    )
    path = "/core/v1/organization/devices"
    assert (await acme.ask("GET", path, key=made["key"]))[0] == 200
    await acme.pool.execute("UPDATE api_keys SET expires_at = now() WHERE id = $1", UUID(made["id"]))
    status, refusal = await acme.ask("GET", path, key=made["key"])
    assert (status, "expired at" in refusal["error"]) == (401, True)
    status, refusal = await acme.ask("GET", path, key=made["key"][:-1] + ("0" if made["key"][-1] != "0" else "1"))
    assert (status, "expired" in refusal["error"]) == (401, False)


@pytest.mark.parametrize("when", ["2020-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "2030-01-01T00:00:00", "", 5])
async def test_a_time_that_no_key_can_end_at_is_refused(acme: Owner, when: Any) -> None:
    """One that has passed, that is far away, of no zone, or none at all."""
    body = {"kind": "organization", "name": "k", "expires_at": when}
    assert (await acme.ask("POST", "/core/v1/organization/api_keys", body))[0] == 422


async def test_nothing_that_a_key_makes_outlives_it(acme: Owner) -> None:
    """A key that expires makes keys that end with it, and as a vendor's no organization, whose key would not end."""
    ends, path = datetime.now(UTC) + timedelta(hours=1), "/core/v1/organization/api_keys"
    kinds = ("organization", "partner")
    short = {
        kind: await acme.call("POST", "/api_keys", {"kind": kind, "name": "Short", "expires_at": ends.isoformat()})
        for kind in kinds
    }
    by = {"key": short["organization"]["key"]}
    for kind in kinds:
        made = await acme.call("POST", "/api_keys", {"kind": kind, "name": "Child"}, **by)
        assert datetime.fromisoformat(made["expires_at"]) == ends
        for seconds, status in ((0, 201), (-60, 201), (0.001, 422), (86_400, 422)):
            when = (ends + timedelta(seconds=seconds)).isoformat()
            assert (await acme.ask("POST", path, {"kind": kind, "name": "c", "expires_at": when}, **by))[0] == status
    path = "/core/v1/partner/organizations"
    assert (await acme.ask("POST", path, {"name": "Customer"}, key=short["partner"]["key"]))[0] == 403
    assert (await acme.ask("POST", path, {"name": "Customer"}, key=acme.partner_key))[0] == 201


async def test_it_is_known_to_the_minute_when_a_key_was_last_used(acme: Owner) -> None:
    """Of keys that were proved, not of those that were only named; calls within the minute write nothing."""
    account = await account_of(acme, "project.user")
    made = await acme.call("POST", "/api_keys", {"kind": "organization", "name": "Script"})
    keys = f"/v2/projects/{acme.project_id}/serviceaccounts/{account.id}/keys"
    rows = {"api_keys": UUID(made["id"]), "service_account_keys": account.key_id}

    async def last(table: str) -> datetime | None:
        found: datetime | None = await acme.pool.fetchval(
            f"SELECT last_used_at FROM {table} WHERE id = $1", rows[table]
        )
        return found

    forged = made["key"][:-1] + ("0" if made["key"][-1] != "0" else "1")
    assert (await acme.ask("GET", "/core/v1/organization/api_keys", key=forged))[0] == 401
    assert [await last(table) for table in rows] == [None, None]
    listed = {}
    for _ in range(2):
        listed = {key["id"]: key for key in (await acme.call("GET", "/api_keys", key=made["key"]))["items"]}
        status, answer = await account.ask("GET", keys)
        assert status == 200
    used, account_used = await last("api_keys"), await last("service_account_keys")
    assert used is not None
    assert account_used is not None
    assert datetime.fromisoformat(listed[made["id"]]["last_used_at"]) == used
    assert datetime.fromisoformat(answer["keys"][0]["lastUseTime"]) == account_used
    for table in rows:
        await acme.pool.execute(f"UPDATE {table} SET last_used_at = now() - interval '61 seconds'")
    now = int(time.time())
    claims = {"iss": account.email, "aud": f"{acme.url}/oauth2/token", "iat": now, "exp": now + 60}
    assertion = jwt.encode(claims, account.secret, "HS256", headers={"kid": account.key_id})
    async with acme.http.post(f"{acme.url}/oauth2/token", data={"grant_type": GRANT, "assertion": assertion}) as token:
        assert token.status == 200
    assert (await acme.ask("GET", "/core/v1/organization/info", key=made["key"]))[0] == 200
    assert [
        moment is not None and moment >= before
        for moment, before in zip([await last(table) for table in rows], (used, account_used), strict=True)
    ] == [True, True]


async def test_who_only_reads_is_answered_where_postgres_takes_no_writes(acme: Owner) -> None:
    """That a key was used is not noted then, and is nobody's trouble."""
    await acme.pool.execute("UPDATE api_keys SET last_used_at = NULL")
    await acme.pool.execute(
        """CREATE FUNCTION read_only() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'cannot execute UPDATE in a read-only transaction' USING ERRCODE = '25006'; END $$"""
    )
    await acme.pool.execute(
        "CREATE TRIGGER read_only BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION read_only()"
    )
    assert (await acme.ask("GET", "/core/v1/organization/devices"))[0] == 200
    assert await acme.pool.fetchval("SELECT count(last_used_at) FROM api_keys") == 0
