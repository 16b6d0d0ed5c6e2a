"""Where the bytes of files and dumps lie: under the name of their SHA-256, in a folder or in an S3-compatible store."""

from pathlib import Path

from schemas.blobs.folder import FolderStore
from schemas.blobs.store import BlobStore
from schemas.settings import Shared


def open_store(settings: Shared) -> BlobStore:
    """The store of these settings. It may be away: that shows with the first call."""
    store = FolderStore(Path(settings.file_store).absolute())
    store.clear_up()
    return store
