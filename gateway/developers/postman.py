"""The API as a Postman collection (v2.1) and its environment: run from top to bottom, it plays a device's whole life.

Requests are those of the OpenAPI document, their bodies its examples, in which the example's ids become variables.
What a request makes is kept by its script under the name that paths have for it, so the next ones find it. Folders
come in the order in which one needs the other, and within one what is made is read, changed and deleted; what others
still need is deleted at the end.
"""

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from gateway.api import examples

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
JSON, FORM, BYTES = "application/json", "application/x-www-form-urlencoded", "application/octet-stream"
_FILES = (
    "create_file",
    "delete_file",
    "create_file",
    "list_files",
    "read_file",
    "change_file",
    "put_content",
    "read_content",
    "release_file",
)
_ROLLOUTS = (
    "create_rollout",
    "list_rollouts",
    "read_rollout",
    "change_rollout",
    "begin_next_wave",
    "start_rollout",
    "list_rollout_devices",
    "pause_rollout",
    "resume_rollout",
    "approve_rollout",
    "abort_rollout",
)
"""What owners and vendors both do, in the order in which one call needs the other."""
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "organization: info": (),
    "organization: audit": (),
    "organization: users": (),
    "organization: projects": (),
    "organization: spaces": (
        "create_space",
        "find_or_create_space",
        "list_spaces",
        "read_tree",
        "read_space",
        "change_space",
        "put_space",
    ),
    "organization: models": (
        "create_model",
        "delete_model",
        "create_model",
        "list_models",
        "read_model",
        "change_model",
    ),
    "organization: command definitions": (),
    "organization: hardware keys": (),
    "partner: license keys": (),
    "device: registration": ("register_many", "register"),
    "organization: claims": ("claim_device",),
    "device: telemetry": (),
    "organization: devices": (),
    "organization: fleet": (),
    "organization: series": (),
    "organization: commands": ("send_command", "list_commands", "cancel_command", "send_command"),
    "device: commands": ("next_command", "pending_commands", "report_command"),
    "organization: configs": ("put_config", "list_configs", "read_config"),
    "device: config": (),
    "device: device": (),
    "device: children": (),
    "device: events": (),
    "device: incidents": ("open_incident", "list_incidents", "close_incident", "close_incidents"),
    "organization: incidents": (),
    "organization: incident rules": (),
    "organization: tickets": (
        "create_ticket",
        "list_tickets",
        "read_ticket",
        "put_ticket",
        "comment_on_ticket",
        "resolve_ticket",
        "create_ticket",
    ),
    "organization: notes": (),
    "organization: histories": (),
    "device: dumps": ("post_dump", "append_to_dump"),
    "organization: dumps": (),
    "partner: licenses": (
        "create_license",
        "delete_license",
        "create_license",
        "list_licenses",
        "read_license",
        "change_license",
        "assign_license",
    ),
    "device: licenses": ("next_license", "pending_licenses", "report_license"),
    "organization: licenses": (),
    "partner: licenses, in use": (
        "extend_license",
        "device_licenses_report_license",
        "revoke_license",
        "retry_license",
    ),
    "organization: files": _FILES,
    "organization: rollouts": _ROLLOUTS,
    "organization: files, no longer wanted": ("withdraw_file",),
    "partner: files": _FILES,
    "device: files": ("list_files", "read_file", "read_content"),
    "device: direct integration": (
        "poll",
        "read_action",
        "read_artifact",
        "put_attributes",
        "tell_feedback",
    ),
    "partner: rollouts": _ROLLOUTS,
    "partner: files, no longer wanted": ("withdraw_file",),
    "organization: device keys": (),
    "partner: device keys": (),
    "organization: replacements": (),
    "organization: connectors": (),
    "partner: organizations": (),
    "partner: users": (),
    "organization: partners": (),
    "organization: api keys": (),
    "partner: info": (),
    "partner: devices": (),
    "partner: histories": (),
    "partner: incidents": (),
    "partner: incident rules": (),
    "partner: tickets": ("list_tickets", "read_ticket", "put_ticket", "comment_on_ticket", "resolve_ticket"),
    "v2: organizations": (),
    "v2: members": (),
    "v2: roles": (),
    "v2: service accounts": (),
    "v2: tokens": (),
    "v2: devices": (),
    "v2: labels": (),
    "v2: history": (),
    "v2: data connectors": (),
    "v2: claims": (),
    "v2: transfers": (),
    "v2: emulator": (),
    "v2: well known": (),
    "device: space": (),
    "at the end": (
        "device_device_delete_device",
        "device_registration_register",
        "organization_claims_claim_device",
        "organization_devices_delete_device",
        "device_registration_register",
        "partner_devices_delete_device",
        "organization_hardware_keys_revoke_hardware_key",
        "organization_hardware_keys_delete_registered_devices",
        "organization_command_definitions_delete_definition",
        "organization_spaces_delete_space",
        "organization_spaces_list_spaces",
        "organization_spaces_delete_space",
        "organization_projects_delete_project",
    ),
}
"""The folders: a tag of the document, with its calls in an order of their own where the usual one does not do."""
LEFT_OUT = frozenset({"v2_stream_stream_events"})
"""They do not end: a run of the collection would wait for ever."""
OTHERWISE: Mapping[str, tuple[int, str]] = {
    "organization_rollouts_begin_next_wave": (409, "it was not started yet"),
    "partner_rollouts_begin_next_wave": (409, "it was not started yet"),
    "organization_replacements_confirm_return": (422, "no unit asked to come back"),
    "organization_connectors_preview": (422, "nobody opened its link yet"),
    "organization_connectors_sync_now": (422, "nobody opened its link yet"),
    "organization_connectors_confirm": (422, "no list is held"),
    "organization_connectors_begin_preview": (422, "nobody opened its link yet"),
    "organization_connectors_reject": (422, "no list is held"),
    "organization_connectors_read_run": (404, "nothing was read yet"),
    "organization_connectors_restore_device": (404, "nothing was imported yet"),
}
"""Calls that a run meets in a state in which they are refused, with the status and why."""
KEPT: Mapping[str, Mapping[str, str]] = {
    "device_registration_register": {"access_key": "answer.access_key"},
    "device_incidents_open_incident": {"incident_id": "answer.incident_id"},
    "device_dumps_post_dump": {"dump_id": "answer.id"},
    "device_direct_integration_poll": {
        "action": '(answer._links.deploymentBase || {href: ""}).href.split("/").pop().split("?")[0]'
    },
    "organization_info_read_info": {"organization_id": "answer.id"},
    "organization_spaces_list_spaces": {"space_id": "answer.items[0].id"},
    "organization_hardware_keys_create_hardware_key": {"hardware_key": "answer.key", "hardware_key_id": "answer.id"},
    "organization_connectors_create_connector": {"connector_id": "answer.connector.id"},
    "organization_device_keys_rotate_key": {"access_key": "answer.access_key"},
    "partner_device_keys_rotate_key": {"access_key": "answer.access_key"},
    "partner_organizations_create_organization": {"short_code": "answer.short_code"},
    "v2_members_create_members": {"batch_member": 'answer.members[0].name.split("/").pop()'},
    "v2_service_accounts_create_key": {"key": "answer.key.id"},
}
"""What scripts keep of an answer beside the id of what was made: variables, and where they stand."""
AGAIN: Mapping[str, str] = {"device_direct_integration_poll": "answer._links.deploymentBase"}
"""Requests that are repeated until their answer has this: a release spreads to the devices in the background."""
PLACES = {
    "mime": "text%2Fplain",
    "file_name": "log.txt",
    "role": "project.user",
    "label": "room",
    "vendor_id": "gone",
    "run": "1",
}
"""Members of paths that are no ids."""
QUERIES: Mapping[str, Mapping[str, str]] = {
    "organization_series_read_series": {"keys": "temperature"},
    "v2_claims_claim_info": {"identifier": "{{mac}}/{{sn}}"},
    "v2_members_list_members_of_all_projects": {"organization": "organizations/{{organization_id}}"},
    "organization_connectors_delete_connector": {"name": "Cold%20store%203"},
    "organization_spaces_list_spaces": {"project_id": "{{project_id}}"},
    "partner_histories_list_vendor_histories": {"device_id": "{{device_id}}"},
}
VARIABLES: Mapping[str, str] = {
    examples.DEVICE: "device_id",
    examples.PROJECT: "project_id",
    examples.SPACE: "space_id",
    examples.MODEL: "model_id",
    examples.FILE: "file_id",
    examples.COMMAND: "command_id",
    examples.LICENSE: "license_id",
    examples.MEMBER: "batch_member",
    examples.ORGANIZATION: "organization_id",
    examples.HARDWARE_KEY: "hardware_key",
    examples.ACCESS_KEY: "access_key",
    examples.SERIAL_NUMBER: "sn",
    examples.MAC: "mac",
    examples.CODE: "short_code",
    examples.ADDRESS: "$randomEmail",
    examples.ASSERTION: "assertion",
}
"""What stands in requests for the ids and keys of examples."""
_ANOTHER = {"{{sn}}": "{{sn}}{{$randomInt}}", "{{mac}}": "{{$randomMACAddress}}"}
OTHER: Mapping[str, Mapping[str, str]] = {
    "device_registration_register_many": _ANOTHER,
    "device_children_register_child": _ANOTHER,
    "organization_replacements_replace_device": _ANOTHER,
    "organization_models_create_model": {"TS-1": "TS-1 of {{$timestamp}}"},
    "organization_models_change_model": {"TS-1": "TS-1 since {{$timestamp}}"},
    "v2_members_add_organization_member": {"roles/project.user": "roles/organization.admin"},
}
"""What stands in a request's body instead of what the example says."""
ALIASES = {"organization": "organization_id", "project": "project_id", "device": "device_id"}
"""Members of paths below `/v2` where a folder makes none of its own."""
GIVEN = {
    "url": "Where the gateway is, without a slash at the end.",
    "organization_key": "Calls as owner: fgo_…, with the role organization.admin for the whole collection.",
    "partner_key": "Calls as vendor: fgp_…",
    "account_email": "Calls below /v2: the address of a service account,",
    "account_key_id": "the id of a key of it,",
    "account_secret": "and the key's secret.",
}
_NEW_UNIT = (
    'pm.environment.set("sn", "PM" + Date.now());',
    'pm.environment.set("mac", "02:" + Date.now().toString(16).padStart(10, "0").slice(-10).match(/../g).join(":"));',
)
_ASSERTION = (
    "const part = value => CryptoJS.enc.Base64.stringify(CryptoJS.enc.Utf8.parse(JSON.stringify(value)));",
    'const plain = text => text.replace(/=+$/, "").replace(/[+]/g, "-").replace(/[/]/g, "_");',
    "const now = Math.floor(Date.now() / 1000);",
    'const head = plain(part({alg: "HS256", typ: "JWT", kid: pm.variables.get("account_key_id")}));',
    'const audience = pm.variables.get("url") + "/oauth2/token";',
    'const claims = {iss: pm.variables.get("account_email"), aud: audience, iat: now, exp: now + 3600};',
    'const signed = head + "." + plain(part(claims));',
    'const mac = CryptoJS.HmacSHA256(signed, pm.variables.get("account_secret"));',
    'pm.environment.set("assertion", signed + "." + plain(CryptoJS.enc.Base64.stringify(mac)));',
)
BEFORE: Mapping[str, tuple[str, ...]] = {
    "device_registration_register_many": _NEW_UNIT,
    "device_registration_register": _NEW_UNIT,
    "v2_tokens_issue": _ASSERTION,
}
"""Scripts before a request: no two units have one serial number, and a token is asked for by a signature."""
_TURNS = ("GET", "PATCH", "PUT", "POST", "DELETE")


