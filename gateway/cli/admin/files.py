"""`fleetgate admin files`: firmware and other files of a model, or of an organization."""

import argparse
import functools
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from gateway.cli.admin.parsing import Things, label, name, thing, verb
from gateway.cli.servers import find
from gateway.refusals import DoesNotFit, Unavailable
from gateway.stores import models
from gateway.stores.files import catalog, uploads
from gateway.stores.files.catalog import FIRMWARE, File
from gateway.stores.files.uploads import Upload
from gateway.stores.whose import Whose
from schemas import blob_references, blobs
from schemas.blobs.store import PIECE_BYTES, BlobsAway
from schemas.postgres import Connection

BYTES_MAX = 5 * 2**30
BAR_CHARACTERS = 30
SHOWN_EVERY_S = 0.1


def add(things: Things) -> None:
    """Add the subcommands."""
    verbs = thing(things, "files", "firmware and other files for devices")
    upload = verb(verbs, "upload", "a new file, with a progress bar", _upload)
    _belongs(upload)
    upload.add_argument("path", type=Path)
    upload.add_argument("--type", dest="file_type", type=name, default=FIRMWARE, help=f"default {FIRMWARE}")
    upload.add_argument("--version", type=name, help="of firmware, such as 1.4.0")
    upload.add_argument(
        "--min-version", type=name, help="only devices that have it or a later one are offered the file"
    )
    upload.add_argument("--name", type=name, help="default: that of the file")
    upload.add_argument("--description", type=label, default="")
    upload.add_argument("--notes", type=label, default="", help="for people")
    upload.add_argument("--signature", type=label)
    upload.add_argument("--release", action="store_true", help="at once, to all devices that it is for")
    _belongs(verb(verbs, "list", "the newest files", _list))
    for word, text, act in (
        ("release", "let devices fetch a draft", catalog.release),
        ("withdraw", "offer a file to nobody any more", catalog.withdraw),
    ):
        verb(verbs, word, text, _switch).add_argument("id", type=UUID)
        verbs.choices[word].set_defaults(switch=act)
    verb(verbs, "delete", "delete a draft or what was withdrawn", _delete).add_argument("id", type=UUID)


def _belongs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=UUID, metavar="ID", help="for all devices of a model")
    parser.add_argument(
        "--organization", type=UUID, metavar="ID", help="for an organization's own, of the model if any"
    )


async def _upload(connection: Connection, arguments: argparse.Namespace) -> Any:
    whose = await _whose(connection, arguments)
    members = {
        "name": arguments.name or arguments.path.name,
        "file_type": arguments.file_type,
        "desc": arguments.description,
        "version": arguments.version,
        "min_version": arguments.min_version,
        "signature": arguments.signature,
        "public_notes": arguments.notes,
    }
    file = await catalog.create(connection, whose, arguments.model, members)
    store = blobs.open_store(find())
    try:
        pieces = _read(arguments.path)
        lock = functools.partial(blob_references.lock, connection)
        upload = Upload(pieces, {}, BYTES_MAX, lock, uploads.FOR_UPDATERS)
        await store.put(upload)
        await uploads.fill(connection, file, upload)
    except BlobsAway as error:
        raise Unavailable(f"The file store is not available: {error}") from None
    except OSError as error:
        raise DoesNotFit(f"{arguments.path} cannot be read: {error.strerror}") from None
    finally:
        await store.close()
    if arguments.release:
        return _shown(await catalog.release(connection, whose, await catalog.lock(connection, whose, file.id), _now()))
    return _shown(await catalog.read(connection, whose, file.id))


async def _list(connection: Connection, arguments: argparse.Namespace) -> Any:
    whose = await _whose(connection, arguments)
    found = await catalog.page(
        connection,
        whose,
        model_id=arguments.model,
        file_type=None,
        status=None,
        before=None,
        offset=0,
        limit=catalog.FILES_MAX,
    )
    return [_shown(file) for file in found]


async def _switch(connection: Connection, arguments: argparse.Namespace) -> Any:
    whose = await catalog.owner(connection, arguments.id)
    file = await catalog.lock(connection, whose, arguments.id)
    return _shown(await arguments.switch(connection, whose, file, _now()))


async def _delete(connection: Connection, arguments: argparse.Namespace) -> Any:
    whose = await catalog.owner(connection, arguments.id)
    await catalog.delete(connection, await catalog.lock(connection, whose, arguments.id))
    return {"deleted": arguments.id}


async def _whose(connection: Connection, arguments: argparse.Namespace) -> Whose:
    if arguments.organization is not None:
        return Whose(arguments.organization, as_vendor=False)
    if arguments.model is None:
        raise DoesNotFit("Say --model, --organization or both: whose file it is")
    return Whose(await models.vendor_of(connection, arguments.model), as_vendor=True)


def _shown(file: File) -> dict[str, Any]:
    names = ("id", "name", "file_type", "version", "min_version", "status", "size", "checksum", "created_at")
    return {name: getattr(file, name) for name in names}


def _now() -> datetime:
    return datetime.now(UTC)


async def _read(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a file; how far they are is drawn on a terminal."""
    with path.open("rb") as file:
        whole, done, began, shown = max(1, path.stat().st_size), 0, time.monotonic(), 0.0
        while piece := file.read(PIECE_BYTES):
            done += len(piece)
            now = time.monotonic()
            if sys.stderr.isatty() and (now - shown >= SHOWN_EVERY_S or done == whole):
                shown = now
                _draw(done, whole, now - began)
            yield piece
    if shown:
        print(file=sys.stderr)


def _draw(done: int, whole: int, took_s: float) -> None:
    filled = "#" * (BAR_CHARACTERS * done // whole)
    rate = done / max(took_s, 0.001) / 1e6
    bar = f"{100 * done // whole:3} % [{filled:{BAR_CHARACTERS}}] {done / 1e6:.1f} MB, {rate:.1f} MB/s"
    print(f"\r{bar}", end="", file=sys.stderr, flush=True)
