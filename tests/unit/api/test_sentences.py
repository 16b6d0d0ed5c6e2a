"""What callers are told of a text that does not fit."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from gateway.api.endpoint import Endpoint
from gateway.app import ENDPOINTS
from schemas import command_settings, environment, settings, typed_events
from schemas.manifests.manifest import Manifest
from schemas.sentences import choices_of, matching, patterns_of, sentence


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=repr)
def test_every_pattern_has_a_sentence(endpoint: Endpoint) -> None:
    """Nobody is shown a regular expression."""
    assert [pattern for pattern, text in endpoint.patterns.items() if text is None] == []


def test_every_pattern_of_typed_events_has_a_sentence() -> None:
    """They are decoded by themselves, and told likewise."""
    found = {pattern for kind in typed_events.TYPES.values() for pattern in patterns_of(kind)}
    assert found == {repr(pattern) for pattern in typed_events.PATTERNS}


@pytest.mark.parametrize("kind", [*environment.GROUPS, Manifest], ids=lambda kind: kind.__name__)
def test_every_pattern_of_settings_and_manifests_has_a_sentence(kind: type[Struct]) -> None:
    """Operators read no regular expressions either."""
    assert [pattern for pattern, text in patterns_of(kind).items() if text is None] == []


def test_a_setting_that_does_not_fit_is_told_in_words() -> None:
    """Of which name, and what it must be."""
    with pytest.raises(settings.SettingsError) as raised:
        environment.load(
            command_settings.MigrateSettings, {"FLEETGATE_POSTGRES_DSN": "postgres://a", "FLEETGATE_MASTER_KEY": "x"}
        )
    assert str(raised.value) == "FLEETGATE_MASTER_KEY is not usable: must be 64 hex digits in lower case"


@pytest.mark.parametrize(
    ("group", "unfit", "told"),
    [
        (
            settings.WorkerSettings,
            {"STATE_KEYS_MAX": 5000, "STATE_BYTES_MAX": 4096},
            "FLEETGATE_STATE_KEYS_MAX must be no more than FLEETGATE_STATE_BYTES_MAX",
        ),
        (
            settings.WorkerSettings,
            {"IMPORTS_MAX": 1},
            "FLEETGATE_ORGANIZATION_IMPORTS_MAX must be no more than FLEETGATE_IMPORTS_MAX",
        ),
        (
            settings.EdgeSettings,
            {"ACCOUNT_STREAMS_MAX": 201},
            "FLEETGATE_ACCOUNT_STREAMS_MAX must be no more than FLEETGATE_ORGANIZATION_STREAMS_MAX",
        ),
        (
            settings.WorkerSettings,
            {"STREAM_KEEP_S": 5, "STREAM_KEEP_BYTES": 0},
            "FLEETGATE_STREAM_KEEP_S does nothing while FLEETGATE_STREAM_KEEP_BYTES is 0",
        ),
    ],
)
def test_settings_that_do_not_fit_each_other_are_told_by_name(
    group: type[Struct], unfit: dict[str, int], told: str
) -> None:
    """Before anything starts."""
    given = {"POSTGRES_DSN": "postgres://a", "REDIS_URL": "redis://a", "MASTER_KEY": "0" * 64} | unfit
    with pytest.raises(settings.SettingsError) as raised:
        environment.load(group, {f"FLEETGATE_{name}": str(value) for name, value in given.items()})
    assert str(raised.value) == told


class Box(Struct):
    """A struct with every place that a pattern can stand in."""

    short: Annotated[str, matching("^a$", "must be a", max_length=3)] | None = None
    many: list[Annotated[str, matching("^b$", "must be b")]] = []
    by_name: dict[str, Annotated[str, Meta(pattern="^c$")]] = {}
    inside: "Box | None" = None


def test_patterns_are_found_wherever_they_stand() -> None:
    """In lists, maps, unions and structs that hold themselves; without a sentence they show as such."""
    assert patterns_of(Box) == {"'^a$'": "must be a", "'^b$'": "must be b", "'^c$'": None}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"short":"x"}', "Short: must be a"),
        ('{"short":"aaaa"}', "Short: Expected str of length <= 3"),
        ('{"many":["b","x"]}', "Many[1]: must be b"),
        ('{"inside":{"short":"x"}}', "Inside.short: must be a"),
    ],
)
def test_a_sentence_names_the_member_and_what_is_wrong(body: str, told: str) -> None:
    """In words."""
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.json.decode(body, type=Box)
    assert sentence(raised.value, patterns_of(Box)) == told


class Colour(StrEnum):
    """A closed list of words."""

    RED = "red"
    BLUE = "blue"


class Paint(Struct, rename="camel"):
    """A struct with every place that a choice can stand in."""

    main_colour: Colour | None = None
    kind: Literal["matt", ""] = ""
    coats: list[Literal["one", "two", "three"]] = []
    by_room: dict[str, Colour] = {}
    below: "Paint | None" = None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"mainColour":"green"}', "MainColour: must be red or blue"),
        ('{"kind":"gloss"}', "Kind: must be matt"),
        ('{"coats":["one","four"]}', "Coats[1]: must be one, three or two"),
        ('{"byRoom":{"hall":"green"}}', "ByRoom[...]: must be red or blue"),
        ('{"below":{"kind":"x"}}', "Below.kind: Invalid enum value 'x'"),
    ],
)
def test_of_a_closed_list_the_words_are_told_that_may_be_chosen(body: str, told: str) -> None:
    """Wherever it stands, but for structs that hold themselves."""
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.json.decode(body, type=Paint)
    assert sentence(raised.value, choices_of(Paint)) == told


def test_every_call_tells_the_words_of_its_closed_lists() -> None:
    """In bodies and in queries."""
    [create] = [e for e in ENDPOINTS if (e.method, e.path) == ("POST", "/core/v1/organization/api_keys")]
    assert create.patterns["choices at .kind"] == "must be organization or partner"
    [listed] = [e for e in ENDPOINTS if e.path.endswith("/commands") and e.method == "GET" and "partner" in e.path]
    assert "in_progress" in str(listed.patterns["choices at .status"])
