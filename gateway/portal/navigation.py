"""What the portal leads to, and for whom: a line for each page that stands in the navigation."""

from msgspec import Struct

from gateway.portal.visitor import Visitor


class Destination(Struct, frozen=True):
    """A page of the navigation, shown to whoever has the permission in this reach (see `Visitor.may`)."""

    title: str
    path: str
    reach: str
    permission: str


class Group(Struct, frozen=True):
    """Pages that stand together."""

    title: str
    destinations: tuple[Destination, ...]


GROUPS = (Group("Fleet", (Destination("Overview", "/overview", "fleet", "READ"),)),)


def of(visitor: Visitor) -> tuple[Group, ...]:
    """What a visitor is led to."""
    seen = (
        Group(group.title, tuple(one for one in group.destinations if visitor.may(one.reach, one.permission)))
        for group in GROUPS
    )
    return tuple(group for group in seen if group.destinations)
