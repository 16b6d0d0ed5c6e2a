"""Guides: what is to be read from beginning to end, searched in and across."""

import functools
from typing import Annotated

from markupsafe import Markup
from msgspec import Meta, Struct
from starlette.requests import Request

from gateway.api.callers.readers import READER
from gateway.developers.guides import GUIDES
from gateway.developers.guides import guide as read_guide
from gateway.portal.docs import view
from gateway.portal.page import page
from gateway.portal.rendering import View, prefix_of, url
from gateway.refusals import NotFound
from gateway.services import Services

UNKNOWN = "There is no such guide"


class GuidesQuery(Struct):
    """Which sections: those with these words."""

    q: Annotated[str, Meta(max_length=200)] = ""


@functools.cache
def _address(prefix: str, name: str) -> str:
    return url(prefix, "/docs/guides", name)


@functools.cache
def _addresses(prefix: str) -> "functools.partial[str]":
    return functools.partial(_address, prefix)


@page("GET", "/docs/guides", caller=READER)
async def guides(services: Services, request: Request, query: GuidesQuery) -> View:
    """All guides, or the sections of any that have the words."""
    known = [read_guide(name, _addresses(prefix_of(services))) for name in GUIDES]
    found = [(one, one.with_words(query.q) if query.q else ()) for one in known]
    return view(request, "docs_guides.html", found=found, words=query.q, about=GUIDES)


@page("GET", "/docs/guides/{guide}", caller=READER)
async def guide(services: Services, request: Request, guide: str, query: GuidesQuery) -> View:
    """One guide, or its sections that have the words."""
    if guide not in GUIDES:
        raise NotFound(UNKNOWN)
    known = read_guide(guide, _addresses(prefix_of(services)))
    # Guides are ours, and what makes HTML of them lets none through.
    shown = [(section, Markup(section.html)) for section in known.with_words(query.q)]  # noqa: S704
    return view(request, "docs_guide.html", guide=known, shown=shown, words=query.q)


PAGES = (guides, guide)
