"""U+0000 is refused in every text of a body, and in nothing else."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from gateway.api import bodies
from gateway.api.texts import is_text
from gateway.refusals import DoesNotFit

_anything = msgspec.json.Decoder(Any)


@pytest.mark.parametrize(
    ("body", "member"),
    [
        (rb'{"name":"a\u0000"}', "Name: a"),
        (rb'{"words":["a","\u0000"]}', "Words[1]: a"),
        (rb'{"labels":{"a":"\u0000"}}', "Labels.a: a"),
        (rb'{"labels":{"\u0000":"a"}}', "Labels: a"),
        (rb'{"inners":[{},{"displayName":"\u0000"}]}', "Inners[1].displayName: a"),
        (rb'"\u0000"', "A"),
    ],
)
def test_a_text_must_not_hold_it(body: bytes, member: str) -> None:
    """Wherever it stands; the sentence names the member."""
    with pytest.raises(DoesNotFit) as raised:
        bodies.decode(_anything, body)
    assert raised.value.text == f"{member} text must not hold U+0000"


def test_messages_of_many_devices_are_refused_one_by_one() -> None:
    """What only looks like it is taken; what is read later is looked at later."""
    assert bodies.decode(_anything, rb'{"name":"\\u0000"}') == {"name": r"\u0000"}
    for many in (list[Raw], dict[str, Raw]):
        body = rb'["\u0000"]' if many == list[Raw] else rb'{"a":"\u0000"}'
        assert len(bodies.decode(msgspec.json.Decoder(many), body)) == 1


def test_a_text_alone() -> None:
    """As in the claims of a token, which are nobody's struct."""
    assert is_text("a")
    assert not is_text("a\0")
    assert not is_text(7)
