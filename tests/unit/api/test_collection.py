"""The Postman collection holds all calls, knows its callers, and gives no key away."""

import json
from typing import Any

import pytest

from gateway.api import openapi
from gateway.app import ENDPOINTS
from gateway.developers import llms, postman, reference

DOCUMENT = openapi.document(ENDPOINTS, "0")
OPERATIONS = [one for methods in DOCUMENT["paths"].values() for one in methods.values()]


@pytest.fixture(scope="module")
def collection() -> dict[str, Any]:
    """The collection as it is served."""
    return postman.collection(DOCUMENT)


def requests_of(collection: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for folder in collection["item"] for item in folder["item"]]


def test_every_call_that_ends_is_in_it(collection: dict[str, Any]) -> None:
    """A new call needs its place in a folder; one in no known folder is missed here."""
    known = {one["summary"] for one in OPERATIONS if one["operationId"] not in postman.LEFT_OUT}
    assert known - {item["name"] for item in requests_of(collection)} == set()
    assert {one["operationId"] for one in OPERATIONS if one["operationId"] in postman.LEFT_OUT} == postman.LEFT_OUT


@pytest.mark.parametrize("table", [postman.OTHERWISE, postman.KEPT, postman.QUERIES, postman.OTHER, postman.BEFORE])
def test_what_is_said_of_single_calls_is_said_of_calls_that_there_are(table: dict[str, Any]) -> None:
    """A call that got another name would lose its script without a word."""
    assert set(table) - {one["operationId"] for one in OPERATIONS} == set()


def test_all_variables_are_given_or_kept_by_a_request_before(collection: dict[str, Any]) -> None:
    """No request asks for what nobody has: neither the reader's environment nor a script above it."""
    known = {*postman.GIVEN, "$randomEmail", "$randomInt", "$randomMACAddress", "$timestamp"}
    unknown = []
    for item in requests_of(collection):
        scripts = {event["listen"]: "\n".join(event["script"]["exec"]) for event in item["event"]}
        known |= set(_set_by(scripts.get("prerequest", "")))
        unknown += [(item["name"], name) for name in _used(json.dumps(item["request"])) if name not in known]
        known |= set(_set_by(scripts["test"]))
    assert unknown == []


def test_the_environment_asks_for_secrets_and_holds_none() -> None:
    """It is shared and committed: the reader's keys are marked as what nobody else sees."""
    values = postman.environment("https://fleet.example")["values"]
    assert {one["key"]: one["value"] for one in values if one["value"]} == {"url": "https://fleet.example"}
    assert {one["key"] for one in values if one["type"] == "secret"} == set(postman.GIVEN) - {"url"}


def test_llms_txt_names_every_call_and_document() -> None:
    """Markdown as llmstxt.org describes it: a title, a summary, and lists of links."""
    shown = llms.text(DOCUMENT, "https://fleet.example")
    assert shown.startswith("# fleetgate\n\n> ")
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            slug = reference.slug_of(operation["tags"][0])
            link = f"(https://fleet.example/docs/reference/{slug}#{operation['operationId']})"
            assert f"- [{method.upper()} {path}]{link}: {operation['summary']}" in shown
    assert all(f"(https://fleet.example{path})" in shown for path, _, _ in llms.PLACES)


def _used(text: str) -> set[str]:
    return {part.partition("}}")[0] for part in text.split("{{")[1:]}


def _set_by(script: str) -> list[str]:
    return [part.partition('"')[0] for part in script.split('environment.set("')[1:]]
