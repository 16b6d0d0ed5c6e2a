"""People with a role as vendor: invited, shown, given another role, removed by whoever administers the organization, as
owner or as vendor. No public API knows them, so these are functions for pages.
"""

from typing import NamedTuple

from gateway.api import page_tokens
from gateway.api.page_tokens import PageQuery
from gateway.api.scopes import MakerScope
from gateway.people import links, mail
from gateway.permissions import Role
from gateway.refusals import Conflict, DoesNotFit
from gateway.services import Services
from gateway.stores.accounts import members
from gateway.stores.accounts.members import Member
from gateway.stores.people import links as stored_links

IS_MEMBER = "The invitation was accepted already"


async def listed(services: Services, maker: MakerScope, query: PageQuery) -> tuple[list[Member], str]:
    """Part of the list, and the token of the next one."""
    after = page_tokens.last_id(query, page_tokens.XID)
    found = await members.listed(services.postgres, maker.id, None, "", after, query.page_size + 1, as_vendor=True)
    return page_tokens.cut(found, query.page_size, lambda member: member.id)


async def invite(services: Services, maker: MakerScope, email: str, role: Role) -> Member:
    """Give a person a role as vendor. Raises Conflict for a member, DoesNotFit for what is no address."""
    async with services.postgres.acquire() as connection:
        return await members.add(connection, maker.id, None, role, email=email)


class Invited(NamedTuple):
    """Someone who was invited, by which link, and what became of the mail with it."""

    member: Member
    link: str
    sending: mail.Sending | None


async def link(services: Services, maker: MakerScope, member_id: str) -> Invited:
    """Another link for someone who was invited, sent where it can be. Raises NotFound, Conflict for a member."""
    async with services.postgres.acquire() as connection, connection.transaction():
        found = await members.read(connection, maker.id, None, member_id, as_vendor=True)
        if found.person_id is not None:
            raise Conflict(IS_MEMBER)
        if found.email is None:
            raise DoesNotFit("A service account needs no invitation")
        token = await stored_links.invite(connection, found.membership_id, services.clock())
    url = links.url(services, token)
    return Invited(found, url, await mail.send_invitation(services, maker.id, found.email, url))


async def change_role(services: Services, maker: MakerScope, member_id: str, role: Role) -> Member:
    """Another role as vendor. Raises NotFound."""
    async with services.postgres.acquire() as connection, connection.transaction():
        return await members.change_role(connection, maker.id, None, member_id, role)


async def remove(services: Services, maker: MakerScope, member_id: str) -> None:
    """Take the role away. Raises NotFound."""
    async with services.postgres.acquire() as connection:
        await members.remove(connection, maker.id, None, member_id, as_vendor=True)
