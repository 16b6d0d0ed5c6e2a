"""Who looks at a page, as the frame around it tells: the person, its organization, and what its roles let it see."""

from collections.abc import Mapping
from uuid import UUID

from msgspec import Struct

from gateway.api.principals import Principal
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.tenants import organizations


class Visitor(Struct, frozen=True):
    """The person behind a page; nobody, where nobody is signed in or it is not known."""

    name: str = ""
    organization: str = ""
    organizations: Mapping[UUID, str] = {}
    """All that the person has a role in, by id: one may be chosen."""
    fleet: frozenset[Permission] = frozenset()
    """What it may do with devices of the organization, in one of its projects at least."""
    organization_wide: frozenset[Permission] = frozenset()
    vendor: frozenset[Permission] = frozenset()

    def may(self, reach: str, permission: str) -> bool:
        """Whether it makes sense to show what takes this permission; whoever serves it decides for itself.

        `reach` is fleet, organization, vendor; maker, which is either of the last two; or any.
        """
        granted = {
            "fleet": self.fleet,
            "organization": self.organization_wide,
            "vendor": self.vendor,
            "maker": self.organization_wide | self.vendor,
            "any": self.fleet | self.organization_wide | self.vendor,
        }[reach]
        return Permission[permission] in granted


NOBODY = Visitor()


async def of(services: Services, principal: Principal, name: str) -> Visitor:
    """The person that was let in."""
    chosen = principal.organization_id
    if chosen is None:
        return Visitor(name)
    mine = {grant.organization_id for grant in principal.grants}
    names = await organizations.names(services.postgres, mine)
    projects = {grant.project_id for grant in principal.grants if grant.organization_id == chosen}
    return Visitor(
        name,
        names.get(chosen, ""),
        names,
        frozenset().union(*(principal.permissions(chosen, project_id) for project_id in projects)),
        principal.permissions(chosen, None),
        principal.permissions_as_vendor(chosen),
    )
