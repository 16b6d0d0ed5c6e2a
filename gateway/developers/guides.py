"""Guides: the repository's `docs/*.md` as pages, in sections that one can lead to, and search.

What they write is made HTML with none of their own let through; links between guides lead to their pages, and what they
link to in the repository is text.
"""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from msgspec import Struct

FOLDER = Path(__file__).parent / "guides"
"""A link to `docs`: a copy of the package has what it shows with it."""
GUIDES: Mapping[str, str] = {
    "receivers": "Receive what devices tell, as webhooks: what arrives, how it is checked, what happens when it fails.",
    "manifests": "Import a vendor's devices: describe its cloud in a file, try it, connect.",
    "clients": "Point a known client at this gateway: which setting of it takes which value.",
    "firmware": "Bring firmware to devices: files, releases, rollouts in waves, what devices do.",
    "updaters": "Let a firmware updater that speaks Direct Device Integration take part.",
    "migrating": "Move a fleet here from another platform, without touching devices twice.",
    "scaling": "Grow beyond one server: what to add when, how, and what it costs.",
    "operators": "When a receiver of webhooks is down: what to look at, and what happens by itself.",
}
"""All of them, with what they are for, in the order in which they are shown."""


class Section(Struct, frozen=True):
    """A part of a guide."""

    id: str
    title: str
    """Empty for what stands before the first."""
    html: str
    words: str
    """All its text in lower case, to be searched."""


class Guide(Struct, frozen=True):
    """One page."""

    name: str
    title: str
    sections: tuple[Section, ...]

    def with_words(self, text: str) -> tuple[Section, ...]:
        """The sections that have all these words; all, where there are none."""
        words = text.lower().split()
        return tuple(section for section in self.sections if all(word in section.words for word in words))


@functools.cache
def guide(name: str, address: Callable[[str], str]) -> Guide:
    """A guide; `address` gives the page of another one, by its name."""
    tokens = _reader().parse((FOLDER / f"{name}.md").read_text())
    title = next(tokens[at + 1].content for at, token in enumerate(tokens) if token.tag == "h1")
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.type == "heading_open" and token.tag == "h2":
            parts.append([])
        _mend(token, address)
        parts[-1].append(token)
    sections = [_section(part) for part in parts]
    return Guide(name, title, tuple(section for section in sections if section.html.strip()))


def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _section(tokens: list[Token]) -> Section:
    """A section without its heading, which pages set; the guide's title is dropped likewise."""
    title, rest = "", tokens
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag in ("h1", "h2"):
        title = tokens[1].content if tokens[0].tag == "h2" else ""
        rest = tokens[3:]
    markdown = _reader()
    html = markdown.renderer.render(rest, markdown.options, {})
    html = html.replace(
        "<table>", f'<div class="table" tabindex="0" role="region" aria-label="{title or "Table"}"><table>'
    )
    html = html.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')
    plain = re.sub("<[^>]+>", " ", html)
    return Section(re.sub(r"\W+", "-", title.lower()).strip("-"), title, html, f"{title} {plain}".lower())


def _mend(token: Token, address: Callable[[str], str]) -> None:
    """Let links lead to where there is something, and take away what the page's policy forbids."""
    token.attrs.pop("style", None)
    kept: list[Token] = []
    dropped = False
    for child in token.children or ():
        if child.type == "link_open":
            target = str(child.attrs["href"])
            name = target.removesuffix(".md")
            if name in GUIDES:
                child.attrs["href"] = address(name)
            dropped = name not in GUIDES and not target.startswith(("https://", "http://"))
        if not (dropped and child.type in ("link_open", "link_close")):
            kept.append(child)
        if child.type == "link_close":
            dropped = False
    if token.children is not None:
        token.children = kept
