"""Servers of others are described completely, and the load generator speaks to them as it is told."""

import re

import msgspec
import pytest

from bench.generator import Client, Run
from bench.peer_server import Description, descriptions
from bench.request_template import RequestTemplate, Template

PEERS = descriptions("webhooks") | descriptions("ingest")
GIVEN = {
    *("executable", "folder_of_executable", "folder", "port", "companion_port", "further_port", "receiver"),
    *("postgres", "postgres_port", "redis", "redis_port"),
}
OF_A_MESSAGE = {"device", "key", "n", "now"}


@pytest.mark.parametrize("described", PEERS.values(), ids=PEERS)
def test_a_description_uses_only_names_that_something_stands_for(described: Description) -> None:
    """Given by the harness, taken from the answer to an earlier step, or filled in by the load generator."""
    named = re.compile(r"\{([a-z_]+)\}").findall
    started = [*described.command, *described.companion, *described.environment.values()]
    started += [*described.files.values(), *(word for command in described.before for word in command)]
    assert {name for text in started for name in named(text)} <= GIVEN
    known = set(GIVEN)
    for step in described.steps:
        texts = [step.path, step.body, *step.headers.values()]
        assert {name for text in texts for name in named(text)} <= known | ({"device"} if step.each_device else set())
        known |= step.takes.keys()
    request = described.request
    texts = [request.path, request.body, *request.headers.values()]
    assert {name for text in texts for name in named(text)} <= known | OF_A_MESSAGE
    msgspec.json.decode(re.sub(r"\{(n)\}", "1", request.body))


def test_a_request_is_made_from_its_template() -> None:
    """Each device in turn, a number of its own for each; a percent sign is one."""
    template = Template("/100%/{device}", '{"n":{n},"at":"{now}"}', {"Authorization": "{key}"})
    requests = RequestTemplate(msgspec.json.encode(template), "host:1", [b"a ka", b"b kb"])
    sent = [requests.next() for _ in range(3)]
    assert [request.split(b" ")[1] for request in sent] == [b"/100%/a", b"/100%/b", b"/100%/a"]
    assert b"Authorization: kb\r\n" in sent[1]
    head, _, body = sent[2].partition(b"\r\n\r\n")
    assert msgspec.json.decode(body)["n"] == 2
    assert f"Content-Length: {len(body)}".encode() in head


def test_an_answer_without_a_body_needs_no_length() -> None:
    """204 must not have one; the next request goes out all the same."""
    run = Run(RequestTemplate(msgspec.json.encode(Template("/", "{}")), "host:1", [b"a ka"]), 1, 100.0, 0.0)
    Client(run).data_received(b"HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n")
    assert run._statuses == {b"204": 1}
