"""Examples of what goes in and comes out, put together from the structs: the document, the docs and Postman show them.

A struct needs no example of its own. What a member holds is said by the `examples` of its type (`Meta`), else by
`WORDS`, where a word means the same in every call, so that all examples tell of one tenant and one device. Of a word's
values the first is taken that the member's schema lets in. Words for one struct alone are called `Struct.member`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

DEVICE = "01997a2c-5d10-7c3e-8f4a-6b1d2e3f4a5b"
PROJECT = "01997a2b-1a00-7b22-9c11-0d5e6f708192"
SPACE = "01997a2b-1a01-7d44-8e21-1f2a3b4c5d6e"
MODEL = "01997a2a-9c00-7e66-a533-2b3c4d5e6f70"
FILE = "01997a30-7700-7f88-b644-3c4d5e6f7081"
SOMETHING = "01997a31-4400-7aaa-9755-4d5e6f708192"
"""Any other id."""
MEMBER = "01997a33-2200-7ccc-8977-6f7081920314"
COMMAND = "01997a34-3300-7ddd-8a88-708192031425"
LICENSE = "01997a35-4400-7eee-8b99-819203142536"
ORGANIZATION = "01997a2a-0000-7111-8a99-5e6f70819203"
HARDWARE_KEY = "h7T2mQ9xV4bN6cR1"
SERIAL_NUMBER = "TS1000042"
MAC = "02:1a:2b:3c:4d:5e"
CODE = "EXMP"
ACCESS_KEY = "8f14e45fceea167a5a36dedd4bea2543"
ADDRESS = "kari@example.com"
ASSERTION = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhY2NvdW50In0.c2lnbmF0dXJl"
MOMENT = "2026-05-04T12:00:00Z"
LATER = "2026-05-04T13:00:00Z"
FAR = "2100-01-01T00:00:00Z"
_ROOT = "https://fleet.example"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bb822cd15d6c15b0f00a8"
_DEVICE_NAME = f"projects/{PROJECT}/devices/{DEVICE}"
_OWNER = "Example Foods"
_ORGANIZATION = f"organizations/{ORGANIZATION}"
_ROLE = "roles/project.user"
_TEXTS = {"room": "1.14"}

WORDS: Mapping[str, tuple[Any, ...]] = {
    # who and where
    "device_id": (DEVICE,),
    "device": (_DEVICE_NAME,),
    "devices": ([_DEVICE_NAME], 3),
    "project_id": (PROJECT,),
    "project": (f"projects/{PROJECT}",),
    "projects": ([f"projects/{PROJECT}"], 2),
    "space_id": (SPACE,),
    "model_id": (MODEL,),
    "organization": (_ORGANIZATION,),
    "file_id": (FILE,),
    "latest_fw_file_id": (FILE,),
    "parent_id": (None, SOMETHING),
    "rule_id": (None, SOMETHING),
    "ticket_id": (None, SOMETHING),
    "incident_id": (SOMETHING,),
    "taken_back_from": (None,),
    "back_to_file_id": (None, FILE),
    "vendor_id": ("room-17", SOMETHING),
    "license_id": (LICENSE,),
    "hardware_key": (HARDWARE_KEY,),
    "access_key": (ACCESS_KEY,),
    "access_token": (ACCESS_KEY,),
    "organization_key": ("fgo_2Jq8mX5tW9vL3nB7cR4k",),
    "key": (None, "room", "fgo_2Jq8mX5tW9vL3nB7cR4k"),
    "secret": ("c2VjcmV0LW9mLWEta2V5",),
    "passcode": ("4711-0815",),
    **dict.fromkeys(("Registered.id", "RegisteredChild.id", "Child.id", "OwnedDevice.id"), (DEVICE,)),
    **dict.fromkeys(("Space.id", "DeviceSpace.id"), (SPACE,)),
    **dict.fromkeys(("Model.id", "DeviceModel.id", "ListedModel.id"), (MODEL,)),
    **dict.fromkeys(("File.id", "DeviceFile.id"), (FILE,)),
    **dict.fromkeys(("CommandReport.id", "Command.id", "NextCommand.id", "CommandOrNothing.id"), (COMMAND,)),
    **dict.fromkeys(("LicenseReport.id", "PendingLicense.id", "HeldLicense.id", "LicenseOrNothing.id"), (LICENSE,)),
    "OrganizationInfo.id": (ORGANIZATION,),
    "NewApiKey.expires_at": (None,),
    "MintedApiKey.expires_at": (None,),
    "ApiKey.expires_at": (None,),
    "NewTicket.incident_id": (None,),
    "NewOwnersRule.project_id": (None,),
    "NewOwnersRule.space_id": (None,),
    # names and texts
    **dict.fromkeys(("NextCommand.name", "CommandOrNothing.name"), ("reboot",)),
    **dict.fromkeys(("NewDefinition.name", "CommandDefinition.name", "DefinitionChange.name"), ("reboot",)),
    **dict.fromkeys(("NewField.name", "CommandField.name"), ("delay_s",)),
    **dict.fromkeys(
        ("Model.name", "ListedModel.name", "DeviceModel.name", "NewModel.name", "ModelChange.name"), ("TS-1",)
    ),
    **dict.fromkeys(("Project.name", "Named.name", "V2Project.displayName"), ("North",)),
    **dict.fromkeys(("OrganizationInfo.name", "CustomerOrganization.name", "Organization.displayName"), (_OWNER,)),
    **dict.fromkeys(("PartnerInfo.name", "TrustedVendor.name"), ("Example Sensors",)),
    **dict.fromkeys(("File.name", "NewFile.name", "NewModelFile.name", "DeviceFile.name"), ("Firmware 1.5.0",)),
    **dict.fromkeys(("Rollout.name", "RolloutSummary.name", "NewRollout.name"), ("Firmware 1.5.0, May",)),
    **dict.fromkeys(("ApiKey.name", "NewApiKey.name", "MintedApiKey.name"), ("Line 2",)),
    **dict.fromkeys(("HardwareKey.name", "NewHardwareKey.name", "MintedHardwareKey.name"), ("Batch of May",)),
    **dict.fromkeys(("License.name", "DeviceLicense.name", "NewLicense.name"), ("Night mode",)),
    "V2Project.name": (f"projects/{PROJECT}",),
    "Organization.name": (_ORGANIZATION,),
    "V2Device.name": (_DEVICE_NAME,),
    "DeviceLabel.name": (f"{_DEVICE_NAME}/labels/room",),
    "Role.name": (_ROLE,),
    "Role.displayName": ("Project user",),
    "Role.description": ("Reads a project.",),
    "Member.name": (f"projects/{PROJECT}/members/{SOMETHING}",),
    "Member.displayName": ("Kari Nordmann",),
    "Member.status": ("PENDING",),
    "ServiceAccount.name": (f"projects/{PROJECT}/serviceaccounts/{SOMETHING}",),
    "ServiceAccount.email": (f"{SOMETHING}@{PROJECT}.serviceaccount.example",),
    "ServiceAccount.displayName": ("Dashboard",),
    "NewAccount.displayName": ("Dashboard",),
    "Key.name": (f"projects/{PROJECT}/serviceaccounts/{SOMETHING}/keys/{SOMETHING}",),
    **dict.fromkeys(("DataConnector.name", "Health.name"), (f"projects/{PROJECT}/dataconnectors/{SOMETHING}",)),
    "Provider.title": ("Microsoft Teams Rooms",),
    "Provider.id": ("microsoft_teams_rooms",),
    "Setting.name": ("tenant",),
    "Location.name": ("Oslo harbour",),
    "Space.name": ("Cold store 3",),
    "name": ("Cold store 3",),
    "displayName": ("Cold store 3",),
    "device_name": ("Cold store 3",),
    "friendly_name": ("Restart",),
    "full_path": ("North/Cold store 3",),
    "organizationDisplayName": (_OWNER,),
    "location_name": ("Oslo harbour",),
    "partner_name": ("Example Sensors",),
    "priority_name": ("high",),
    "title": ("Too warm",),
    "description": ("The door may be open.",),
    "desc": ("Reads the sensor twice as often.",),
    "public_notes": ("Fixes the clock after a restart.",),
    "content": ("Battery replaced in May.",),
    "comment": ("On its way.",),
    "text": ("The seal was replaced.",),
    "message": ("Done.",),
    "notes": ("Rooms and desks of one tenant.",),
    "label": ("Tenant",),
    "help": ("The directory's name.", "/docs"),
    "reason": (None, "missing", "Its gate failed."),
    "cause": (None,),
    "code": ("NOT_FOUND",),
    "soaking_since": (None,),
    "answer": ("ok",),
    "user": ("Kari Nordmann",),
    "assignee": (ADDRESS,),
    "email": (ADDRESS,),
    "RoleChange.email": (None,),
    "created_by": (ADDRESS,),
    "started_by": (ADDRESS,),
    "approved_by": (None,),
    "actor_id": (ADDRESS,),
    "Entry.actor": (f"person:{SOMETHING}",),
    "actor_name": (ADDRESS,),
    "Entry.action": ("rename_project",),
    "Entry.target": (f"/v2/projects/{PROJECT}",),
    "given": ({"displayName": "North"},),
    "before": ({"displayName": "South"},),
    "after": ({"displayName": "North"},),
    "address": ("203.0.113.17",),
    "host_address": ("192.0.2.17",),
    # what a device is
    "sn": (SERIAL_NUMBER,),
    "mac": (MAC,),
    "cloud_id": (None, "EXMP-0123-4567-89AB-CDEF"),
    **dict.fromkeys(("Claim.vendor", "Claim.model", "NewClaims.vendor", "NewClaims.model"), (None,)),
    "vendor": ("Example Sensors",),
    "model": ("TS-1",),
    "sub_model": (None, "TS-1 EU"),
    "device_type": ("temperature",),
    "deviceType": ("temperature",),
    "product_number": ("100147",),
    "productNumber": ("100147",),
    "short_code": (CODE,),
    "firmware_version": ("1.4.0",),
    "version": ("1.5.0", 4, None),
    "min_version": ("1.4.0",),
    "latest_fw_version": ("1.5.0",),
    "told": ("v1.4.0",),
    "details": ({"board": "B2"}, ["Half of it is here."]),
    "labels": (_TEXTS, [], ["room"]),
    "addLabels": (_TEXTS,),
    "removeLabels": ([],),
    "state": ({"temperature": 4.5}, "inuse", "succeeded", "active", "DONE"),
    "status": ("online", "running", "active", "ACTIVE", "released", "in_progress", "passed", "closed", 200, None),
    "effective_status": ("online",),
    "execution": ("closed",),
    "finished": ("success",),
    "authentication": ("mac_sn",),
    "type": ("temperature", "number", "HTTP_PUSH", "DEVICE"),
    "kind": ("user", "organization", "sync", "inventory"),
    "issue": ("too_warm",),
    "role": ("project.user",),
    "roles": ([_ROLE],),
    "permissions": (["device.read"],),
    "accountType": ("HUMAN",),
    "deviceId": (_DEVICE_NAME, DEVICE),
    "targetName": (_DEVICE_NAME,),
    "deviceIds": ([DEVICE],),
    "kitIds": ([],),
    "kitId": ("kit-1",),
    "transferredDevices": ([_DEVICE_NAME],),
    "names": ([f"projects/{PROJECT}/members/{MEMBER}"],),
    # what a device says and is told
    "telemetries": ({"temperature": 4.5, "battery": 97},),
    "telemetry": ("temperature", True),
    "data": ({"temperature": {"value": 4.5, "updateTime": MOMENT}}, _TEXTS, "eyJkb29ycyI6NH0="),
    "reported": ({"temperature": {"value": 4.5, "updateTime": MOMENT}},),
    "event_mappings": ({"temperature": "temperature"},),
    "event": ("temperature",),
    "eventType": ("temperature",),
    "events": (["temperature"], 120),
    "value": (4.5, "1.14"),
    "opened_value": (9.5,),
    "closed_value": (4.0,),
    "comparison": ("gt",),
    "config": ({"interval_s": 60},),
    "configuration": ({"interval_s": 60},),
    "parameters": ({"delay_s": 5},),
    "extra_params": ({},),
    "command": ("reboot", True),
    "action": ("add", "key_rotated"),
    "fields": ([],),
    "options": ([],),
    "int_key_1": (1,),
    "int_key_2": (None,),
    "string_key_1": ("north",),
    "string_key_2": (None,),
    "override": (False,),
    "error": (None, "Not found"),
    "telemetry_error": (None,),
    # files and licences
    "file_type": ("firmware",),
    "file_name": ("log.txt",),
    "filename": ("firmware.bin",),
    "media_type": ("text/plain",),
    "checksum": (DIGEST,),
    "sha256": (DIGEST,),
    "sha1": (None,),
    "md5": (None,),
    "signature": ("MEUCIQDf0pZc",),
    "size": (1_048_576,),
    "length": (1_048_576,),
    "algorithm": ("ed25519",),
    "license_algorithm": ("ed25519",),
    "public_key": ("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=",),
    "key_id": ("01997a32-1100-7bbb-8866-5e6f70819203",),
    # connectors
    "url": ("https://receiver.example/events",),
    "href": (f"{_ROOT}/default/controller/v1/{DEVICE}",),
    "hub_url": (_ROOT,),
    "hub_url_static_cert": (_ROOT,),
    "mqtt_hub_url": (None,),
    "inviteUrl": (f"{_ROOT}/invitations/{SOMETHING}",),
    "headers": ({"x-tenant": "north"},),
    "signatureSecret": ("a-secret-of-sixteen-or-more",),
    "provider": ("microsoft_teams_rooms",),
    "settings": ({"tenant": "contoso"}, []),
    "credentials": ([],),
    "default": (None,),
    "latency99p": ("0.120s",),
    "Held.list": (DIGEST,),
    "SeenList.list": (DIGEST,),
    "Run.details": ({"skips": [{"vendor_id": "room-17", "reason": "The name is longer than 255 characters"}]},),
    "disabled": (None,),
    "failingSince": (None,),
    "by": ("SYSTEM",),
    "Fault.path": ("httpConfig.url",),
    "Fault.error": ("Can't be blank",),
    "replayedFrom": (None,),
    "replayedUntil": (None,),
    "azureServiceBusConfig": (None,),
    "azureEventHubConfig": (None,),
    "pubsubConfig": (None,),
    "awsSqsConfig": (None,),
    "grant_type": ("urn:ietf:params:oauth:grant-type:jwt-bearer",),
    "assertion": (ASSERTION,),
    "token_type": ("bearer",),
    # places, times, pages
    "latitude": (59.91,),
    "longitude": (10.75,),
    "lat": (59.91,),
    "lng": (10.75,),
    "time_zone": ("Europe/Oslo",),
    "timeLocation": ("Europe/Oslo",),
    "temperature_units": ("celsius",),
    "location": (None,),
    "path": (["North", "Cold store 3"],),
    "Path.path": (None,),
    "Path.name": ("Cold store 3",),
    "maintenance": (False,),
    "needs_file": (False,),
    "RolloutPatch.needs_approval": (False,),
    "ConfigChange.version": (None,),
    **dict.fromkeys(("NewCommand.name", "NewCommand.friendly_name", "NewCommand.file_id"), (None,)),
    "target": ("unsorted",),
    "timestamp": (MOMENT,),
    "expires_at": (FAR,),
    "scheduled_at": (None,),
    "starts_at": (None,),
    "endTime": (LATER,),
    "standardWebhooks": (False,),
    "CommandReport.status": ("done",),
    "last_updated": (MOMENT,),
    "last_seen": (MOMENT,),
    "at": (MOMENT,),
    "time": (MOMENT,),
    "since": (MOMENT,),
    "current_time": (MOMENT,),
    "local_time": ("2026-05-04T14:00:00+02:00",),
    "previous_key_until": (LATER,),
    "confirmed_until": (LATER,),
    "until": (LATER,),
    "from": (None,),
    "to": (None,),
    "opens": ("22:00:00",),
    "closes": ("05:00:00",),
    "window": (None,),
    "sleep": ("00:05:00",),
    "has_next_page": (False,),
    "next_page": (None,),
    "nextPageToken": ("",),
    "percent": (100,),
    "priority": (3,),
    "rate_limit": (300,),
    "offline_threshold_s": (300,),
    "state_keys_max": (1_000,),
    "state_bytes_max": (65_536,),
    "retryWindowSeconds": (43_200,),
    "maxInFlight": (None, 10),
    "expires_in": (3_600,),
    "utc_offset": (7_200,),
    "latencyMs": (84,),
    "count": (None,),
    "max_per_minute": (100,),
    "failed_count": (None,),
}
"""What a member of that name holds."""


def example(schema: Mapping[str, Any], components: Mapping[str, Any], *, request: bool = False) -> Any:
    """One value that fits a schema. Of a request's optional members those are left out that would be null."""
    return _value(schema, components, "", "", request)


