"""Which vendors' clouds can be imported from: the manifests that come with fleetgate, and those of the operator."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from schemas.manifests.manifest import Manifest
from schemas.manifests.parsing import ManifestError, read

FOLDER = Path(__file__).parent.parent / "vendors"


class Catalog(NamedTuple):
    """All manifests by provider, which is the name of the file: the operator's own stand before those of fleetgate.

    `broken` says why a file is none. A provider is one or the other: one whose own manifest is broken is not read by
    that of fleetgate, which may lead elsewhere.
    """

    manifests: dict[str, Manifest]
    broken: dict[str, str]


def load(folder: str = "") -> Catalog:
    """What there is now: files are looked at again whenever they change."""
    found = Catalog({}, {})
    for place in (FOLDER, Path(folder)) if folder else (FOLDER,):
        for path in sorted(place.glob("*.toml")):
            found.manifests.pop(path.stem, None)
            found.broken.pop(path.stem, None)
            try:
                found.manifests[path.stem] = _read_once(path, _stamp(path))
            except ManifestError as error:
                found.broken[path.stem] = str(error)
    return found


def available(folder: str = "") -> dict[str, Manifest]:
    """The manifests that can be used, by provider."""
    return load(folder).manifests


def _stamp(path: Path) -> tuple[int, ...]:
    """Different after every change of a file."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=1024)
def _read_once(path: Path, _stamp: tuple[int, ...]) -> Manifest:
    return read(path)
