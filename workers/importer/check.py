"""`fleetgate admin connectors check MANIFEST`: reads a vendor's list once and shows the first devices; stores nothing.

What the manifest asks for and is not given by --set is asked for, or read from standard input as NAME=VALUE lines.
"""

import argparse
import asyncio
import getpass
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from schemas.cloud import Credentials
from schemas.egress import EgressError, EgressPolicy, GuardedResolver
from schemas.manifests import parsing
from schemas.manifests.authentication import AuthorizationCode
from schemas.manifests.manifest import Field, Manifest, Telemetry
from schemas.manifests.parsing import ManifestError
from schemas.settings import PREFIX
from workers.importer.collection import Collection, key_of, whole
from workers.importer.details import Details
from workers.importer.devices import Listed, Mapper, Skipped
from workers.importer.expressions import ExpressionError, strict_getter
from workers.importer.lists import Reading
from workers.importer.readings import Reader
from workers.importer.telemetry import asks_each
from workers.importer.vendor import Vendor, VendorError

SHOWN = 20
WIDTH_MAX = 40
_COLUMNS = (*Listed._fields, "telemetry")


def main() -> int:
    """Check one manifest; 1 when it or its cloud is not as it should be."""
    parser = argparse.ArgumentParser(prog="fleetgate admin connectors check", description=__doc__)
    parser.add_argument("manifest", type=Path, help="a TOML file")
    parser.add_argument(
        "--set", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a setting; may be repeated"
    )
    arguments = parser.parse_args()
    try:
        manifest = parsing.read(arguments.manifest)
        values = _values(manifest, arguments.given)
        return asyncio.run(_check(manifest, values))
    except (ManifestError, VendorError, OSError) as error:
        print(f"fleetgate admin connectors check: {error}", file=sys.stderr)
        if isinstance(error, VendorError) and error.words:
            print(f"  the vendor's own words: {_cut(error.words, len(error.words))}", file=sys.stderr)
        if isinstance(error.__cause__, EgressError):
            print(f"{PREFIX}EGRESS_ALLOW and {PREFIX}EGRESS_HTTP say where connections may lead", file=sys.stderr)
        return 1


def _values(manifest: Manifest, given: list[str]) -> dict[str, str]:
    lines = given if sys.stdin.isatty() else [*given, *sys.stdin.read().splitlines()]
    values = {name.strip(): value for name, _, value in (line.partition("=") for line in lines) if name.strip()}
    fields = manifest.settings | manifest.credentials
    if isinstance(manifest.authentication, AuthorizationCode):
        fields = manifest.settings | {"access_token": Field("Access token (of a consent passed elsewhere)")}
    for name in values:
        if name not in fields:
            raise ManifestError(f"the manifest has no {name}: it has {', '.join(fields)}")
    for name, field in fields.items():
        if name not in values and field.default is not None:
            values[name] = field.default
        if name not in values and sys.stdin.isatty():
            ask = input if name in manifest.settings else getpass.getpass
            values[name] = ask(f"{field.label}: ")
        if name not in values:
            raise ManifestError(f"{name} ({field.label}) is missing: give it as a line {name}=…")
        if not re.fullmatch(field.pattern, values[name]):
            raise ManifestError(f"{name} ({field.label}) does not have the form {field.pattern}")
    return values


