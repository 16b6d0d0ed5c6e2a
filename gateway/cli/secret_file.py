"""Files that hold keys: readable by their owner only, and never half written."""

import os
from pathlib import Path
from typing import Any

import msgspec


def write_secret(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace a file by this JSON (mode 600), whole or not at all.

    A device's keys are shown only once, so the file is synced to disk before this returns, unless `durable` is false.
    """
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    with draft.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(draft, path)
