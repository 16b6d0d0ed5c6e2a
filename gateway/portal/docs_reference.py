"""The reference: all calls with a search, and a page for each thing that calls are about; each can be sent from it."""

from typing import Annotated

from msgspec import Meta, Struct
from starlette.requests import Request

from gateway.api.callers.readers import READER
from gateway.api.principals import Principal
from gateway.developers.samples import LANGUAGES
from gateway.portal.docs import AREAS, centre_of, view
from gateway.portal.docs_reader import ids_of
from gateway.portal.page import page
from gateway.portal.rendering import View
from gateway.refusals import NotFound
from gateway.services import Services

UNKNOWN = "There is no such page of the reference"


class ReferenceQuery(Struct):
    """Which calls: those with these words."""

    q: Annotated[str, Meta(max_length=200)] = ""


class TopicQuery(Struct):
    """In which language calls are shown."""

    language: Annotated[str, Meta(max_length=20)] = "curl"


@page("GET", "/docs/reference", caller=READER)
async def reference(services: Services, request: Request, query: ReferenceQuery) -> View:
    """All calls, or those that are searched for."""
    words = query.q.lower().split()
    found = [
        (topic, call)
        for topic in centre_of(request).topics.values()
        for call in topic.lines
        if all(word in f"{call.method} {call.path} {call.summary} {topic.title}".lower() for word in words)
    ]
    found.sort(key=lambda pair: (list(AREAS).index(pair[0].area), pair[0].slug))
    return view(request, "docs_reference.html", found=found, words=query.q, areas=AREAS)


@page("GET", "/docs/reference/{topic}", caller=READER)
async def reference_topic(
    services: Services, request: Request, reader: Principal, topic: str, query: TopicQuery
) -> View:
    """The calls about one thing."""
    known = centre_of(request).topics.get(topic)
    if known is None:
        raise NotFound(UNKNOWN)
    language = query.language if query.language in LANGUAGES else "curl"
    own = await ids_of(services, reader)
    shown = [(call, call.samples(services.url, own)[language], call.body(own)) for call in known.calls]
    values = {
        "topic": known,
        "own": own,
        "shown": shown,
        "language": language,
        "languages": LANGUAGES,
        "base": services.url,
    }
    return view(request, "docs_topic.html", **values)


PAGES = (reference, reference_topic)
