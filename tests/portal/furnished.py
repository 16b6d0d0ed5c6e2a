"""A tenant with one of everything that pages show, each text of which tries to be more than a text.

Whoever adds a page with a new id in its address, says in `places` what that is, and in `query_of` what must stand in
its query; whoever shows a new text, sets it here to `HOSTILE`.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from owners import Owner
from projects import account_of
from visitors import invited, person_of, way_in

from gateway.stores.people import sessions
from schemas.postgres import Pool

HOSTILE = "\"'><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">{{7*7}}&amp;"

NAME_OF_SPACE = HOSTILE.replace("/", "")


async def places(owner: Owner) -> dict[str, Any]:
    """What stands in addresses of pages, by the name that the addresses have for it."""
    await owner.pool.execute("UPDATE organizations SET name = $2 WHERE id = $1", owner.organization_id, HOSTILE)
    await owner.pool.execute("UPDATE projects SET name = $2 WHERE id = $1", owner.project_id, HOSTILE)
    await owner.pool.execute("UPDATE spaces SET name = $2, full_path = $2 WHERE id = $1", owner.space_id, NAME_OF_SPACE)
    device_id = await owner.device(name=HOSTILE)
    await owner.seen(device_id, temperature=21.5, text=HOSTILE)
    await owner.incident(device_id, 2, issue="leak", description=HOSTILE)
    person_id = await person_of(owner, "project.user", email="someone@example.com")
    account = await account_of(owner, "project.user")
    await owner.pool.execute("UPDATE service_accounts SET display_name = $1", HOSTILE)
    await owner.pool.execute("UPDATE api_keys SET name = $2 WHERE organization_id = $1", owner.organization_id, HOSTILE)
    await owner.pool.execute("UPDATE people SET name = $1", HOSTILE)
    return {
        "device_id": device_id,
        "topic": "device-registration",
        "guide": "receivers",
        "where": owner.project_id,
        "member": account.id,
        "account": account.id,
        "key": account.key_id,
        "key_id": owner.key_id,
        "invitation": (await invited(owner, "project.user", email="invited@example.com")).rpartition("/")[2],
        "link": (await way_in(owner.pool, person_id)).rpartition("/")[2],
        "session_id": await session_of(owner.pool, person_id),
    }


async def session_of(pool: Pool, person_id: UUID) -> UUID:
    """A session of this person, from a browser that says more than its name."""
    async with pool.acquire() as connection:
        await sessions.begin(connection, person_id, datetime.now(UTC), "127.0.0.1", HOSTILE)
    session_id: UUID = await pool.fetchval("SELECT id FROM sessions WHERE person_id = $1", person_id)
    return session_id


def query_of(path: str, given: dict[str, Any]) -> str:
    """What the query of a page must say."""
    if path in ("/devices/change", "/devices/move", "/devices/label", "/devices/command", "/devices/delete"):
        action = "move" if path == "/devices/change" else path.rpartition("/")[2]
        return f"?action={action}&ids={given['device_id']}"
    return ""
