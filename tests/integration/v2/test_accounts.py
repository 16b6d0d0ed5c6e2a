"""Roles, accounts, keys and tokens, by the public client library and by hand."""

import asyncio
import base64
import time
from typing import Any
from uuid import UUID

import disruptive as dt
import jwt
import pytest
from disruptive import errors
from edges import open_shards, running_edge
from owners import Owner, owner
from projects import Account, account_of

from gateway.api.callers.access_tokens import issue_token, token_key
from gateway.api.callers.service_accounts import SERVICE_ACCOUNT
from gateway.app import ENDPOINTS
from gateway.permissions import ROLES as DEFINED
from gateway.permissions import Permission, Role
from schemas.redis import Redis
from tests.conftest import MASTER_KEY

ROLES = ("project.user", "project.developer", "project.admin", "organization.admin")
SCOPED = [e for e in ENDPOINTS if e.permission is not None and e.caller is SERVICE_ACCOUNT]


async def test_the_client_manages_accounts_and_keys_as_its_documentation_shows(acme: Owner) -> None:
    """Create, read, list, update, delete; the secret of a key is shown once, and works."""
    admin = await account_of(acme, "project.admin", basic=False)
    project = str(acme.project_id)
    made = await admin.client(dt.ServiceAccount.create_service_account, project, display_name="Bot")
    assert (made.display_name, made.basic_auth_enabled) == ("Bot", False)
    assert made.email.startswith(f"{made.service_account_id}@{project}.serviceaccount")
    changed = await admin.client(
        dt.ServiceAccount.update_service_account, made.service_account_id, project, basic_auth_enabled=True
    )
    assert (changed.display_name, changed.basic_auth_enabled) == ("Bot", True)
    key = await admin.client(dt.ServiceAccount.create_key, made.service_account_id, project)
    again = await admin.client(dt.ServiceAccount.get_key, key.key_id, made.service_account_id, project)
    assert (len(key.secret), again.secret) == (32, None)
    bot = Account(acme, made.service_account_id, key.key_id, key.secret, made.email)
    with pytest.raises(errors.NotFound):
        await bot.client(dt.Project.get_project, project)
    member = await admin.client(dt.Project.add_member, project, made.email, ["project.user"])
    assert (member.member_id, member.account_type, member.status) == (bot.id, "SERVICE_ACCOUNT", "ACCEPTED")
    assert (await bot.client(dt.Project.get_project, project)).project_id == project
    assert (await bot.ask("GET", f"/v2/projects/{project}"))[0] == 200
    listed = await admin.client(dt.ServiceAccount.list_service_accounts, project)
    assert {account.service_account_id for account in listed} == {admin.id, bot.id}
    await admin.client(dt.ServiceAccount.delete_key, key.key_id, made.service_account_id, project)
    assert (await bot.ask("GET", f"/v2/projects/{project}"))[0] == 401
    await admin.client(dt.ServiceAccount.delete_service_account, made.service_account_id, project)
    assert await admin.client(dt.ServiceAccount.list_keys, admin.id, project)
    with pytest.raises(errors.NotFound):
        await admin.client(dt.ServiceAccount.get_service_account, made.service_account_id, project)


async def test_the_client_manages_organizations_projects_members_and_roles(acme: Owner, globex: Owner) -> None:
    """As far as its role goes; of another tenant it sees nothing."""
    boss = await account_of(acme, "organization.admin", basic=False)
    organization = str(acme.organization_id)
    assert [o.organization_id for o in await boss.client(dt.Organization.list_organizations)] == [organization]
    assert (await boss.client(dt.Organization.get_organization, organization)).display_name == "Acme"
    made = await boss.client(dt.Project.create_project, organization, "Second")
    listed = await boss.client(dt.Project.list_projects, organization_id=organization)
    assert {project.display_name for project in listed} == {"Main", "Second"}
    assert [p.display_name for p in await boss.client(dt.Project.list_projects, query="sec")] == ["Second"]
    await boss.client(dt.Project.update_project, made.project_id, display_name="Third")
    person = await boss.client(dt.Project.add_member, made.project_id, "a@example.com", ["project.user"])
    assert (person.status, person.account_type) == ("PENDING", "USER")
    person = await boss.client(dt.Project.update_member, person.member_id, made.project_id, ["project.admin"])
    assert person.roles == ["project.admin"]
    link = await boss.client(dt.Project.get_member_invite_url, person.member_id, made.project_id)
    assert link.startswith(f"{acme.url}/invitations/")
    await boss.client(dt.Project.remove_member, person.member_id, made.project_id)
    assert await boss.client(dt.Project.list_members, made.project_id) == []
    assert "project.delete" in await boss.client(dt.Project.list_permissions, made.project_id)
    await boss.client(dt.Project.delete_project, made.project_id)
    with pytest.raises(errors.NotFound):
        await boss.client(dt.Project.get_project, made.project_id)
    admins = await boss.client(dt.Organization.list_members, organization)
    assert [member.member_id for member in admins] == [boss.id]
    roles = await boss.client(dt.Role.list_roles)
    assert [role.role for role in roles] == list(ROLES)
    for call, place in (
        (dt.Organization.get_organization, globex.organization_id),
        (dt.Project.get_project, globex.project_id),
        (dt.Project.create_project, globex.organization_id),
    ):
        arguments = (str(place), "Mine") if call == dt.Project.create_project else (str(place),)
        with pytest.raises(errors.NotFound):
            await boss.client(call, *arguments)


