"""Reads a manifest, and tells what is wrong with it: file, line, member and a sentence."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.parser import Parser

from schemas.manifests.authentication import ApiKey, Basic, Bearer, Hmac, Login, Step
from schemas.manifests.manifest import Detail, Listing, Manifest
from schemas.manifests.texts import PLACE
from schemas.sentences import complaint_of, patterns_of

OF_A_REQUEST = {
    *("method", "path", "query", "body", "body_sha256", "host", "timestamp", "timestamp_ms", "date", "nonce"),
    "signature",
}
"""What a signed request knows of itself."""
_EXPRESSIONS = {
    *("items", "total", "cursor", "inside", "item", "id", "name", "serial", "mac", "model", "firmware", "space"),
    *("online", "time", "token", "lifetime"),
}
_HOST = re.compile(r"https?://[^/?#]*")


class ManifestError(ValueError):
    """A manifest that cannot be used; the text is a sentence that names file and line."""


class Template(NamedTuple):
    """A text of a manifest with `{name}` in it. `answers` are the names that the vendor's own answers fill."""

    keys: list[str]
    text: str
    answers: set[str]


def read(path: Path) -> Manifest:
    """The manifest of a file. Raises ManifestError."""
    try:
        return parse(path.read_text("utf-8"), path.name)
    except OSError as error:
        raise ManifestError(f"{path.name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{path.name}: it is not UTF-8") from None
    except RecursionError:
        raise ManifestError(f"{path.name}: it is nested too deeply") from None


def parse(text: str, source: str) -> Manifest:
    """A manifest from its text. Raises ManifestError with the line at fault."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"{source}: {error}") from None
    try:
        manifest = msgspec.convert(found, Manifest)
    except msgspec.ValidationError as error:
        sentence, _, path = str(error).partition(" - at `$")
        keys = re.findall(r"\w+", path.rstrip("`"))
        unknown = re.search(r"unknown field `(\w+)`", sentence)
        line = _line_of(text, [*keys, unknown[1]] if unknown else keys)
        wrong = complaint_of(sentence, patterns_of(Manifest)) if "regex" in sentence else sentence
        raise ManifestError(f"{source}, line {line}: {'.'.join(keys) or 'the manifest'}: {wrong}") from None
    for keys, sentence in _wrong(found, manifest):
        raise ManifestError(f"{source}, line {_line_of(text, keys)}: {'.'.join(keys)}: {sentence}")
    return manifest


def leading(manifest: Manifest) -> set[str]:
    """Settings and credentials that say where requests go and how they are proven."""
    return {name for template in _templates(manifest) for name in PLACE.findall(template.text)}


def _wrong(found: dict[str, Any], manifest: Manifest) -> Iterator[tuple[list[str], str]]:
    """What the structs do not say: keys and a sentence of each fault."""
    for keys, expression in _expressions(found):
        try:
            jmespath.compile(expression)
            _check_functions(Parser().parse(expression).parsed)
        except JMESPathError as error:
            yield keys, str(error).splitlines()[0]
    entered = {*manifest.settings, *manifest.credentials}
    for keys, text, answers in _templates(manifest):
        host = _HOST.match(text)
        for name in PLACE.findall(text):
            if name not in entered | answers:
                yield keys, f"there is no setting or credential {name}"
            elif name not in entered and host is not None and f"{{{name}}}" in host[0]:
                yield keys, f"{name} is of the vendor's answers, and no answer leads to another host"
    for keys, names in _named_by_answers(manifest):
        for name in names & entered:
            yield [*keys, name], "a setting or credential has this name"
    for table, fields in (("settings", manifest.settings), ("credentials", manifest.credentials)):
        for name, field in fields.items():
            try:
                re.compile(field.pattern)
            except re.error as error:
                yield [table, name, "pattern"], str(error)
    kind = manifest.authentication
    if isinstance(kind, Login) and bool(kind.token) == bool(kind.token_header):
        yield ["authentication"], "one of token and token_header says where the token is"
    for keys, listing in _listings(manifest):
        if listing.for_each is not None and keys == ["telemetry", "list"] and "{id}" in listing.path:
            yield keys, "a request for each device and for_each do not go together"


def _templates(manifest: Manifest) -> Iterator[Template]:
    """All texts in which `{name}` must be known; in bodies it may be the vendor's own."""
    yield Template(["base_url"], manifest.base_url, set())
    of_steps = {name for _, step in _steps(manifest) for name in step.values}
    yield from _templates_of_authentication(manifest, of_steps)
    for keys, listing in _listings(manifest):
        answers = set(of_steps) if listing.for_each is None else of_steps | {*listing.for_each.values}
        answers |= {"id"} if keys[0] == "telemetry" else set()
        yield from _templates_of_request(keys, listing, answers, {listing.path_parameter})
    if manifest.detail is not None:
        yield from _templates_of_request(["detail"], manifest.detail, of_steps | {"id", *manifest.detail.values})


