"""Access of programs: service accounts with their keys, and API keys. What is secret is shown once, when it is made."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from starlette.responses import Response

from gateway.api.page_tokens import PageQuery
from gateway.api.paging import PageQuery as NumberedQuery
from gateway.api.scopes import FleetScope
from gateway.api.validation import Label, Name
from gateway.organization import api_keys
from gateway.organization.api_keys import NewApiKey
from gateway.permissions import KEY_ROLES, PROJECT_ROLES, ROLES, KeyKind, Permission, Role
from gateway.portal.forms import Form
from gateway.portal.page import page
from gateway.portal.people import ORGANIZATION, organization_of, places, project_of
from gateway.portal.rendering import View, redirect
from gateway.services import Services
from gateway.stores.accounts.credentials import LIFE_MAX
from gateway.v2 import members, service_accounts
from gateway.v2.members import Invitation
from gateway.v2.service_accounts import NewAccount

ACCOUNTS, KEYS = "/service-accounts", "/api-keys"
ACCOUNT = ACCOUNTS + "/{where}/{account}"


class AccountsQuery(Struct):
    """Of which project, and which part of the list."""

    where: str = ""
    page_token: str = ""


class AccountForm(Struct):
    """A new account, and its role in the project."""

    name: Label
    role: Role
    basic_auth: bool = False


class KeyForm(Struct):
    """A new API key."""

    kind: KeyKind
    role: Role
    name: Name
    days: Annotated[int, Meta(ge=1, le=LIFE_MAX.days - 1)] | None = None


@page("GET", ACCOUNTS, permission=Permission.ADMINISTER)
async def show_accounts(services: Services, fleet: FleetScope, query: AccountsQuery, form: Form) -> View:
    """The service accounts of a project."""
    known = {where: name for where, name in (await places(services, fleet)).items() if where != ORGANIZATION}
    where = query.where or next(iter(known), "")
    accounts, token = [], ""
    if where:
        project = await project_of(services, fleet, where)
        asked = PageQuery(page_size=25, page_token=query.page_token)
        found = await service_accounts.list_accounts(services, project, asked)
        token = found.next_page_token
        for one in found.service_accounts:
            account = one.name.rpartition("/")[2]
            keys = await service_accounts.list_keys(services, project, account, PageQuery())
            accounts.append((account, one, keys.keys))
    values = {"places": known, "where": where, "accounts": accounts, "next_page_token": token, "form": form}
    return View("service_accounts.html", values | {"roles": [(role, ROLES[role].title) for role in PROJECT_ROLES]})


@page("POST", ACCOUNTS + "/{where}", permission=Permission.ADMINISTER, shown_by=show_accounts)
async def create_account(services: Services, fleet: FleetScope, where: str, body: AccountForm) -> View:
    """Make an account with a role and a key."""
    project = await project_of(services, fleet, where)
    wanted = NewAccount(display_name=body.name, enable_basic_auth=body.basic_auth)
    made = await service_accounts.create_account(services, project, wanted)
    await members.add_project_member(services, project, Invitation([f"roles/{body.role}"], made.email))
    key = await service_accounts.create_key(services, project, made.name.rpartition("/")[2])
    return _shown_once(f"The account {body.name} is made", (made.email, key.key.id, key.secret), ACCOUNTS, where)


@page("POST", ACCOUNT + "/key", permission=Permission.ADMINISTER)
async def create_account_key(services: Services, fleet: FleetScope, where: str, account: str) -> View:
    """Another key of an account."""
    project = await project_of(services, fleet, where)
    found = await service_accounts.read_account(services, project, account)
    key = await service_accounts.create_key(services, project, account)
    return _shown_once(f"A key of {found.display_name}", (found.email, key.key.id, key.secret), ACCOUNTS, where)


@page("POST", ACCOUNT + "/keys/{key}/end", permission=Permission.ADMINISTER)
async def end_account_key(services: Services, fleet: FleetScope, where: str, account: str, key: str) -> Response:
    """End a key of an account."""
    await service_accounts.delete_key(services, await project_of(services, fleet, where), account, key)
    return redirect(services, ACCOUNTS, where=where, said="The key has ended")


@page("POST", ACCOUNT + "/delete", permission=Permission.ADMINISTER)
async def delete_account(services: Services, fleet: FleetScope, where: str, account: str) -> Response:
    """End an account."""
    await service_accounts.delete_account(services, await project_of(services, fleet, where), account)
    return redirect(services, ACCOUNTS, where=where, said="The account and its keys have ended")


@page("GET", KEYS, permission=Permission.ORGANIZE)
async def show_keys(services: Services, fleet: FleetScope, query: NumberedQuery, form: Form) -> View:
    """The organization's API keys."""
    roles = [(role, f"{ROLES[role].title} ({role})") for kind in KEY_ROLES for role in KEY_ROLES[kind]]
    return View(
        "api_keys.html",
        {
            "keys": await api_keys.list_api_keys(services, organization_of(fleet), query),
            "roles": roles,
            "kinds": [("organization", "As owner of devices"), ("partner", "As vendor of models")],
            "form": form,
        },
    )


@page("POST", KEYS, permission=Permission.ORGANIZE, shown_by=show_keys)
async def create_key(services: Services, fleet: FleetScope, body: KeyForm) -> View:
    """Make an API key."""
    expires_at = None if body.days is None else services.clock() + timedelta(days=body.days)
    wanted = NewApiKey(body.kind, body.name, body.role, expires_at)
    made = await api_keys.create_api_key(services, organization_of(fleet), wanted)
    return _shown_once(f"The key {made.name} is made", ("", "", made.key), KEYS, "")


@page("POST", KEYS + "/{key_id}/revoke", permission=Permission.ORGANIZE)
async def revoke_key(services: Services, fleet: FleetScope, key_id: UUID) -> Response:
    """Revoke an API key."""
    await api_keys.revoke_api_key(services, organization_of(fleet), key_id)
    return redirect(services, KEYS, said="The key is revoked")


def _shown_once(title: str, made: tuple[str, str, str], back: str, where: str) -> View:
    email, key_id, secret = made
    values = {"title": title, "email": email, "key_id": key_id, "secret": secret, "back": back, "where": where}
    return View("shown_once.html", values)


PAGES = (
    show_accounts,
    create_account,
    create_account_key,
    end_account_key,
    delete_account,
    show_keys,
    create_key,
    revoke_key,
)
