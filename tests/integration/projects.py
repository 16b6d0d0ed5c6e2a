"""Service accounts of a tenant, and a real client that speaks as one of them."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import disruptive
from disruptive.authentication import ServiceAccountAuth
from owners import Owner

from gateway.stores.accounts import members, service_accounts
from gateway.stores.accounts.service_accounts import email_of
from schemas.secrets import derived_secret
from tests.conftest import MASTER_KEY


@dataclass
class Account:
    """A service account with a key, and what it is a member of."""

    owner: Owner
    id: str
    key_id: str
    secret: str
    email: str

    @property
    def basic(self) -> str:
        """The header of Basic authentication."""
        return "Basic " + base64.b64encode(f"{self.key_id}:{self.secret}".encode()).decode()

    async def ask(self, method: str, path: str, body: Any = None, authorization: str | None = None) -> tuple[int, Any]:
        """One request by Basic authentication, or by another header."""
        headers = {"authorization": self.basic if authorization is None else authorization}
        async with self.owner.http.request(method, self.owner.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def client(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the public client library in a thread, pointed here by nothing but its settings."""
        auth = ServiceAccountAuth(self.key_id, self.secret, self.email)
        auth.token_endpoint = f"{self.owner.url}/oauth2/token"
        return await asyncio.to_thread(call, *arguments, auth=auth, **options)


async def account_of(owner: Owner, role: str | None, *, basic: bool = True) -> Account:
    """An account in the tenant's project; with a role in that project, or in the whole organization."""
    disruptive.base_url = f"{owner.url}/v2"
    disruptive.emulator_base_url = f"{owner.url}/emulator/v2"
    disruptive.request_attempts = 1
    async with owner.pool.acquire() as connection:
        made = await service_accounts.create(connection, owner.project_id, f"Role {role}", basic_auth_enabled=basic)
        key_id = (await service_accounts.create_key(connection, made.id)).id
        if role is not None:
            project_id = None if role == "organization.admin" else owner.project_id
            await members.add(connection, owner.organization_id, project_id, role, service_account_id=made.id)
    return Account(owner, made.id, key_id, derived_secret(MASTER_KEY, key_id), email_of(made.id, owner.project_id))
