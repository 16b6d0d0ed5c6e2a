"""People in browsers: a client that keeps cookies and sends forms as browsers do."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
from edges import RunningEdge
from owners import Owner

from gateway.passwords import Passwords
from gateway.people.links import INVITATIONS, WAYS_IN
from gateway.stores.accounts import members
from gateway.stores.people import accounts, links
from schemas.postgres import Pool

PASSWORD = "violet harbour tunes 7"
ACCEPTANCE = {"name": "Ada", "password": PASSWORD}
"""What is typed to accept an invitation."""


class Visitor:
    """One browser, at one edge."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Open an address; redirects are followed."""
        async with self._http.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def send(self, path: str, form: Mapping[str, str] = {}, **headers: str) -> tuple[int, str]:
        """Send a form from a page of ours, or from where the headers say; answers the status, and where it leads."""
        given = {"origin": self.url} | headers
        async with self._http.post(self.url + path, data=form, headers=given, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("location") or await answer.text()

    @property
    def cookies(self) -> dict[str, Any]:
        """What the browser keeps, by name."""
        return {cookie.key: cookie for cookie in self._http.cookie_jar}


@contextlib.asynccontextmanager
async def visiting(edge: RunningEdge) -> AsyncIterator[Visitor]:
    """A browser that was never here."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Visitor(edge.url, http)


async def invited(owner: Owner, role: str, email: str = "ada@example.com") -> str:
    """The path of an invitation to a role in the tenant's organization, or its project."""
    project_id = owner.project_id if role.startswith("project.") else None
    async with owner.pool.acquire() as connection:
        member = await members.add(connection, owner.organization_id, project_id, role, email=email)
        return f"{INVITATIONS}/{await links.invite(connection, member.membership_id, datetime.now(UTC))}"


async def way_in(pool: Pool, person_id: UUID, *, at_once: bool = False) -> str:
    """The path of a link that signs a person in."""
    async with pool.acquire() as connection:
        return f"{WAYS_IN}/{await links.way_in(connection, person_id, datetime.now(UTC), at_once=at_once)}"


async def person_of(owner: Owner, *roles: str, email: str = "ada@example.com") -> UUID:
    """A person who has accepted these roles."""
    async with owner.pool.acquire() as connection:
        person = await accounts.find_or_create(connection, email)
        for role in roles:
            project_id = owner.project_id if role.startswith("project.") else None
            member = await members.add(connection, owner.organization_id, project_id, role, email=email)
            await members.accept(connection, member.membership_id, person.id)
    return person.id


async def with_password(owner: Owner, person_id: UUID, password: str = PASSWORD) -> None:
    """Let a person sign in by a password."""
    digest = await Passwords().digest(password, [])
    await owner.pool.execute("UPDATE people SET password = $2 WHERE id = $1", person_id, digest)