def environment(url: str) -> dict[str, Any]:
    """Variables for each kind of caller, for the reader to fill in."""
    values = [
        {"key": name, "value": url if name == "url" else "", "type": "default" if name == "url" else "secret"}
        for name in GIVEN
    ]
    return {"id": _id("environment"), "name": "fleetgate", "_postman_variable_scope": "environment", "values": values}


def collection(document: Mapping[str, Any]) -> dict[str, Any]:
    """The collection of an OpenAPI document."""
    walk = Walk(document)
    info = document["info"]
    about = f"{info['description']}\n\nFill in the environment, then run the collection from top to bottom.\n\n"
    about += "\n".join(f"* `{name}`: {text}" for name, text in GIVEN.items())
    return {
        "info": {
            "_postman_id": _id("collection"),
            "name": f"{info['title']} {info['version']}",
            "description": about,
            "schema": SCHEMA,
        },
        "item": [walk.folder(name, steps) for name, steps in FOLDERS.items()],
    }


class Call:
    """One operation of the document."""

    def __init__(self, path: str, method: str, operation: Mapping[str, Any]) -> None:
        self.path, self.method, self.operation = path, method.upper(), operation
        self.name: str = operation["operationId"]
        self.tag: str = operation["tags"][0]
        self.status = min(int(status) for status in operation["responses"])


