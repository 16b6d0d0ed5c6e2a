"""Devices out of items: the quick way for plain ones says what the long way says."""

import itertools

from schemas.manifests.manifest import Device
from workers.importer.devices import Mapper

PLAIN = Device(id="id", name="name", serial="serial", mac="mac", model="model", firmware="firmware", space="space")
TEXTS = [
    "",
    " ",
    "a",
    " a",
    "a ",
    "a b",
    "a|b",
    "a |b",
    "|",
    "ü",
    "\t",
    "a\x00",
    "x" * 300,
    "00:11:22:33:44:55",
    "00-11-22-33-44-5F",
    "a/b//c",
]


def test_an_item_is_read_the_same_whichever_way_it_takes() -> None:
    """Blanks, bars, letters of the world, too long, empty: in any of two members at once."""
    mapper, slow = Mapper(PLAIN), Mapper(PLAIN)
    slow._all = None
    names = ("id", "name", "serial", "mac", "model", "firmware", "space")
    for one, two in itertools.combinations(names, 2):
        for first, second in itertools.product(TEXTS, TEXTS):
            item = dict.fromkeys(names, "x") | {one: first, two: second}
            assert mapper.read(item) == slow.read(item), item
