"""A tenant with one of everything the API has, so that a call with made-up values still meets real things."""

import itertools
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import jwt
import requests
from campaigns import firmware
from owners import Owner
from projects import Account, account_of

from gateway.stores.devices import identity
from gateway.stores.rollouts import actions
from gateway.stores.tenants import organizations
from schemas import replies
from schemas.firmware import choose
from schemas.postgres import Pool
from schemas.redis import Redis

_numbers = itertools.count(1)
FAR = 1_000_000
ROLLOUT = {"waves": [{"percent": 100}], "window": None, "max_per_minute": 10, "starts_at": None}
RULE = {"telemetry": "disk", "comparison": "gt", "value": 90, "title": "Full"}
DRY = {"telemetry": "disk", "comparison": "gt", "value": 90}


@dataclass
class Everything:
    """Credentials by security scheme, and what stands in paths, queries and bodies."""

    credentials: dict[str, str] = field(default_factory=dict)
    places: dict[str, dict[str, str]] = field(default_factory=dict)
    """The members of paths, by what the path begins with."""
    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The members of queries and bodies, likewise."""
    bodies: dict[str, Any] = field(default_factory=dict)
    """Whole bodies, by path."""

    def place(self, path: str, name: str) -> str | None:
        """What stands for `{name}` in a path."""
        return next((known[name] for start, known in _longest(self.places, path) if name in known), None)

    def real(self, path: str, value: Any) -> Any:
        """A body or query in which members are real wherever there is something real of that name."""
        if path in self.bodies and isinstance(value, dict) and value:
            return self.bodies[path]
        if isinstance(value, list):
            return [self.real(path, item) for item in value]
        if not isinstance(value, dict):
            return value
        return {name: self._member(path, name, inner) for name, inner in value.items()}

    def _member(self, path: str, name: str, value: Any) -> Any:
        for _, known in _longest(self.members, path):
            if name in known:
                found = known[name]
                return found() if callable(found) else found
        return self.real(path, value)


def _longest(known: dict[str, dict[str, Any]], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return iter(sorted(((s, k) for s, k in known.items() if path.startswith(s)), key=lambda pair: -len(pair[0])))


def _mac() -> str:
    return f"0a:00:00:00:00:{next(_numbers) & 255:02x}"


async def _made(account: Account, path: str, body: Any) -> str:
    """Make something in the /v2 API; its id."""
    status, answer = await account.ask("POST", path, body)
    assert status == 200, answer
    return str(answer.get("name") or answer["key"]["name"]).rpartition("/")[2]


def _name_of(owner: Owner, path: str) -> str:
    """What a thing is called now: who deletes it must know, and a call before may have renamed it."""
    answer = requests.get(owner.url + path, headers={"authorization": owner.key}, timeout=10)
    return str(answer.json().get("name", ""))


def _assertion(account: Account) -> str:
    """What the account shows for a token."""
    now_s = int(time.time())
    claims = {"iss": account.email, "aud": f"{account.owner.url}/oauth2/token", "iat": now_s, "exp": now_s + 3600}
    return jwt.encode(claims, account.secret, "HS256", headers={"kid": account.key_id})


async def everything_of(acme: Owner, redis: Redis, access_key: Any) -> Everything:
    """Make it; `access_key` issues a device's key. No device is held back by a limit of calls."""
    own, owned, sold, listed, victim = [await acme.device(labels={"room": "1"}) for _ in range(5)]
    unclaimed = await acme.device(claimed=False)
    for device_id in (own, owned, sold, listed):
        await acme.seen(device_id, temperature=21.5)
        await acme.message(device_id, (await acme.row(device_id))["claimed_at"], telemetries={"temperature": 21.5})
        await acme.call("PUT", f"/devices/{device_id}/config", {"config": {"interval_s": 10}})
    await _without_limits(acme.pool, redis, acme.devices)
    command = await acme.call("POST", f"/devices/{own}/commands", {"command": "reboot"})
    cancelled = await acme.call("POST", f"/devices/{owned}/commands", {"command": "reboot"})
    model = await acme.call("POST", "/models", {"vendor": "Acme", "name": "Other"})
    in_model = f"/models/{model['id']}"
    definition = await acme.call("POST", f"{in_model}/commands", {"name": "reboot"})
    hardware_key = await acme.call("POST", f"{in_model}/hardware_keys", {"name": "Batch"})
    await acme.call("DELETE", f"{in_model}/hardware_keys/{hardware_key['id']}")
    registering = await acme.call("POST", f"/models/{acme.model_id}/hardware_keys", {"name": "Line"})
    project = await acme.call("POST", "/projects", {"name": "Other"})
    space = await acme.call("POST", "/spaces", {"project_id": str(acme.project_id), "name": "Cellar"})
    api_key = await acme.call("POST", "/api_keys", {"kind": "partner", "name": "Other"})
    caller = await account_of(acme, "organization.admin")
    role = {"roles": ["roles/project.user"]}
    in_project, in_organization = f"/v2/projects/{acme.project_id}", f"/v2/organizations/{acme.organization_id}"
    account = await _made(caller, f"{in_project}/serviceaccounts", {"displayName": "Other", "enableBasicAuth": True})
    receiver = {"url": "https://receiver.example/events", "signatureSecret": "s3cret-of-16-and-more"}
    leads = {"roles": ["roles/organization.admin"]}
    unsorted = {"sn": (row := await acme.row(unclaimed))["sn"], "mac": row["mac"], "space_id": str(acme.space_id)}
    v2 = {
        "project": str(acme.project_id),
        "organization": str(acme.organization_id),
        "account": account,
        "key": await _made(caller, f"{in_project}/serviceaccounts/{account}/keys", None),
        "member": await _made(caller, f"{in_project}/members", role | {"email": "someone@example.org"}),
        "role": "project.user",
        "device": str(listed),
        "label": "room",
        "connector": await _made(caller, f"{in_project}/dataconnectors", {"httpConfig": receiver}),
    }
    pending = await _license(acme, own, "pending_add")
    license_of_owned = await _license(acme, owned, "inuse")
    licenses = {state: await _license(acme, sold, state) for state in ("inuse", "error_add", "pending_update")}
    available = [await _license(acme, None, "available") for _ in range(2)]
    await acme.pool.execute("UPDATE devices SET asked_back_at = now(), asked_back_address = '' WHERE id = $1", owned)
    await acme.pool.execute("UPDATE devices SET asked_back_firmware = '1.0.0' WHERE id = $1", owned)
    license_key = (await acme.partner("GET", "/license_keys"))["items"][0]["id"]
    release = str(await firmware(acme, "2.0.0"))
    own_rollouts = await _rollouts(acme, release, as_vendor=False)
    sold_rollouts = await _rollouts(acme, release, as_vendor=True)
    async with acme.pool.acquire() as connection:
        vendor = await organizations.create(connection, "Vendor")
    await acme.call("POST", "/partners", {"short_code": vendor.short_code})
    leaving = await _made(caller, f"{in_project}/members", role | {"email": "leaving@example.org"})
    member = await _made(caller, f"{in_organization}/members", leads | {"email": "someone@example.org"})
    emulated = await _made(caller, f"/emulator{in_project}/devices", {"type": "temperature"})
    ticket = await acme.call("POST", "/tickets", {"device_id": str(owned), "title": "T"})
    done = await acme.call("POST", "/tickets", {"device_id": str(owned), "title": "T"})
    rule = await acme.call("POST", "/incident_rules", RULE | {"model_id": str(acme.model_id)})
    _, vendors = await acme.ask(
        "POST", "/core/v1/partner/incident_rules", RULE | {"model_id": str(acme.model_id)}, acme.partner_key
    )
    note = await acme.call("POST", f"/devices/{owned}/notes", {"content": "N"})
    space_note = await acme.call("POST", f"/spaces/{space['id']}/notes", {"content": "N"})
    incidents = {device_id: await acme.incident(device_id, 3, kind="user") for device_id in (own, owned, sold)}
    organization, partner_license = "/core/v1/organization", "/core/v1/partner/licenses/{license_id}"
    connector = {
        "provider": "microsoft_teams_rooms",
        "project_id": str(acme.project_id),
        "space_id": str(acme.space_id),
        "settings": {"tenant": "contoso"},
    }
    imported = (await acme.call("POST", "/connectors", connector))["connector"]
    files = {side: await _files_of(acme, side) for side in ("organization", "partner")}
    of_device = files["partner"].pop("/of_a_device")
    await _held(acme.pool, imported["id"], listed)
    action = await _offered(acme, own)
    return Everything(
        credentials={
            "device": access_key(str(own), 0),
            "organization": acme.key,
            "partner": acme.partner_key,
            "account": caller.basic,
        },
        places={
            "/v1/": {
                "device_id": str(own),
                "incident_id": str(incidents[own]),
                "file_id": of_device,
                "dump_id": await dump_of(acme, own, access_key(str(own), 0)),
                "mime": "text/plain",
                "file_name": "log.txt",
            },
            "/default/": {"device_id": str(own), "action": action},
            "/DEFAULT/": {"device_id": str(own), "file_id": of_device},
            organization: {
                "device_id": str(owned),
                "dump_id": await dump_of(acme, owned, access_key(str(owned), 0)),
                "command_id": cancelled["id"],
                "incident_id": str(incidents[owned]),
                "ticket_id": ticket["id"],
                "rule_id": rule["id"],
                "note_id": note["id"],
                "project_id": project["id"],
                "space_id": space["id"],
            },
            f"{organization}/tickets/{{ticket_id}}/resolved": {"ticket_id": done["id"]},
            "/core/v1/partner/tickets/{ticket_id}/resolved": {"ticket_id": done["id"]},
            f"{organization}/spaces": {"note_id": space_note["id"]},
            f"{organization}/models": {
                "model_id": model["id"],
                "definition_id": definition["id"],
                "key_id": hardware_key["id"],
            },
            f"{organization}/api_keys": {"key_id": api_key["id"]},
            f"{organization}/partners": {"partner_id": str(vendor.id)},
            f"{organization}/connectors": {
                "connector_id": imported["id"],
                "vendor_id": "gone",
                "run": await run_of(acme.pool, imported["id"]),
            },
            f"{organization}/licenses": {"license_id": license_of_owned},
            "/core/v1/partner": {"device_id": str(sold), "license_id": available[0], "key_id": license_key}
            | {"incident_id": str(incidents[sold]), "ticket_id": ticket["id"], "rule_id": vendors["id"]},
            f"{partner_license}/assign": {"license_id": available[1]},
            f"{partner_license}/extend": {"license_id": licenses["pending_update"]},
            f"{partner_license}/revoke": {"license_id": licenses["inuse"]},
            f"{partner_license}/retry": {"license_id": licenses["error_add"]},
            **{
                f"/core/v1/{side}/files/{{file_id}}{call}": {"file_id": file_id}
                for side, calls in files.items()
                for call, file_id in calls.items()
            },
            **{f"{organization}/rollouts{path}": {"rollout_id": own} for path, own in own_rollouts.items()},
            **{f"/core/v1/partner/rollouts{path}": {"rollout_id": sold} for path, sold in sold_rollouts.items()},
            "/v2/": v2,
            "/v2/organizations": {"member": member},
            "/emulator/": v2 | {"device": emulated},
        },
        members={
            "/": {
                "firmware_version": "1.0.1",
                "mac": _mac,
                "sn": lambda: f"MADE{next(_numbers)}",
                "parent_id": None,
                "hardware_key": registering["key"],
                "model_id": str(acme.model_id),
                "space_id": str(acme.space_id),
                "project_id": str(acme.project_id),
                "device_id": str(owned),
                "id": command["id"],
                "status": "done",
                "command": "reboot",
                "friendly_name": None,
                "extra_params": {},
                "file_id": None,
                "scheduled_at": None,
                "version": None,
                "organization": f"organizations/{acme.organization_id}",
                "rate_limit": FAR,
                "time_zone": "Europe/Oslo",
                "event_mappings": {"temperature": "temperature"},
                "short_code": vendor.short_code,
            },
            f"{organization}/rollouts": ROLLOUT | {"file_id": release},
            "/core/v1/partner/rollouts": ROLLOUT | {"file_id": release},
            "/v1/devices/{device_id}/licenses": {"id": pending, "state": "inuse"},
            "/core/v1/partner/licenses": {"device_id": str(sold), "expires_at": "2100-01-01T00:00:00Z"},
            "/v1/devices/{device_id}/telemetry": {"status": "online"},
            "/v1/devices/{device_id}/incidents": {"priority": 2, "issue": lambda: f"issue {next(_numbers)}"},
            f"{organization}/incidents": {
                "priority": 2,
                "issue": lambda: f"issue {next(_numbers)}",
                "status": "active",
                "from": "1770000000",
                "to": "1790000000",
            },
            "/core/v1/partner/incidents": {"priority": "critical", "status": "active", "from": None, "to": None},
            f"{organization}/devices/histories": {"status": None},
            f"{organization}/connectors": {
                "name": lambda: _name_of(acme, f"{organization}/connectors/{imported['id']}"),
                "settings": connector["settings"],
            },
            "/v2/": {
                "identifier": f"{row['mac']}/{row['sn']}",
                "vendor": None,
                "model": None,
                "httpConfig": receiver,
                "events": ["temperature"],
                "status": "ACTIVE",
                "type": "HTTP_PUSH",
                "startTime": "2026-05-01T00:00:00Z",
                "endTime": "2026-05-02T00:00:00Z",
                "start_time": "2026-05-01T00:00:00Z",
                "end_time": "2026-05-02T00:00:00Z",
                "devices": [f"projects/{acme.project_id}/devices/{victim}"],
                "email": lambda: f"person{next(_numbers)}@example.org",
                "page_token": "",
                "order_by": "labels.name",
                "update_mask": "displayName",
            }
            | role,
            in_organization: leads,
            "/emulator/": {"type": "temperature", "page_token": ""},
            "/oauth2/": {"assertion": _assertion(caller)},
        },
        bodies={
            f"{organization}/incident_rules": RULE | {"model_id": str(acme.model_id)},
            f"{organization}/incident_rules/{{rule_id}}": {"value": 91},
            f"{organization}/incident_rules/dry_run": DRY | {"device_id": str(owned)},
            "/core/v1/partner/incident_rules": RULE | {"model_id": str(acme.model_id)},
            "/core/v1/partner/incident_rules/{rule_id}": {"value": 91},
            "/core/v1/partner/incident_rules/dry_run": DRY | {"device_id": str(sold)},
            f"{organization}/tickets": {"device_id": str(owned), "title": "U"},
            "/default/controller/v1/{device_id}/deploymentBase/{action}/feedback": {
                "status": {"execution": "proceeding"}
            },
            "/emulator/v2/projects/{project}/devices/{device}:publish": {"temperature": {"value": 21.5}},
            f"{organization}/devices/claim": unsorted,
            f"{organization}/devices/{{device_id}}/replace": {"sn": "NEWUNIT", "mac": "0a:00:00:00:01:01"},
            f"{organization}/spaces/find_or_create": {"project_id": str(acme.project_id), "name": "Loft/Shelf"},
            f"{organization}/devices/{{device_id}}/commands": {"command": "reboot"},
            "/v2/organizations/{organization}/members": leads | {"email": "another@example.org"},
            "/v2/projects:batchUpdate": {"projects": [in_project[4:]], "addLabels": {"floor": "2"}},
            "/v2/projects/{project}/members:batchCreate": {"members": [role | {"email": "third@example.org"}]},
            "/v2/projects/{project}/members:batchDelete": {"names": [f"{in_project[4:]}/members/{leaving}"]},
            f"{organization}/connectors": connector,
            "/v2/projects/{project}/dataconnectors": {"httpConfig": receiver},
            "/v2/projects/{project}/devices:claim": {"deviceIds": [f"{row['mac']}/{row['sn']}"]},
        },
    )