@pytest.mark.parametrize("role", [*ROLES, None])
async def test_every_call_keeps_to_the_table_of_permissions(acme: Owner, globex: Owner, role: Role | None) -> None:
    """Enough of a role is never 401 or 403, too little is 403, none at all is 404; another tenant's is always 404."""
    account = await account_of(acme, role)
    granted = DEFINED[role].permissions if role else frozenset()
    assert len(SCOPED) > 35
    for endpoint in SCOPED:
        if endpoint.method == "DELETE" and endpoint.path in ("/v2/projects/{project}",):
            continue  # it would end what the other calls need
        for tenant in (acme, globex):
            path = endpoint.path.replace("{project}", str(tenant.project_id))
            path = path.replace("{organization}", str(tenant.organization_id))
            for name in ("account", "key", "member", "connector", "device"):
                path = path.replace(f"{{{name}}}", "0" * 20)
            body = {} if endpoint.method in ("POST", "PATCH", "PUT") else None
            if path.endswith(":stream") and tenant is acme and Permission.READ in granted:
                continue  # it does not end
            status, answer = await account.ask(endpoint.method, path, body)
            if tenant is globex or not granted:
                assert status == 404, (endpoint, answer)
            elif endpoint.permission in _effective(endpoint, granted, role):
                assert status not in (401, 403), (endpoint, answer)
                assert status < 500 or status == 504, (endpoint, answer)
            else:
                assert (status, answer["code"]) == (403, 403), (endpoint, answer)


def _effective(endpoint: Any, granted: frozenset[Permission], role: str | None) -> frozenset[Permission]:
    """In an organization only its administrators have more than to read."""
    if "{organization}" in endpoint.path and role != "organization.admin":
        return frozenset({Permission.BELONG} if role else ())
    return granted


async def test_only_good_credentials_are_let_in(acme: Owner) -> None:
    """Expired, tampered with, unsigned, of another audience or key, too long-lived, or not there: 401."""
    account = await account_of(acme, "project.user")
    path = f"/v2/projects/{acme.project_id}"
    now = int(time.time())
    good = issue_token(MASTER_KEY, account.id, account.key_id, now)
    assert (await account.ask("GET", path, authorization=f"Bearer {good}"))[0] == 200
    head, claims, signature = good.split(".")
    unsigned = jwt.encode(jwt.decode(good, options={"verify_signature": False}), "", "none")
    key = token_key(MASTER_KEY)
    fitting = {"sub": account.id, "key": account.key_id, "aud": "fleetgate", "iat": now, "exp": now + 3600}
    for authorization in (
        "",
        "Bearer",
        "Bearer x",
        f"Bearer {issue_token(MASTER_KEY, account.id, account.key_id, now - 3700)}",
        f"Bearer {issue_token('00' * 32, account.id, account.key_id, now)}",
        f"Bearer {head}.{claims}.{signature[:-4]}AAAA",
        f"Bearer {unsigned}",
        f"Bearer {jwt.encode(fitting | {'aud': 'elsewhere'}, key, 'HS256')}",
        f"Bearer {jwt.encode(fitting | {'exp': now + 7200}, key, 'HS256')}",
        f"Bearer {jwt.encode(fitting | {'key': '0' * 20}, key, 'HS256')}",
        f"Bearer {jwt.encode({k: v for k, v in fitting.items() if k != 'exp'}, key, 'HS256')}",
        account.basic[:-8],
        "Basic !!!",
        "Basic Og==",
        f"Digest {account.secret}",
    ):
        status, answer = await account.ask("GET", path, authorization=authorization)
        assert (status, answer["code"]) == (401, 401), authorization
    closed = await account_of(acme, "project.user", basic=False)
    assert (await closed.ask("GET", path))[0] == 401


