"""JMESPath as manifests use it: looks members up, and knows what of a vendor's page an expression leaves out.

The end of a list and a vendor's total count the rows of the page, whatever the manifest makes of them: `devices[?on]`
may find nothing on a page that is full, and `edges[].node` leaves out what is null. So an expression for items is also
read without its filters, and its rows are those of the list that it begins with.
"""

import re
from collections.abc import Callable
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult, Parser

Getter = Callable[[Any], Any]
Node = Any

_PLAIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_NARROWING = {
    "filter_projection",
    "projection",
    "value_projection",
    "flatten",
    "function_expression",
    "multi_select_list",
}


class ExpressionError(Exception):
    """An expression cannot be applied to what the vendor answered; the text says why."""


def getter(expression: str) -> Getter:
    """What an expression finds in a value; None where it cannot be applied to it.

    Plain ones (`a.b.c`), nearly all there are, are looked up directly.
    """
    if not _PLAIN.fullmatch(expression):
        search = strict_getter(expression)

        def find(value: Any) -> Any:
            try:
                return search(value)
            except ExpressionError:
                return None

        return find
    first, *rest = expression.split(".")
    if not rest:
        return lambda value: value.get(first) if type(value) is dict else None

    def walk(value: Any) -> Any:
        for key in (first, *rest):
            if type(value) is not dict:
                return None
            value = value.get(key)
        return value

    return walk


def strict_getter(expression: str) -> Getter:
    """The same, but what cannot be applied is an ExpressionError."""
    compiled = jmespath.compile(expression)

    def find(value: Any) -> Any:
        try:
            return compiled.search(value)
        except (JMESPathError, TypeError, ValueError, AttributeError, RecursionError) as error:
            # Functions of the library meet values of vendors with errors of several kinds.
            raise ExpressionError(str(error).partition("\n")[0]) from None

    return find


class Items:
    """The expression that finds the items of a page."""

    def __init__(self, expression: str, key: str = "") -> None:
        self.expression = expression
        self._key = key
        self._find = strict_getter(expression)
        self._tree: Node = Parser().parse(expression).parsed
        self._sources = _sources(self._tree)
        unfiltered = _without_filters(self._tree)
        self._unfiltered = None if unfiltered == self._tree else ParsedResult(expression, unfiltered)

    def __repr__(self) -> str:
        return f"<Items {self.expression}>"

    def find(self, answer: Any) -> list[Any] | None:
        """The items; None where the answer has no list there. Raises ExpressionError."""
        found = self._find(answer)
        if isinstance(found, list):
            return found
        if self._key and isinstance(found, dict):
            return [one | {self._key: key} if isinstance(one, dict) else one for key, one in found.items()]
        return [] if (found is None and answer is None) or self._is_empty(answer) else None

    def unfiltered(self, answer: Any) -> list[Any] | None:
        """The items without those that only a filter leaves out; None where the expression has no filter."""
        if self._unfiltered is None:
            return None
        try:
            found = self._unfiltered.search(answer)
        except (JMESPathError, TypeError, ValueError, AttributeError):
            return None
        return found if isinstance(found, list) else None

    def rows(self, answer: Any) -> list[Any]:
        """The vendor's rows that the expression begins with, before it selects anything."""
        return _rows(self.expression, self._tree, answer)

    def _is_empty(self, answer: Any) -> bool:
        """Whether the answer has null in place of the list, as some languages print an empty one; or, to `a || b`, an
        empty list that counts as none."""
        return any(_at(answer, path) in (None, []) for path in self._sources if _has(answer, path))


def _sources(node: Node) -> list[list[str]]:
    """The members that the expression begins with, each as a path; none where that is not plain."""
    match node["type"]:
        case "field":
            return [[node["value"]]]
        case "subexpression" if not _narrows(node):
            parts = [_sources(child) for child in node["children"]]
            return [[key for part in parts for key in part[0]]] if all(parts) else []
        case "or_expression":
            return [path for child in node["children"] for path in _sources(child)]
        case "projection" | "filter_projection" | "value_projection" | "flatten" | "pipe" | "index_expression":
            return _sources(node["children"][0])
        case _:
            return []


def _has(answer: Any, path: list[str]) -> bool:
    above = _at(answer, path[:-1])
    return isinstance(above, dict) and path[-1] in above


def _at(answer: Any, path: list[str]) -> Any:
    for key in path:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer


def _without_filters(node: Any) -> Any:
    """The tree with `[?…]` as `[*]`, and without slices."""
    if not isinstance(node, dict):
        return node
    children = [_without_filters(child) for child in node["children"]]
    if node["type"] == "filter_projection":
        return {"type": "projection", "children": children[:2]}
    if node["type"] == "index_expression" and children[-1]["type"] == "slice":
        return children[0]
    return node | {"children": children}


def _rows(expression: str, node: Node, value: Any) -> list[Any]:
    children = node["children"]
    if not _narrows(node):
        found = ParsedResult(expression, node).search(value)
        return list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else []
    match node["type"]:
        case "or_expression":
            return _rows(expression, children[0], value) or _rows(expression, children[1], value)
        case "pipe" | "subexpression" if not _narrows(children[0]):
            inner = ParsedResult(expression, children[0]).search(value)
            rest = children[1] if len(children) == 2 else node | {"children": children[1:]}
            return _rows(expression, rest, inner)
        case "multi_select_list" | "function_expression":
            parts = [child for child in children if child["type"] not in ("expref", "literal")]
            return [row for part in parts for row in _rows(expression, part, value)]
        case _:
            return _rows(expression, children[0], value)


def _narrows(node: Any) -> bool:
    """Whether the expression selects, maps or computes, rather than name a member."""
    if not isinstance(node, dict):
        return False
    if node["type"] in _NARROWING or (node["type"] == "slice"):
        return True
    return any(_narrows(child) for child in node["children"])
