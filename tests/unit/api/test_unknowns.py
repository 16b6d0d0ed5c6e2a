"""What an owner gives and a call does not know is found, wherever it stands."""

from typing import Any

import pytest
from msgspec import Struct

from gateway.api.unknowns import Members, check_no_body, check_parameters
from gateway.app import ENDPOINTS
from gateway.device.device import DeviceReport
from gateway.refusals import Malformed


class Inner(Struct, rename="camel"):
    """Below another one."""

    display_name: str = ""


class Body(Struct):
    """A body with structs and free JSON in every place."""

    name: str = ""
    inner: Inner | None = None
    inners: list[Inner] = []
    by_name: dict[str, Inner] = {}
    details: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"nmae": 1}, "Member nmae is not known: known here are by_name, details, inner, inners, name"),
        ({"name": "a", "nmae": None}, "Member nmae is not known: known here are by_name, details, inner, inners, name"),
        ({"inner": {"name": 1}}, "Member inner.name is not known: known here are displayName"),
        ({"inners": [{}, {"x": 1}]}, "Member inners[1].x is not known: known here are displayName"),
        (
            {"by_name": {"a": {"display_name": 1}}},
            "Member by_name.a.display_name is not known: known here are displayName",
        ),
        ({"x" * 999: 1}, f"Member {'x' * 64} is not known: known here are by_name, details, inner, inners, name"),
    ],
)
def test_a_member_without_a_place_in_the_type_is_named(body: Any, text: str) -> None:
    """By its whole path, with what is known there."""
    with pytest.raises(Malformed) as raised:
        Members(Body).check(body)
    assert raised.value.text == text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"details": {"any": {"thing": 1}}},
        {"inner": None, "name": 5},
        [],
        "x",
        {"read_only": 1},
        {"inners": {"x": 1}},
    ],
)
def test_what_is_known_free_or_of_another_shape_passes(body: Any) -> None:
    """What does not fit is the decoder's to refuse."""
    Members(Body, {"read_only"}).check(body)


def test_a_parameter_is_known_and_given_once() -> None:
    """Lists are what is given more often."""
    check_parameters(["page", "types", "types"], ["page", "types"], ["types"])
    for names, text in (
        (["pagina"], "Query parameter pagina is not known: known here are page, types"),
        (["page", "types", "page"], "Query parameter page is given twice"),
    ):
        with pytest.raises(Malformed) as raised:
            check_parameters(names, ["page", "types"], ["types"])
        assert raised.value.text == text


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b"null", b"[]"])
def test_an_empty_body_says_nothing(body: bytes) -> None:
    """Clients send one with every POST."""
    check_no_body(body)


@pytest.mark.parametrize("body", [b'{"displayName": "x"}', b"[1]", b"name=x", b"\xff", b"[" * 10_000])
def test_a_body_where_none_is_taken_is_refused(body: bytes) -> None:
    """It would be lost."""
    with pytest.raises(Malformed, match="This call takes no body"):
        check_no_body(body)


def test_every_call_of_owners_vendors_and_accounts_is_exact_and_no_call_of_devices() -> None:
    """There is one place that says so: the kind of caller."""
    assert [e for e in ENDPOINTS if e.exact is not e.path.startswith(("/core/", "/v2/", "/emulator/"))] == []
    assert DeviceReport.__struct_config__.forbid_unknown_fields  # the one body of devices that the contract says it of
