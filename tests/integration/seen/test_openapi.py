"""The API as it describes itself, attacked by what it says of itself."""

import asyncio
import json
from collections import defaultdict
from functools import partial
from typing import Any

import pytest
import requests
import schemathesis
from everything import FAR, Everything, everything_of
from hypothesis import HealthCheck, Phase, given, settings
from owners import Owner
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from gateway.api.openapi import document
from gateway.app import ENDPOINTS
from gateway.device import device, direct_integration
from schemas.redis import Redis

DOCUMENT = document(ENDPOINTS, "0")
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]
STREAMS = {endpoint.path for endpoint in ENDPOINTS if endpoint.stream}
"""They have no end; tests/integration/v2/test_stream.py follows them."""
UNCALLED = {
    ("/v2/projects/{project}", "delete"),  # takes with it what all other calls need
    ("/v2/projects/{project}/dataconnectors/{connector}:test", "post"),  # waits for a dispatcher
    ("/core/v1/organization/connectors/{connector_id}/preview", "get"),  # waits for an importer
}
DOWNLOADS = {"/v1/devices/{device_id}/files/{file_id}/content", direct_integration.ARTIFACT}
"""Where 401 would have agents forget their keys: without a credential there is no such file."""
EXAMPLES = {False: 2, True: 8}
"""For a call without and with a body or parameters to make up."""


def test_the_document_is_openapi_3_1() -> None:
    """By the schema that the specification comes with; and each reference leads somewhere, each schema is used."""
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    text = json.dumps(DOCUMENT)
    assert [name for name in DOCUMENT["components"]["schemas"] if f'"#/components/schemas/{name}"' not in text] == []
    assert text.count('"$ref"') == sum(
        text.count(f'"$ref": "#/components/schemas/{name}"') for name in DOCUMENT["components"]["schemas"]
    )


def test_every_operation_has_a_name_of_its_own_and_a_summary() -> None:
    """Clients are generated from them."""
    operations = [DOCUMENT["paths"][path][method] for path, method in OPERATIONS]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) == len(ENDPOINTS)
    assert all(operation["summary"].endswith(".") for operation in operations)


@pytest.fixture
async def everything(edge: Any, acme: Owner, redis_client: Redis, monkeypatch: pytest.MonkeyPatch) -> Everything:
    """One of everything, and no limit of calls in the way."""
    monkeypatch.setattr(device, "PUTS_MAX", FAR)
    return await everything_of(acme, redis_client, edge.services.access_keys.issue)


async def test_every_operation_refuses_who_has_no_credential_or_another_kind_of_it(
    edge: Any, everything: Everything
) -> None:
    """401, in the shape that the document says, whatever else is wrong with the call; 404 for downloads."""
    wrong = []
    for path, method in OPERATIONS:
        schemes = {scheme for option in DOCUMENT["paths"][path][method].get("security", []) for scheme in option}
        if not schemes:
            continue
        others = [key for scheme, key in everything.credentials.items() if scheme not in schemes]
        if "account" not in schemes and "device" not in schemes:
            others = others[:1]  # tenants' keys are tried on each other's routes elsewhere
        url = edge.url + path.format_map(defaultdict(lambda: "00000000-0000-4000-8000-000000000000"))
        for authorization in ("", *others):
            headers = {"authorization": authorization} if authorization else {}
            async with edge.http.request(method, url, headers=headers, json={}) as response:
                said = await response.json()
                if response.status != (404 if path in DOWNLOADS else 401) or not said["error"]:
                    wrong.append((method, path, authorization[:4], response.status, said))
    assert wrong == []


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
async def test_every_operation_keeps_to_the_document_whatever_it_is_sent(
    edge: Any, everything: Everything, mode: GenerationMode
) -> None:
    """No 5xx, no status, media type or body that the document does not describe; half of the calls meet real things."""
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=edge.url)
    attack = Attack(everything, edge.url, mode)
    await asyncio.to_thread(attack.run, schema)
    assert attack.failures == []
    if mode is GenerationMode.POSITIVE:
        assert attack.never_succeeded() == []


CONFORMS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


class Attack:
    """Sends made-up calls of every operation and remembers what came of them."""

    def __init__(self, everything: Everything, url: str, mode: GenerationMode) -> None:
        self.failures: list[str] = []
        self._checks = [CHECKS.get_one(name) for name in CONFORMS]
        self._everything = everything
        self._url = url
        self._mode = mode
        self._session = requests.Session()
        self._statuses: dict[tuple[str, str], list[int]] = defaultdict(list)

    def run(self, schema: Any) -> None:
        """Those that end things come last, the innermost first."""
        for path, method in sorted(OPERATIONS, key=lambda o: (o[1] == "delete", o[1] == "delete" and -o[0].count("/"))):
            described = DOCUMENT["paths"][path][method]
            made_up = bool(described["parameters"]) or "requestBody" in described
            if path in STREAMS or (path, method) in UNCALLED or (self._mode.is_negative and not made_up):
                continue
            operation = schema[path][method.upper()]
            security = described.get("security", [{}])[0]
            headers = {"authorization": self._everything.credentials[next(iter(security))]} if security else {}
            whole = "requestBody" in described or any(item["in"] == "query" for item in described["parameters"])
            bounds = settings(
                max_examples=EXAMPLES[whole],
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            send = partial(self._send, path=path, headers=headers)
            strategy = operation.as_strategy(generation_mode=self._mode)
            try:
                bounds(given(case=strategy)(_taking(send)))()
            except Exception as error:
                self.failures.append(f"{method.upper()} {path}: {error}")

    def never_succeeded(self) -> list[tuple[str, str]]:
        """Operations of which nothing but refusals was seen."""
        return [call for call, statuses in self._statuses.items() if not any(status < 300 for status in statuses)]

    def _send(self, case: Any, path: str, headers: dict[str, str]) -> None:
        seen = self._statuses[case.method.lower(), path]
        for name in case.path_parameters or {}:
            case.path_parameters[name] = self._everything.place(path, name)
        if self._mode.is_positive and len(seen) % 2 == 0:
            case.body = self._everything.real(path, case.body)
            case.query = self._everything.real(path, case.query)
        response = case.call_and_validate(
            base_url=self._url, headers=headers, checks=self._checks, session=self._session
        )
        seen.append(response.status_code)


def _taking(send: Any) -> Any:
    """A test function of one argument."""

    def attack(case: Any) -> None:
        send(case)

    return attack
