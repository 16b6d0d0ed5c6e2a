"""Every body that goes in or comes out is shown by an example, and each fits what the document says of it."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from gateway.api import examples, openapi
from gateway.app import ENDPOINTS

DOCUMENT = openapi.document(ENDPOINTS, "0")
COMPONENTS = DOCUMENT["components"]["schemas"]


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each body of each call, with what the document says of it."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                yield f"{method} {path} request", media
            for status, response in operation["responses"].items():
                for media in response.get("content", {}).values():
                    yield f"{method} {path} {status}", media


@functools.cache
def validator(schema: str) -> Any:
    """Bodies that look alike share one."""
    return jsonschema_rs.validator_for(json.loads(schema) | {"components": {"schemas": COMPONENTS}})


def test_every_body_has_an_example_that_fits_its_schema() -> None:
    """Requests, answers and refusals of all calls, checked by another implementation of JSON Schema than ours."""
    assert [where for where, media in bodies() if "example" not in media] == []
    wrong = []
    for where, media in bodies():
        if not validator(json.dumps(media.get("schema", {}))).is_valid(media["example"]):
            wrong.append((where, media["example"]))
    assert wrong == []


def test_every_word_is_somebodys() -> None:
    """A word that no struct has is a leftover; so is one for a member that a struct lost."""
    members = {
        known
        for name, schema in COMPONENTS.items()
        for member in schema.get("properties", ())
        for known in (member, f"{name}.{member}")
    }
    used_as_ids = {
        f"{examples.snake(name)}_id" for name, schema in COMPONENTS.items() if "id" in schema.get("properties", ())
    }
    assert set(examples.WORDS) - members - used_as_ids == set()


def test_a_member_that_no_word_describes_is_named() -> None:
    """Whoever adds a member learns what is missing, and where it goes."""
    schema = {"title": "Thing", "properties": {"colour_of_it": {"type": "string"}}}
    with pytest.raises(LookupError, match=r"Thing.colour_of_it: .* gateway.api.examples"):
        examples.example({"$ref": "#/components/schemas/Thing"}, {"Thing": schema})


def test_a_word_is_not_taken_where_it_does_not_fit() -> None:
    """The first that the schema lets in: a version is a text, a number, or nothing."""
    versions = {"text": {"type": "string"}, "number": {"type": "integer"}}
    shown = [
        examples.example({"type": "object", "properties": {"version": kind}}, {})["version"]
        for kind in versions.values()
    ]
    assert shown == ["1.5.0", 4]


def test_a_request_shows_no_member_that_says_nothing() -> None:
    """null in what is sent reads as if it had to be there; in what is answered it is."""
    schema = {"properties": {"parent_id": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    assert examples.example(schema, {}, request=True) == {}
    assert examples.example(schema, {}) == {"parent_id": None}
