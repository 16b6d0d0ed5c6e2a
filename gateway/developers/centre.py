"""What the developer centre shows, made once of the OpenAPI document and kept while the process lives."""

import functools
from collections.abc import Mapping
from typing import Any

from gateway.developers import reference
from gateway.developers.reference import Topic


class Centre:
    """The document, and what is made of it when somebody first asks."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    @functools.cached_property
    def topics(self) -> Mapping[str, Topic]:
        """The pages of the reference."""
        return reference.topics(self.document)

    @functools.cached_property
    def addresses(self) -> Mapping[str, str]:
        """Where each call is described, below `/docs`, by its method and path."""
        return {
            f"{line.method} {line.path}": self.places[line.name]
            for topic in self.topics.values()
            for line in topic.lines
        }

    @functools.cached_property
    def places(self) -> Mapping[str, str]:
        """Where each call is described, below `/docs`, by its operationId."""
        return {
            call.name: f"/reference/{topic.slug}#{call.name}" for topic in self.topics.values() for call in topic.lines
        }
