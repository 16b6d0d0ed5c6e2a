"""Who may vouch for a store's certificate: the authorities of a file that an operator names, or the system's."""

import ssl

from schemas.settings import SettingsError


def trusting(ca: str, setting: str) -> ssl.SSLContext:
    """What checks certificates by the authorities in this PEM file; the system's where `ca` is empty.

    Raises SettingsError, which names the setting, when the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"{setting} is not usable: {ca}: {error.strerror or error}") from None