def _value(schema: Mapping[str, Any], components: Mapping[str, Any], struct: str, member: str, request: bool) -> Any:
    for value in (*schema.get("examples", ()), *WORDS.get(f"{struct}.{member}", ()), *WORDS.get(member, ())):
        if fits(value, schema, components):
            return value
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _value(components[name], components, name, member, request)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            options = [option for option in schema[word] if option.get("type") != "null"]
            return _value(options[0], components, struct, member, request)
    if "properties" in schema:
        return _members(schema, components, struct, request)
    if "enum" in schema or "const" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    if schema.get("type") == "array":
        return [_value(schema["items"], components, struct, member, request)]
    if isinstance(inner := schema.get("additionalProperties"), dict) and inner:
        return {DEVICE: _value(inner, components, struct, member, request)}
    return _plain(schema, struct, member)


def _members(schema: Mapping[str, Any], components: Mapping[str, Any], struct: str, request: bool) -> dict[str, Any]:
    found = {}
    for name, inner in schema["properties"].items():
        value = _value(inner, components, struct, name, request)
        if name in schema.get("required", ()) or not (request and value is None):
            found[name] = value
    return found


def _plain(schema: Mapping[str, Any], struct: str, member: str) -> Any:
    """A value for which no word is needed: what it is by default, an id, a time, a number."""
    if "default" in schema:
        return schema["default"]
    if schema.get("type") == "string" and (schema.get("format") == "uuid" or member in ("id", "eventId", "event_id")):
        return next((value for value in WORDS.get(f"{snake(struct)}_id", ()) if value), SOMETHING)
    if schema.get("format") == "date-time" or re.search("_at$|_from$|_until$|Time$|Since$", member):
        return MOMENT
    match schema.get("type"):
        case "boolean":
            return True
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "object":
            return {}
    raise LookupError(f"{struct}.{member}: no word says what it holds, in gateway.api.examples")


