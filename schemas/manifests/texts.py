"""Texts of manifests: what may stand in them, and how `{name}` in them becomes a setting or a credential."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from schemas.sentences import matching

PLACE = re.compile(r"{([a-z][a-z0-9_]*)}")

Word = Annotated[
    str,
    matching(
        r"^[a-z][a-z0-9_]{0,62}$",
        "must be at most 63 lower-case letters, digits and underscores, and begin with a letter",
    ),
]
Expression = Annotated[str, Meta(min_length=1, max_length=500)]
"""A JMESPath expression."""
Filled = Annotated[str, Meta(max_length=4000)]
"""Text in which `{name}` stands for a setting or a credential."""


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with `{name}` replaced; a name without value becomes nothing."""
    return PLACE.sub(lambda found: values.get(found[1], ""), text)


def filled_json(value: Any, values: Mapping[str, str]) -> Any:
    """A body with its texts filled in. A name that is none of these is the vendor's: `{id}` in a GraphQL query."""
    if isinstance(value, dict):
        return {name: filled_json(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled_json(inner, values) for inner in value]
    return PLACE.sub(lambda found: values.get(found[1], found[0]), value) if isinstance(value, str) else value