async def _rollouts(acme: Owner, file_id: str, *, as_vendor: bool) -> dict[str, str]:
    """A rollout for each thing that can be done with one, by how its path goes on."""
    ask = acme.partner if as_vendor else acme.call
    made: dict[str, str] = {}
    for path, status in (
        ("", "draft"),
        ("/{rollout_id}/start", "draft"),
        ("/{rollout_id}/approve", "waiting_for_approval"),
        ("/{rollout_id}/pause", "running"),
        ("/{rollout_id}/resume", "paused"),
        ("/{rollout_id}/abort", "running"),
        ("/{rollout_id}/next_wave", "running"),
    ):
        made[path] = (await ask("POST", "/rollouts", {"name": "Spring", "file_id": file_id}))["id"]
        await acme.pool.execute(
            "UPDATE rollouts SET status = $2, created_by = 'somebody', wave = 1 WHERE id = $1", UUID(made[path]), status
        )
    await acme.pool.execute("UPDATE rollout_waves SET status = 'waiting'")
    return made


async def _offered(acme: Owner, device_id: UUID) -> str:
    """Offer a device firmware that has no rollout; the number of the action that this is."""
    await firmware(acme, "3.0.0")
    async with acme.pool.acquire() as connection, connection.transaction():
        await choose(connection, [device_id])
        action = await actions.current(connection, await identity.by_id(connection, device_id))
    assert action is not None
    return str(action.number)


