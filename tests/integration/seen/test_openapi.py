"""The API as it describes itself, attacked by what it says of itself."""

import asyncio
import re
from functools import partial
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from owners import Owner
from projects import account_of
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from gateway.app import ENDPOINTS
from gateway.openapi import document
from gateway.v2 import accounts

EXAMPLES = 8
ENDING = {("delete", "/v1/devices/{device_id}"), ("delete", "/v2/projects/{project}")}
"""They would end what all other calls need."""
DOCUMENT = document(ENDPOINTS, "0")
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]


async def test_the_document_and_the_page_are_served(edge: Any) -> None:
    """The page loads nothing from elsewhere, and a policy sees to it."""
    async with edge.http.get(f"{edge.url}/openapi.json") as response:
        assert (await response.json())["paths"] == DOCUMENT["paths"]
    async with edge.http.get(f"{edge.url}/docs") as response:
        page = await response.text()
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    for path, method in OPERATIONS:
        assert f'<span class="method {method.upper()}">{method.upper()}</span><code>{path}</code>' in page


def test_every_operation_has_a_name_of_its_own_and_a_summary() -> None:
    """Clients are generated from them."""
    operations = [DOCUMENT["paths"][path][method] for path, method in OPERATIONS]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) == len(ENDPOINTS)
    assert all(operation["summary"].endswith(".") for operation in operations)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "unfitting"])
async def test_every_operation_keeps_to_the_document_whatever_it_is_sent(
    edge: Any, acme: Owner, mode: GenerationMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No 5xx, no status and no body that the document does not describe."""
    device_id = await acme.device()
    key = edge.gateway.access_keys.issue(str(device_id), 0)
    account = await account_of(acme, "organization.admin")
    credentials = {"device": key, "organization": acme.key, "partner": acme.partner_key, "account": account.basic}
    places = {"device_id": device_id, "project": acme.project_id, "organization": acme.organization_id}
    monkeypatch.setattr(accounts, "CALLS_MAX", 1_000_000)
    await acme.pool.execute("UPDATE device_models SET rate_limit = 1000000")
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.config.update(base_url=edge.url)
    failures = await asyncio.to_thread(_attack, schema, mode, edge.url, places, credentials)
    assert failures == []


_BOUNDS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _taking(send: Any) -> Any:
    """A test function of one argument."""

    def attack(case: Any) -> None:
        send(case)

    return attack


def _send(case: Any, url: str, places: dict[str, Any], headers: dict[str, str], checks: Any) -> None:
    for name, place in places.items():
        if name in case.path_parameters:
            case.path_parameters[name] = str(place)
    case.call_and_validate(base_url=url, headers=headers, checks=checks)


def _attack(
    schema: Any, mode: GenerationMode, url: str, places: dict[str, Any], credentials: dict[str, str]
) -> list[str]:
    checks = [
        CHECKS.get_one(name)
        for name in ("not_a_server_error", "status_code_conformance", "response_schema_conformance")
    ]
    failures: list[str] = []
    for path, method in OPERATIONS:
        if (method, path) in ENDING:
            continue
        described = DOCUMENT["paths"][path][method]
        if mode is GenerationMode.NEGATIVE and not described["parameters"] and "requestBody" not in described:
            continue  # there is nothing in which it could be unfitting
        operation = schema[path][method.upper()]
        security = described.get("security", [{}])[0]
        headers = {"authorization": credentials[next(iter(security))]} if security else {}
        send = partial(_send, url=url, places=places, headers=headers, checks=checks)
        attack = given(case=operation.as_strategy(generation_mode=mode))(_taking(send))
        try:
            _BOUNDS(attack)()
        except Exception as error:
            failures.append(f"{method.upper()} {path}: {error}")
    return failures