async def _check(manifest: Manifest, values: dict[str, str]) -> int:
    async def keep(_: Credentials) -> None:
        """Tokens last as long as this check does."""

    token = values.get("access_token", "")
    credentials = Credentials(entered=values, access_token=token, expires_at=2.0**40 if token else 0.0)
    policy = EgressPolicy(
        os.environ.get(f"{PREFIX}EGRESS_ALLOW", ""), http=os.environ.get(f"{PREFIX}EGRESS_HTTP", "") == "true"
    )
    resolver = GuardedResolver(policy)
    vendor = Vendor(manifest, {}, credentials, policy, resolver, keep)
    mapper = Mapper(manifest.device)
    telemetry = manifest.telemetry
    reader = None if telemetry is None or telemetry.list is not None else Reader(manifest, telemetry)
    rows: list[tuple[str, ...]] = []
    skipped: Counter[str] = Counter()
    first_skipped: Any = None
    count = 0
    misfits: list[str] = []
    try:
        details = Details(vendor, mapper)
        collection = Collection(vendor, manifest.list, lambda item: key_of(mapper, item))
        seen: set[str] = set()
        async for part in collection.parts():
            count += len(part.items)
            seen.update(key_of(mapper, item) for item in part.unfiltered or part.items)
            for item in part.items:
                detailed = await details.added(item) if len(rows) < SHOWN else item
                misfits = misfits or _misfits(manifest, detailed)
                found = detailed if isinstance(detailed, Skipped) else mapper.read(detailed)
                if isinstance(found, Skipped):
                    first_skipped = first_skipped or item
                    skipped[found.reason] += 1
                elif len(rows) < SHOWN:
                    message = {} if reader is None else reader.message(item)
                    rows.append((*(value or "" for value in found), _words(message)))
            print(f"{count} items so far", file=sys.stderr)
        collection.check(len(seen), count - len(seen))
        if telemetry is not None and telemetry.list is not None:
            values_of = await _telemetry(vendor, telemetry, [row[0] for row in rows])
            rows = [(*row[:-1], values_of.get(row[0], "")) for row in rows]
    finally:
        await vendor.close()
        await resolver.close()
    _print(rows)
    print(f"{count} items in a complete list; {skipped.total()} are no devices", file=sys.stderr)
    for reason, times in skipped.items():
        print(f"  {times} ×: {reason}", file=sys.stderr)
    if isinstance(first_skipped, dict):
        print(f"  the first of them has the members {', '.join(first_skipped)}", file=sys.stderr)
    for misfit in misfits:
        print(f"  {misfit}", file=sys.stderr)
    if not rows:
        print("fleetgate admin connectors check: no device could be read", file=sys.stderr)
        return 1
    if telemetry is not None and telemetry.list is not None and not any(row[-1] for row in rows):
        print("fleetgate admin connectors check: no telemetry could be read", file=sys.stderr)
        return 1
    return 0


async def _telemetry(vendor: Vendor, telemetry: Telemetry, vendor_ids: list[str]) -> dict[str, str]:
    """Telemetry that has a request of its own, in few words, by the vendor's id: of the first device, or of all."""
    assert telemetry.list is not None
    reader = Reader(vendor.manifest, telemetry)
    found: dict[str, str] = {}
    if asks_each(telemetry.list):
        for first in vendor_ids[:1]:
            async for part in Reading(vendor, telemetry.list, {"id": first}).parts():
                found |= {first: _words(reader.message(part.items[0]))} if part.items else {}
        return found
    async for part in Collection(vendor, telemetry.list, whole).parts():
        for item in part.items:
            vendor_id = reader.vendor_id(item)
            if vendor_id is not None and vendor_id in vendor_ids:
                found[vendor_id] = _words(reader.message(item))
    return found


def _misfits(manifest: Manifest, item: Any) -> list[str]:
    """Expressions that cannot be applied to an item; in a run they find nothing."""
    if isinstance(item, Skipped):
        return []
    telemetry = manifest.telemetry
    expressions = {f"device.{name}": value for name, value in asdict(manifest.device).items() if value}
    if telemetry is not None and telemetry.list is None:
        expressions |= {f"telemetry.values.{name}": value for name, value in telemetry.values.items()}
        own = {"online": telemetry.online, "time": telemetry.time}
        expressions |= {f"telemetry.{name}": value for name, value in own.items() if value}
    found = []
    for name, expression in expressions.items():
        try:
            strict_getter(expression)(item)
        except ExpressionError as error:
            found.append(f"{name}: `{expression}` does not fit the vendor's items: {error}")
    return found


def _words(message: dict[str, Any]) -> str:
    """Telemetry in few words: `online, temperature 21.5`."""
    values = [f"{name} {value}" for name, value in message.get("telemetries", {}).items()]
    return ", ".join([message["status"], *values] if "status" in message else values)


def _print(rows: list[tuple[str, ...]]) -> None:
    widths = [min(WIDTH_MAX, max(len(row[n]) for row in (_COLUMNS, *rows))) for n in range(len(_COLUMNS))]
    for row in (_COLUMNS, *rows):
        print("  ".join(_cut(value, width) for value, width in zip(row, widths, strict=True)).rstrip())


def _cut(value: str, width: int) -> str:
    value = "".join(letter if letter.isprintable() else "?" for letter in value)
    return (value if len(value) <= width else value[: width - 1] + "…").ljust(width)


if __name__ == "__main__":
    sys.exit(main())
