"""What becomes of a refusal in each dialect."""

import inspect

import pytest

from gateway import refusals
from gateway.api.dialects import PLAIN, STATUSES, V2, V2_STREAM, Dialect, of_path
from gateway.refusals import DoesNotFit, NotFound, Refusal, Unauthenticated, Unavailable


def test_every_kind_of_refusal_has_a_status() -> None:
    """A new kind is not forgotten where it is turned into an answer."""
    kinds = {kind for _, kind in inspect.getmembers(refusals, inspect.isclass) if issubclass(kind, Refusal)}
    assert kinds - {Refusal} == STATUSES.keys() == V2.statuses.keys()


@pytest.mark.parametrize(
    ("dialect", "refusal", "status", "body"),
    [
        (PLAIN, DoesNotFit("No"), 422, b'{"error":"No"}'),
        (V2, DoesNotFit("No"), 400, b'{"error":"No","code":400,"help":"/docs"}'),
        (V2_STREAM, NotFound("No"), 404, b'{"error":{"code":404,"message":"No","help":"/docs"},"code":404}'),
    ],
)
def test_each_dialect_words_it_its_own_way(dialect: object, refusal: Refusal, status: int, body: bytes) -> None:
    """Below `/v2` with a code and help, and what does not fit is 400 there."""
    response = dialect.refused(refusal)  # type: ignore[attr-defined]
    assert (response.status_code, response.body) == (status, body)


def test_retry_after_is_a_header() -> None:
    """Where it is known when to come back, and only there."""
    assert PLAIN.refused(Unavailable("Later", retry_after_s=7)).headers["retry-after"] == "7"
    assert "retry-after" not in PLAIN.refused(Unavailable("Later")).headers


@pytest.mark.parametrize(
    ("dialect", "challenge"),
    [
        (PLAIN, 'Bearer realm="fleetgate"'),
        (V2, 'Basic realm="fleetgate", charset="UTF-8", Bearer realm="fleetgate"'),
        (V2_STREAM, 'Basic realm="fleetgate", charset="UTF-8", Bearer realm="fleetgate"'),
    ],
)
def test_401_says_how_to_authenticate(dialect: Dialect, challenge: str) -> None:
    """Java, wget and curl give up without; no other refusal has one."""
    assert dialect.refused(Unauthenticated("Who?")).headers["www-authenticate"] == challenge
    assert "www-authenticate" not in dialect.refused(NotFound("No")).headers


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/nothing", "/emulator/v2/nothing"])
def test_v2_begins_at_its_prefix(path: str) -> None:
    """With or without anything behind it; what only looks alike is not below it."""
    assert of_path(path) is V2
    assert of_path(path.replace("v2", "v20")) is PLAIN