class Walk:
    """The requests in their order, and what each leaves for those after it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._tags = {tag["name"]: tag["description"] for tag in document["tags"]}
        self._paths = set(document["paths"])
        calls = [
            Call(path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()
        ]
        self._calls = {call.name: call for call in calls}
        self._steps = {step for steps in FOLDERS.values() for step in steps}

    def folder(self, name: str, steps: tuple[str, ...]) -> dict[str, Any]:
        """A folder with its requests."""
        tag = name.partition(",")[0]
        if steps:
            prefix = re.sub(": | ", "_", tag) + "_"
            calls = [self._calls.get(prefix + step) or self._calls[step] for step in steps]
        else:
            calls = self._usual(tag)
        return {"name": name, "description": self._tags.get(tag, ""), "item": [self._item(call) for call in calls]}

    def _usual(self, tag: str) -> list[Call]:
        """What makes things, reads, changes, does, and ends them; what is within a thing, before that is ended."""
        calls = [one for one in self._calls.values() if one.tag == tag and one.name not in self._steps | LEFT_OUT]
        roots = [call.path for call in calls if self._makes(call)]

        def turn(call: Call) -> tuple[int, bool, int, int]:
            around = [number for number, root in enumerate(roots) if call.path.startswith(root)] or [-1]
            creates = call.path in roots and call.method == "POST"
            rank = -1 if creates else _TURNS.index(call.method)
            return around[0], not (creates and len(around) == 1), -around[-1], rank

        return sorted(calls, key=turn)

    def _makes(self, call: Call) -> str:
        """How paths name what a call makes; empty when it makes nothing that a path names."""
        known = re.compile(re.escape(call.path) + r"/{(\w+)}")
        names = (found[1] for path in self._paths if (found := known.fullmatch(path)))
        return next(names, "") if call.method == "POST" else ""

    def _variable(self, call: Call, name: str) -> str:
        """What a member of a path is kept in."""
        if call.tag == "organization: hardware keys" and name == "key_id":
            return "hardware_key_id"  # the folder's calls are made at the end, when others had keys, too
        makes_own = any(self._makes(other) == name for other in self._calls.values() if other.tag == call.tag)
        return name if makes_own else ALIASES.get(name, name)

    def _item(self, call: Call) -> dict[str, Any]:
        """One request with its scripts."""
        status, why = OTHERWISE.get(call.name, (call.status, ""))
        title = f"{status}, since {why}" if why else str(status)
        test = [f'pm.test("{title}", () => pm.response.to.have.status({status}));', *self._keeping(call)]
        scripts = {"test": test, "prerequest": list(BEFORE.get(call.name, ()))}
        return {
            "name": call.operation["summary"],
            "event": [
                {"listen": when, "script": {"type": "text/javascript", "exec": lines}}
                for when, lines in scripts.items()
                if lines
            ],
            "request": {
                "method": call.method,
                "description": call.operation.get("description", ""),
                "auth": _auth(call),
                "url": self._url(call),
                **_body(call),
            },
        }

    def _keeping(self, call: Call) -> list[str]:
        kept = dict(KEPT.get(call.name, {}))
        if name := self._makes(call):
            made = 'answer.name.split("/").pop()' if "/v2/" in call.path else "answer.id"
            kept = {self._variable(call, name): made} | kept
        if not kept:
            return []
        sets = [f'pm.environment.set("{name}", {taken});' for name, taken in kept.items()]
        if waited_for := AGAIN.get(call.name):
            again = f'setTimeout(() => postman.setNextRequest("{call.operation["summary"]}"), 300)'
            sets.append(f"if (!{waited_for}) {again};")
        return ["const answer = pm.response.json();", *sets]

    def _url(self, call: Call) -> str:
        def place(found: re.Match[str]) -> str:
            return PLACES.get(found[1]) or "{{" + self._variable(call, found[1]) + "}}"

        query = "&".join(f"{name}={value}" for name, value in QUERIES.get(call.name, {}).items())
        return "{{url}}" + re.sub(r"{(\w+)}", place, call.path) + (query and f"?{query}")


def _auth(call: Call) -> dict[str, Any]:
    schemes = [name for option in call.operation.get("security", ()) for name in option]
    if "account" in schemes:
        given = {"username": "{{account_key_id}}", "password": "{{account_secret}}"}
        return {"type": "basic", "basic": [{"key": key, "value": value} for key, value in given.items()]}
    if not schemes:
        return {"type": "noauth"}
    key = {"device": "access_key", "organization": "organization_key", "partner": "partner_key"}[schemes[0]]
    given = {"key": "Authorization", "value": "{{" + key + "}}", "in": "header"}
    return {"type": "apikey", "apikey": [{"key": key, "value": value} for key, value in given.items()]}


def _body(call: Call) -> dict[str, Any]:
    for kind, media in call.operation.get("requestBody", {}).get("content", {}).items():
        if kind == FORM:
            fields = [{"key": name, "value": _filled(call, value)} for name, value in media["example"].items()]
            return {"body": {"mode": "urlencoded", "urlencoded": fields}}
        shown = media["example"]
        raw = _filled(call, shown if kind == BYTES else json.dumps(shown, indent=2, ensure_ascii=False))
        return {
            "header": [{"key": "Content-Type", "value": kind}],
            "body": {"mode": "raw", "raw": raw, "options": {"raw": {"language": "json" if kind == JSON else "text"}}},
        }
    return {}


def _filled(call: Call, text: str) -> str:
    for known, variable in VARIABLES.items():
        text = text.replace(known, "{{" + variable + "}}")
    for known, other in OTHER.get(call.name, {}).items():
        text = text.replace(known, other)
    return text


def _id(what: str) -> str:
    """The same for the same thing, so that an import replaces the one before."""
    return str(uuid5(NAMESPACE_URL, f"fleetgate/{what}"))
