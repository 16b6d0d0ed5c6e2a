"""Whose things a call is about: what owners and vendors both have is kept once, for one of the two sides."""

from typing import NamedTuple
from uuid import UUID


class Whose(NamedTuple):
    """An organization as owner of devices, or as vendor of the models that it makes."""

    organization_id: UUID
    as_vendor: bool