@pytest.mark.parametrize("secret", ["ä:ö".encode(), b"\xff:\xff", "k:ö".encode("latin-1"), b"\0:\0"])
async def test_credentials_of_any_bytes_are_refused(acme: Owner, secret: bytes) -> None:
    """401 as any others."""
    account = await account_of(acme, "project.user")
    authorization = "Basic " + base64.b64encode(secret).decode()
    assert (await account.ask("GET", f"/v2/projects/{acme.project_id}", authorization=authorization))[0] == 401


async def test_every_401_names_a_challenge(acme: Owner) -> None:
    """On the hot path, the device's API, owners' and `/v2`, written as clients look for it."""
    device = f"/v1/devices/{UUID(int=1)}"
    for method, path in (
        ("POST", f"{device}/telemetry"),
        ("GET", device),
        ("GET", "/core/v1/organization/devices"),
        ("GET", "/v2/projects"),
        ("GET", f"/v2/projects/{acme.project_id}/devices:stream"),
    ):
        async with acme.http.request(method, acme.url + path, json={}, headers={"authorization": "x"}) as answer:
            assert answer.status == 401, path
            names = [name for name, _ in answer.raw_headers]
            assert names.count(b"WWW-Authenticate") == 1, path
            assert 'realm="fleetgate"' in answer.headers["WWW-Authenticate"]


async def test_an_assertion_must_be_the_accounts_own(acme: Owner) -> None:
    """HS256 by the key's secret, for this token URL, not older or longer than an hour; otherwise 400 and no reason."""
    account = await account_of(acme, "project.user")
    url, now = f"{acme.url}/oauth2/token", int(time.time())
    grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"

    async def ask(form: dict[str, str]) -> tuple[int, Any]:
        async with acme.http.post(url, data=form) as answer:
            return answer.status, await answer.json()

    def assertion(
        kid: str = account.key_id, secret: str = account.secret, algorithm: str = "HS256", **claims: Any
    ) -> str:
        usual = {"iss": account.email, "aud": url, "iat": now, "exp": now + 3600}
        return jwt.encode(usual | claims, secret, algorithm, headers={"kid": kid})

    status, answer = await ask({"grant_type": grant, "assertion": assertion()})
    assert (status, answer["token_type"], answer["expires_in"]) == (200, "Bearer", 3600)
    for bad in (
        assertion(kid="0" * 20),
        assertion(secret="f" * 32),
        assertion(algorithm="HS512", secret="f" * 64),
        assertion(aud="https://elsewhere/oauth2/token"),
        assertion(iss="other@x"),
        assertion(iat=now - 7200, exp=now - 3600),
        assertion(exp=now + 7200),
        "x",
        "",
    ):
        assert await ask({"grant_type": grant, "assertion": bad}) == (
            400,
            {"error": "invalid_grant", "error_description": "The assertion is not good"},
        )
    assert (await ask({"grant_type": "password"}))[0] == 400
    assert (await ask({}))[0] == 400
    for coding in ("br", "gzip"):
        async with acme.http.post(url, data=b"x", headers={"content-encoding": coding}) as refused:
            assert (refused.status, (await refused.json())["error"]) == (400, "invalid_request")


async def test_an_account_that_calls_too_often_waits_and_then_is_refused(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """A burst passes, over all keys and tokens; then calls come by turns, and those that would wait long are 429."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, account_calls_max=25) as edge:
        acme = await owner(edge, "Acme")
        account, other = await account_of(acme, "project.user"), await account_of(acme, "project.user")
        path = f"/v2/projects/{acme.project_id}"
        answers = await asyncio.gather(*(account.ask("GET", path) for _ in range(80)))
        statuses = sorted(status for status, _ in answers)
        assert statuses.count(200) >= 30  # a turn is 0.2 s, so five wait
        assert statuses[-1] == 429
        assert (await other.ask("GET", path))[0] == 200


async def test_an_account_that_asks_one_after_the_other_is_never_refused(
    dsn: str, redis_url: str, redis_client: Redis
) -> None:
    """However many devices it asks for: it is slowed down."""
    await open_shards(redis_client)
    async with running_edge(dsn, redis_url, account_calls_max=50) as edge:
        acme = await owner(edge, "Acme")
        account = await account_of(acme, "project.user")
        path = f"/v2/projects/{acme.project_id}"
        assert [(await account.ask("GET", path))[0] for _ in range(60)] == [200] * 60
