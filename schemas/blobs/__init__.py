"""Where the bytes of files and dumps lie: under the name of their SHA-256, in a folder or in an S3-compatible store."""

from pathlib import Path

from schemas.blobs.folder import FolderStore
from schemas.blobs.store import BlobStore
from schemas.settings import FileStore, SettingsError


def open_store(settings: FileStore) -> BlobStore:
    """The store of these settings. It may be away: that shows with the first call. Raises SettingsError."""
    if settings.file_store.startswith("s3://"):
        try:
            from schemas.blobs.s3 import S3Store
        except ImportError:
            raise SettingsError("FLEETGATE_FILE_STORE is a bucket: install fleetgate[s3]") from None
        return S3Store(settings)
    store = FolderStore(Path(settings.file_store).absolute())
    store.clear_up()
    return store
