"""Doors: a call that owners and vendors both make is one function, which stands once for each of them.

    @endpoint("POST", "/files", doors=(OWNER, VENDOR.but(body=NewModelFile)), permission=Permission.DEVELOP)
    async def create_file(services: Services, side: WholeScope, body: NewFile) -> File:

A door says under which path, for which kind of caller, and into which scope: the function gets "these devices" and
does not ask whose they are. What differs between the two stands at the door: a narrower body or answer, refusals.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.principals import CallerKind
from gateway.api.scopes import SideScope


class Door(Struct, frozen=True):
    """Where one kind of caller comes in to calls that owners and vendors both make."""

    area: str
    """Its word in paths below `/core/v1` and in the OpenAPI document."""
    pages: str
    """What the paths of its pages begin with."""
    caller: CallerKind
    scopes: tuple[type[SideScope], ...]
    """What it leads into, the narrowest first: a function gets the first that is of the kind that it takes."""
    body: Any = None
    """What the body is here, where it is not what the function says."""
    answer: Any = None
    """Likewise what is answered."""
    errors: Mapping[int, str] = {}
    """Refusals beside those of the endpoint."""

    def but(self, **differs: Any) -> "Door":
        """The door of a call that is otherwise here than at the other door."""
        return msgspec.structs.replace(self, **differs)

    def types(self, hints: Mapping[str, Any]) -> dict[str, Any]:
        """The types of a function's parameters as they are for who comes in here."""
        found = {name: self._scope(kind) or kind for name, kind in hints.items()}
        differs = {"body": self.body, "return": self.answer}
        return found | {name: kind for name, kind in differs.items() if kind is not None}

    def _scope(self, kind: Any) -> type[SideScope] | None:
        if not (isinstance(kind, type) and issubclass(kind, SideScope)):
            return None
        return next(scope for scope in self.scopes if issubclass(scope, kind))