async def _license(acme: Owner, device_id: UUID | None, state: str) -> str:
    """A licence in some state."""
    made = await acme.partner("POST", "/licenses", {"model_id": str(acme.model_id), "data": "all"})
    await acme.pool.execute(
        "UPDATE licenses SET device_id = $2, state = $3 WHERE id = $1", made["id"], device_id, state
    )
    return str(made["id"])


async def dump_of(owner: Owner, device_id: UUID, key: str) -> str:
    """A dump that a device sent."""
    url = f"{owner.url}/v1/devices/{device_id}/dumps/text%2Fplain/log.txt"
    async with owner.http.post(url, data=b"line", headers={"authorization": key}) as answer:
        assert answer.status == 201
        return str((await answer.json())["id"])


async def run_of(pool: Pool, connector_id: str) -> str:
    """A run that a connector finished, of a long number: it is found in an answer only where the run is told of."""
    run_id = await pool.fetchval(
        """INSERT INTO cloud_runs (id, connector_id, kind, started_at, finished_at) OVERRIDING SYSTEM VALUE
           VALUES ($2, $1, 'inventory', now(), now()) RETURNING id""",
        connector_id,
        10**17 + secrets.randbelow(10**17),
    )
    return str(run_id)


async def _files_of(owner: Owner, side: str) -> dict[str, str]:
    """A file for each kind of call: a draft without bytes, one with, one that is released."""
    files = {}
    for number, call in enumerate(("", "/content", "/release", "/withdraw", "/of_a_device")):
        key = owner.key if side == "organization" else owner.partner_key
        body = {"model_id": str(owner.model_id), "name": "F", "file_type": "firmware", "version": f"0.0.{number}"}
        path = f"/core/v1/{side}/files"
        status, made = await owner.ask("POST", path, body, key)
        assert status == 201, made
        files[call] = made["id"]
        if number > 1:
            content, headers = f"{owner.url}{path}/{made['id']}/content", {"authorization": key}
            async with owner.http.put(content, data=b"bytes", headers=headers) as answer:
                assert answer.status == 200
        if number > 2:
            status, made = await owner.ask("POST", f"{path}/{made['id']}/release", None, key)
            assert status == 200, made
    return files


async def _without_limits(pool: Pool, redis: Redis, devices: list[UUID]) -> None:
    await pool.execute("UPDATE device_models SET rate_limit = $1", FAR)
    async with pool.acquire() as connection:
        await replies.write(connection, redis, devices)


async def _held(pool: Pool, connector_id: str, device_id: UUID) -> None:
    """A connector that works, holds a list, and imported a device that a user deleted."""
    await pool.execute(
        """UPDATE cloud_connectors SET status = 'Error', credentials = 'sealed', held = $2 WHERE id = $1""",
        connector_id,
        dict.fromkeys(("found", "active", "created", "renamed", "excluded", "restored"), 0),
    )
    await pool.execute(
        "INSERT INTO cloud_devices (connector_id, vendor_id, device_id, name, excluded) VALUES ($1, $2, $3, $4, $5)",
        connector_id,
        "gone",
        device_id,
        "Gone",
        "user_deleted",
    )