def _templates_of_authentication(manifest: Manifest, of_steps: set[str]) -> Iterator[Template]:
    kind = manifest.authentication
    keys = ["authentication"]
    match kind:
        case ApiKey() | Basic() | Bearer():
            texts = msgspec.structs.asdict(kind)
            yield from (Template([*keys, name], text, set()) for name, text in texts.items() if name != "header")
            return
        case Hmac():
            yield Template([*keys, "secret"], kind.secret, set())
            yield Template([*keys, "text"], kind.text, OF_A_REQUEST - {"signature"})
            yield from (Template([*keys, "headers", name], text, OF_A_REQUEST) for name, text in kind.headers.items())
            return
        case Login():
            yield from _templates_of_request(keys, kind, set())
            yield from (Template([*keys, "form", name], text, set()) for name, text in kind.form.items())
            for text in _texts_in(kind.body):
                yield Template([*keys, "body"], text, set())
        case _:
            for name in ("token_url", "authorize_url", "client_id", "client_secret"):
                yield Template([*keys, name], getattr(kind, name, ""), set())
            yield from (Template([*keys, "parameters", name], text, set()) for name, text in kind.parameters.items())
    yield Template([*keys, "value"], kind.value, {"token"} | of_steps)
    answers: set[str] = set()
    for where, step in _steps(manifest):
        yield from _templates_of_request(where, step, answers | {"token"})
        answers |= {*step.values}


def _templates_of_request(
    keys: list[str], request: Listing | Detail | Step | Login, answers: set[str], in_path: set[str] | None = None
) -> Iterator[Template]:
    yield Template([*keys, "path"], request.path, answers | (in_path or set()))
    for member in ("query", "headers"):
        for name, text in getattr(request, member).items():
            yield Template([*keys, member, name], text, answers)


def _steps(manifest: Manifest) -> Iterator[tuple[list[str], Step]]:
    yield from ((["authentication", "steps"], step) for step in getattr(manifest.authentication, "steps", ()))


def _listings(manifest: Manifest) -> Iterator[tuple[list[str], Listing]]:
    """Every list, those that another one is asked for included."""
    of_telemetry = None if manifest.telemetry is None else manifest.telemetry.list
    for keys, first in ((["list"], manifest.list), (["telemetry", "list"], of_telemetry)):
        listing: Listing | None = first
        while listing is not None:
            yield keys, listing
            keys, listing = [*keys, "for_each"], listing.for_each


def _named_by_answers(manifest: Manifest) -> Iterator[tuple[list[str], set[str]]]:
    yield from (([*keys, "values"], {*step.values} - {"token"}) for keys, step in _steps(manifest))
    for keys, listing in _listings(manifest):
        if listing.for_each is not None:
            yield [*keys, "for_each", "values"], {*listing.for_each.values}
    if manifest.detail is not None:
        yield ["detail", "values"], {*manifest.detail.values}


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(inner)


def _expressions(found: dict[str, Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[list[str], str]]:
    """All members of a manifest that are JMESPath."""
    for key, value in found.items():
        path = (*keys, key)
        if isinstance(value, dict) and path[0] in ("list", "device", "detail", "telemetry", "authentication"):
            if key not in ("query", "headers", "body", "form", "parameters"):
                yield from _expressions(value, path)
        elif isinstance(value, list) and path == ("authentication", "steps"):
            for step in value:
                yield from _expressions(step, path)
        elif isinstance(value, str) and len(path) > 1 and (key in _EXPRESSIONS or path[-2] == "values"):
            plain = path[:-1] == ("authentication",) and found.get("kind") not in ("client_credentials", "login")
            if path[0] in ("settings", "credentials") or plain:
                continue
            yield [*path], value


def _check_functions(node: Any) -> None:
    """The library finds a wrong function only when it calls it. Raises JMESPathError."""
    if not isinstance(node, dict):
        return
    if node["type"] == "function_expression":
        known = Functions.FUNCTION_TABLE.get(node["value"])
        if known is None:
            raise JMESPathError(f"there is no function {node['value']}()")
        wanted, given = known["signature"], len(node["children"])
        variadic = bool(wanted) and wanted[-1].get("variadic", False)
        if given < len(wanted) or (given > len(wanted) and not variadic):
            raise JMESPathError(f"{node['value']}() takes {len(wanted)} arguments, not {given}")
    for child in node["children"]:
        _check_functions(child)


def _line_of(text: str, keys: list[str]) -> int:
    """The line of the deepest of these keys that the text has: its table's header, or its own line."""
    table: list[str] = []
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*\[+([\w.\"-]+)\]+", line)
        key = re.match(r"\s*([\w-]+)\s*=", line)
        if head:
            table = head[1].replace('"', "").split(".")
            path = table
        elif key:
            path = [*table, key[1]]
        else:
            continue
        if path == keys[: len(path)] and len(path) > depth:
            best, depth = number, len(path)
    return best
