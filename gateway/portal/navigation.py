"""What the portal leads to, and for whom: a line for each page that stands in the navigation."""

from collections.abc import Iterable

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


ACCOUNT = "/account"
GROUPS = (
    Group(
        "Fleet",
        (
            Destination("Overview", "/overview", "fleet", "READ"),
            Destination("Devices", "/devices", "fleet", "READ"),
            Destination("Claim", "/claim", "fleet", "ADMINISTER"),
        ),
    ),
    Group(
        "Watch",
        (
            Destination("Incidents", "/incidents", "fleet", "READ"),
            Destination("Tickets", "/tickets", "fleet", "READ"),
            Destination("Rules", "/rules", "fleet", "READ"),
        ),
    ),
    Group(
        "Update",
        (
            Destination("Firmware", "/firmware", "fleet", "READ"),
            Destination("Rollouts", "/rollouts", "fleet", "READ"),
        ),
    ),
    Group(
        "Connections",
        (
            Destination("Data connectors", "/data-connectors", "fleet", "READ"),
            Destination("Cloud connectors", "/cloud-connectors", "fleet", "READ"),
        ),
    ),
    Group(
        "Make",
        (
            Destination("What we make", "/partner", "vendor", "READ"),
            Destination("Models", "/models", "maker", "READ"),
            Destination("Their firmware", "/partner/firmware", "vendor", "READ"),
            Destination("Their rollouts", "/partner/rollouts", "vendor", "READ"),
            Destination("Licences", "/licenses", "vendor", "READ"),
            Destination("Registered devices", "/registered", "vendor", "READ"),
            Destination("Incidents of models", "/partner/incidents", "vendor", "READ"),
            Destination("Owners' tickets", "/partner/tickets", "vendor", "READ"),
            Destination("Rules of models", "/partner/rules", "vendor", "READ"),
        ),
    ),
    Group(
        "Organization",
        (
            Destination("People", "/people", "fleet", "ADMINISTER"),
            Destination("Partner's people", "/partner/people", "maker", "ORGANIZE"),
            Destination("Audit log", "/audit", "organization", "ORGANIZE"),
        ),
    ),
    Group("Build", (Destination("Developer centre", "/docs", "any", "BELONG"),)),
)


def current(groups: Iterable[Group], path: str) -> str:
    """Which of the pages that are led to one is on, or below: the innermost; "" on none of them."""
    led_to = [one.path for group in groups for one in group.destinations]
    return max((one for one in led_to if f"{path}/".startswith(f"{one}/")), key=len, default="")


def home(visitor: Visitor) -> str:
    """Where a visitor's portal begins: at the first that it is led to."""
    return next((one.path for group in of(visitor) for one in group.destinations), ACCOUNT)


def of(visitor: Visitor) -> tuple[Group, ...]:
    """What a visitor is led to."""
    seen = (
        Group(group.title, tuple(one for one in group.destinations if visitor.may(one.reach, one.permission)))
        for group in GROUPS
    )
    return tuple(group for group in seen if group.destinations)
