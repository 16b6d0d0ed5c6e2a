"""What proves somebody is compared in constant time, in one place."""

import ast
import re
from collections.abc import Iterator

import pytest

from schemas.constant_time import same_text
from tests.unit.test_tidy import ROOT, SOURCES

HOME = "schemas/constant_time.py"
SECRET = re.compile(
    r"secret|digest|token|signature|passcode|password|cookie|nonce|credential|challenge|hmac|authorization"
    r"|(access|api|hardware|master)_key|(^|_)mac$"
)
"""Names of what proves somebody, or of digests of it."""
HARMLESS = {
    # Names of members that the audit log masks.
    "gateway/api/audit.py": {"key in secret"},
    # Both sides are the caller's own words.
    "gateway/device/telemetry.py": {"self.token not in (None, token)"},
    "gateway/portal/account.py": {"body.password != body.again"},
    "gateway/stores/files/uploads.py": {"self._hashes[algorithm].digest() != digest"},
    "gateway/cli/simulated/firmware.py": {"self._digest.hexdigest() != self._checksum"},
    # Places in a list, and addresses of assets, which prove nothing.
    "gateway/api/page_tokens.py": {"query.page_token not in tokens", "digest == _digest(scope)"},
    "gateway/portal/static.py": {"request.path_params['digest'] == known.digest"},
    # A connector's settings before and after a change, both ours.
    "workers/dispatcher/request.py": {"before._secrets() == self._secrets()"},
    # What was written of a day of history, compared with what is read of it: whether a disk was true to it.
    "workers/archiver/closing.py": {"digest.hexdigest() != file.digest", "found.hexdigest() != checksum"},
    # Digests of lists and readings, which tell whether something is new.
    "workers/importer/collection.py": {"digest in on_page"},
    "workers/importer/holding.py": {"self.digest != digests.gone"},
    "workers/importer/lists.py": {"digest in self._seen"},
    "workers/importer/readings.py": {
        "known[:_DIGEST_BYTES] != digest[:_DIGEST_BYTES]", "known[_DIGEST_BYTES:] != digest[_DIGEST_BYTES:]",
    },
}  # fmt: skip
"""Comparisons of things that are called so, and why none of them tells anything of a secret."""


def names(node: ast.expr) -> Iterator[str]:
    """What an operand is made of; lengths and truths of things tell nothing of them, literals and constants neither."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("len", "bool", "type"):
        return
    if isinstance(node, ast.Compare):
        return
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if not name.isupper():
            yield name.lower()
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        yield node.slice.value.lower()
    if isinstance(node, ast.Attribute) and node.attr not in ("digest", "hexdigest"):
        return  # what a thing that is called so has is another thing: `token.type`
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from names(child)


def is_fixed(node: ast.expr) -> bool:
    """Whether an operand stands in the program, for everybody to read."""
    return not any(isinstance(one, ast.Name | ast.Attribute | ast.Call) for one in ast.walk(node)) or (
        isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).rpartition(".")[2].isupper()
    )


def compared(tree: ast.AST) -> Iterator[str]:
    """The comparisons by which a secret could be guessed a character at a time."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In | ast.NotIn):
            operands = (node.left, *node.comparators)
            if not any(map(is_fixed, operands)) and any(SECRET.search(name) for one in operands for name in names(one)):
                yield ast.unparse(node)


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.AST]:
    inside = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "bench"]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in inside}


def test_no_secret_is_compared_character_by_character(trees: dict[str, ast.AST]) -> None:
    """By `==`, `!=` or `in`, anywhere in edge and workers; what is called so and is none is named above."""
    found = {name: set(compared(tree)) for name, tree in trees.items()}
    assert {name: strange for name, ones in found.items() if (strange := ones - HARMLESS.get(name, set()))} == {}
    assert {name: gone for name, ones in HARMLESS.items() if (gone := ones - found[name])} == {}


def test_constant_time_has_one_home(trees: dict[str, ast.AST]) -> None:
    """Nobody else calls the function of the library: what it cannot take is dealt with once."""
    users = {
        name
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.alias) and "compare_digest" in ast.unparse(node)
    }
    assert users == {HOME}


@pytest.mark.parametrize(
    ("line", "is_seen"),
    [
        ("presented.digest == row['digest']", True),
        ("headers['authorization'] != f'Bearer {token}'", True),
        ("request.access_key in self._keys", True),
        ("sha256(secret).hexdigest() == found", True),
        ("len(token) == 32", False),
        ("token == ''", False),
        ("secret_kind == KIND", False),
    ],
)
def test_the_rule_sees_what_it_should(line: str, *, is_seen: bool) -> None:
    """Names of members, of columns and of what is called count; lengths and literals do not."""
    assert bool(list(compared(ast.parse(line)))) is is_seen


def test_text_is_compared_whatever_it_holds() -> None:
    """Also what no encoding has, and what only looks like what was expected."""
    assert same_text("a", "a")
    for given in ("", "b", "aa", "A", "\ud800", "\0a", "á"):
        assert not same_text(given, "a")
    assert not same_text("\ud800", "?")