def fits(value: Any, schema: Mapping[str, Any], components: Mapping[str, Any]) -> bool:
    """Whether a schema of the document lets a value in, by what msgspec says in schemas."""
    return not any(_faults(value, schema, components))


def _faults(value: Any, schema: Mapping[str, Any], components: Mapping[str, Any]) -> Iterator[bool]:
    if "$ref" in schema:
        yield not fits(value, components[schema["$ref"].rpartition("/")[2]], components)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            yield not any(fits(value, option, components) for option in schema[word])
    yield "enum" in schema and value not in schema["enum"]
    yield "const" in schema and value != schema["const"]
    yield "type" in schema and not _is(value, schema["type"])
    yield "properties" in schema and not set(schema.get("required", ())) <= set(value)
    if isinstance(value, str):
        yield not re.search(schema.get("pattern", ""), value)
        yield not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        yield schema.get("format") == "uuid" and not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value)
    if isinstance(value, list) and "items" in schema:
        yield not all(fits(item, schema["items"], components) for item in value)
    if isinstance(value, dict):
        inner = {**dict.fromkeys(value, schema.get("additionalProperties")), **schema.get("properties", {})}
        yield not all(fits(value[name], inner[name], components) for name in value if isinstance(inner[name], dict))
        yield any(inner[name] is False for name in value)


_KINDS: Mapping[str, Any] = {"string": str, "array": list, "object": dict, "boolean": bool, "null": type(None)}


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, _KINDS[kind])


def snake(name: str) -> str:
    return re.sub("(?<=.)(?=[A-Z])", "_", name).lower()
