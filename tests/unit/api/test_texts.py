"""U+0000 is refused in every text, and in nothing else."""

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.api.texts import check_body, is_text
from gateway.refusals import DoesNotFit


class Inner(Struct, rename="camel"):
    """Below another one."""

    display_name: str = ""


class Body(Struct):
    """A body with texts and free JSON in every place."""

    name: str = ""
    short: Annotated[str, Meta(max_length=5)] | UnsetType | None = UNSET
    words: list[Annotated[str, Meta(max_length=5)]] = []
    labels: Annotated[dict[str, str], Meta(max_length=5)] | None = None
    inner: Inner | None = None
    inners: list[Inner] = []
    details: dict[str, Any] | UnsetType = UNSET
    raw: dict[str, Raw] = {}
    anything: Any = None


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (rb'{"name":"a\u0000"}', "Name"),
        (rb'{"short":"\u0000"}', "Short"),
        (rb'{"words":["a","\u0000"]}', "Words[1]"),
        (rb'{"labels":{"a":"\u0000"}}', "Labels.a"),
        (rb'{"labels":{"\u0000":"a"}}', "Labels"),
        (rb'{"inner":{"displayName":"\u0000"}}', "Inner.displayName"),
        (rb'{"inners":[{},{"displayName":"\u0000"}]}', "Inners[1].displayName"),
    ],
)
def test_a_text_must_not_hold_it(body: bytes, member: str) -> None:
    """Wherever it stands; the sentence names the member."""
    with pytest.raises(DoesNotFit) as raised:
        check_body(body, msgspec.json.decode(body, type=Body), Body)
    assert raised.value.text == f"{member}: a text must not hold U+0000"


@pytest.mark.parametrize(
    "body",
    [
        rb'{"name":"\\u0000"}',
        rb'{"details":{"a":"\u0000","\u0000":[{"b":"\u0000"}]}}',
        rb'{"raw":{"a":"\u0000"}}',
        rb'{"anything":"\u0000"}',
        rb'{"unknown":"\u0000"}',
    ],
)
def test_other_json_may(body: bytes) -> None:
    """What only looks like it, what is kept as it came, and what is not read."""
    check_body(body, msgspec.json.decode(body, type=Body), Body)


def test_a_text_alone() -> None:
    """As in the claims of a token, which are nobody's struct."""
    assert is_text("a")
    assert not is_text("a\0")
    assert not is_text(7)
