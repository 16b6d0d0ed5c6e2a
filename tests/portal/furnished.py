"""A tenant with one of everything that pages show, each text of which tries to be more than a text.

Whoever adds a page with a new id in its address, says in `places` what that is; whoever shows a new text, sets it here
to `HOSTILE`.
"""

from typing import Any

from owners import Owner

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
    return {"device_id": device_id, "topic": "device-registration"}
