"""A tenant with one of everything that pages show, each text of which tries to be more than a text.

Whoever adds a page with a new id in its address, says in `places` what that is (`partner_…` where a vendor's page means
another thing than the owner's), and in `query_of` what must stand in its query; whoever shows a new text, sets it here
to `HOSTILE`.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from everything import dump_of
from owners import Owner
from projects import account_of
from visitors import invited, person_of, way_in

from gateway.stores.people import passkeys, sessions
from schemas import ids
from schemas.ids import AccessKeys
from schemas.postgres import Pool
from tests.conftest import MASTER_KEY

HOSTILE = "\"'><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">{{7*7}}&amp;"

NAME_OF_SPACE = HOSTILE.replace("/", "")


async def _of_device(owner: Owner, device_id: UUID) -> dict[str, Any]:
    """What is seen of a device: a note, a command, two versions of a config, a message, a dump, a licence."""
    of_device = f"/devices/{device_id}"
    note = await owner.call("POST", f"{of_device}/notes", {"content": HOSTILE})
    model = f"/models/{owner.model_id}/commands"
    fields = [
        {"name": "speed", "type": "integer", "description": HOSTILE},
        {"name": "mode", "type": "string", "options": ["quick", HOSTILE[:60]]},
    ]
    await owner.call(
        "POST", model, {"name": "turn", "friendly_name": HOSTILE, "description": HOSTILE, "fields": fields}
    )
    sent = {"command": "turn", "extra_params": {"speed": 3, "mode": HOSTILE[:60]}}
    command = await owner.call("POST", f"{of_device}/commands", sent)
    await owner.call("PUT", f"{of_device}/config", {"config": {HOSTILE: 1}})
    await owner.pool.execute("UPDATE devices SET applied_config_version = 1 WHERE id = $1", device_id)
    await owner.call("PUT", f"{of_device}/config", {"config": {HOSTILE: HOSTILE}})
    now = datetime.now(UTC)
    await owner.message(device_id, now, status="error", telemetries={HOSTILE: HOSTILE}, message=HOSTILE)
    await owner.call("POST", f"{of_device}/rotate_key", {"overlap_s": 0})
    dump_id = await dump_of(owner, device_id, AccessKeys(MASTER_KEY).issue(str(device_id), 1))
    return {"note_id": note["id"], "command_id": command["id"], "dump_id": dump_id}


async def _of_model(owner: Owner) -> dict[str, Any]:
    """What its vendor sees of a model: a command, a hardware key, a licence."""
    model = f"/models/{owner.model_id}"
    await owner.pool.execute(
        "UPDATE device_models SET name = $2, vendor = $2, event_mappings = $3 WHERE id = $1",
        owner.model_id,
        HOSTILE,
        {HOSTILE[:60]: "temperature"},
    )
    field = {"name": HOSTILE[:60], "type": "string", "description": HOSTILE, "options": [HOSTILE[:60]]}
    said = {"name": "halt", "friendly_name": f"{HOSTILE} now", "description": HOSTILE, "fields": [field]}
    command = await owner.call("POST", f"{model}/commands", said)
    key = await owner.call("POST", f"{model}/hardware_keys", {"name": HOSTILE})
    licence = {"model_id": str(owner.model_id), "name": HOSTILE, "data": HOSTILE}
    release = {"name": HOSTILE, "file_type": "firmware", "version": "3.0.0", "model_id": str(owner.model_id)}
    file = await owner.partner("POST", "/files", release)
    url = f"{owner.url}/core/v1/partner/files/{file['id']}/content"
    async with owner.http.put(url, data=b"bytes", headers={"authorization": owner.partner_key}) as answer:
        assert answer.status == 200
    rollout = await owner.partner("POST", "/rollouts", {"name": HOSTILE, "file_id": file["id"]})
    license_id = (await owner.partner("POST", "/licenses", licence))["id"]
    rule = {"telemetry": HOSTILE[:60], "comparison": "eq", "value": HOSTILE, "title": HOSTILE, "description": HOSTILE}
    rule = await owner.partner("POST", "/incident_rules", rule | {"model_id": str(owner.model_id)})
    return {
        "model_id": owner.model_id,
        "definition_id": command["id"],
        "hardware_key_id": key["id"],
        "license_id": license_id,
        "partner_file_id": file["id"],
        "partner_rollout_id": rollout["id"],
        "partner_rule_id": rule["id"],
    }


async def places(owner: Owner) -> dict[str, Any]:
    """What stands in addresses of pages, by the name that the addresses have for it."""
    await owner.pool.execute("UPDATE organizations SET name = $2 WHERE id = $1", owner.organization_id, HOSTILE)
    await owner.pool.execute("UPDATE projects SET name = $2 WHERE id = $1", owner.project_id, HOSTILE)
    await owner.pool.execute("UPDATE spaces SET name = $2, full_path = $2 WHERE id = $1", owner.space_id, NAME_OF_SPACE)
    device_id = await owner.device(name=HOSTILE)
    await owner.seen(device_id, temperature=21.5, text=HOSTILE)
    incident_id = await owner.incident(device_id, 2, issue="leak", description=HOSTILE)
    await owner.call("PATCH", f"/incidents/{incident_id}", {"assignee": HOSTILE, "comment": HOSTILE})
    ticket = await owner.call(
        "POST", "/tickets", {"device_id": str(device_id), "title": HOSTILE, "description": HOSTILE}
    )
    await owner.call("POST", f"/tickets/{ticket['id']}/message", {"message": HOSTILE})
    rule = {"telemetry": HOSTILE[:60], "comparison": "eq", "value": HOSTILE, "title": HOSTILE, "description": HOSTILE}
    rule = await owner.call("POST", "/incident_rules", rule | {"project_id": str(owner.project_id)})
    release = {"name": HOSTILE, "file_type": "firmware", "version": "2.0.0", "desc": HOSTILE, "public_notes": HOSTILE}
    file = await owner.call("POST", "/files", release | {"model_id": str(owner.model_id)})
    url = f"{owner.url}/core/v1/organization/files/{file['id']}/content"
    async with owner.http.put(url, data=b"bytes", headers={"authorization": owner.key}) as answer:
        assert answer.status == 200
    await owner.call("POST", f"/files/{file['id']}/release")
    planned = {"name": HOSTILE, "description": HOSTILE, "file_id": file["id"]}
    rollout = await owner.call("POST", "/rollouts", planned)
    made = {
        "file_id": file["id"],
        "rollout_id": rollout["id"],
        "incident_id": incident_id,
        "ticket_id": ticket["id"],
        "rule_id": rule["id"],
    }
    person_id = await person_of(owner, "project.user", email="someone@example.com")
    account = await account_of(owner, "project.user")
    await owner.pool.execute("UPDATE service_accounts SET display_name = $1", HOSTILE)
    await owner.pool.execute("UPDATE api_keys SET name = $2 WHERE organization_id = $1", owner.organization_id, HOSTILE)
    await owner.pool.execute("UPDATE people SET name = $1", HOSTILE)
    return {
        **await _data_connector(owner),
        **await _cloud_connector(owner, device_id),
        "device_id": device_id,
        "cloud_id": "AC0123456789abcdef",
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
        "passkey_id": await passkey_of(owner.pool, person_id),
        **made,
        **await _of_device(owner, device_id),
        **await _of_model(owner),
    }


async def session_of(pool: Pool, person_id: UUID) -> UUID:
    """A session of this person, from a browser that says more than its name."""
    async with pool.acquire() as connection:
        await sessions.begin(connection, person_id, datetime.now(UTC), "127.0.0.1", HOSTILE)
    session_id: UUID = await pool.fetchval("SELECT id FROM sessions WHERE person_id = $1", person_id)
    return session_id


async def passkey_of(pool: Pool, person_id: UUID) -> UUID:
    """A passkey of this person, with a name that is more than one."""
    async with pool.acquire() as connection:
        await passkeys.add(connection, person_id, HOSTILE[:100], b"credential", b"key", 0, datetime.now(UTC))
    (passkey,) = await passkeys.listed(pool, person_id)
    return passkey.id


def query_of(path: str, given: dict[str, Any]) -> str:
    """What the query of a page must say."""
    if path in ("/devices/change", "/devices/move", "/devices/label", "/devices/command", "/devices/delete"):
        action = "move" if path == "/devices/change" else path.rpartition("/")[2]
        return f"?action={action}&ids={given['device_id']}"
    return ""


async def _data_connector(owner: Owner) -> dict[str, Any]:
    """One that failed, and has work on its queue."""
    connector_id = ids.new_xid()
    await owner.pool.execute(
        """INSERT INTO data_connectors (id, project_id, status, url, display_name, labels, failing_since)
           VALUES ($1, $2, 'ACTIVE', 'https://receiver.example/', $3, $4, now())""",
        connector_id,
        owner.project_id,
        HOSTILE,
        [HOSTILE],
    )
    await owner.pool.execute(
        """INSERT INTO delivery_attempts (connector_id, at, event_id, attempt, status, cause, latency_ms, answer)
           VALUES ($1, now(), 'e', 1, 503, 'status', 12, $2)""",
        connector_id,
        HOSTILE,
    )
    await owner.pool.execute(
        "INSERT INTO connector_jobs (connector_id, kind, event_types) VALUES ($1, 'sync', '{}')", connector_id
    )
    return {"project": owner.project_id, "connector": connector_id}


async def _cloud_connector(owner: Owner, device_id: UUID) -> dict[str, Any]:
    """One that holds a list, and imported a device that somebody deleted."""
    connector_id = ids.new_xid()
    gone = [{"vendor_id": HOSTILE, "name": HOSTILE}]
    details = {"skips": [{"vendor_id": HOSTILE, "reason": HOSTILE}], "excluded": gone, "why_held": HOSTILE}
    run_id = await owner.pool.fetchval(
        """WITH made AS (INSERT INTO cloud_connectors (id, organization_id, project_id, space_id, provider, name, error,
                                                       status, settings)
                         VALUES ($1, $2, $3, $4, 'microsoft_teams_rooms', $5, $5, 'Error', $6) RETURNING id)
           INSERT INTO cloud_runs (connector_id, kind, started_at, finished_at, excluded, skipped, held, details)
           SELECT id, 'inventory', now(), now(), 1, 1, true, $7 FROM made RETURNING id""",
        connector_id,
        owner.organization_id,
        owner.project_id,
        owner.space_id,
        HOSTILE,
        {"tenant": HOSTILE},
        details,
    )
    held = dict.fromkeys(("found", "active", "created", "renamed", "restored"), 0) | {"excluded": 1, "run_id": run_id}
    await owner.pool.execute("UPDATE cloud_connectors SET held = $2 WHERE id = $1", connector_id, held)
    await owner.pool.execute(
        """INSERT INTO cloud_devices (connector_id, vendor_id, device_id, name, excluded, excluded_at)
           VALUES ($1, $2, $3, $2, 'user_deleted', now())""",
        connector_id,
        HOSTILE,
        device_id,
    )
    link = await owner.call("POST", f"/connectors/{connector_id}/regenerate_link")
    return {"connector_id": connector_id, "run": run_id, "token": link["url"].rpartition("/")[2]}
