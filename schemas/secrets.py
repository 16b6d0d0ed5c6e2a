"""Secrets at rest, and secrets that are derived instead of stored.

What must be shown or used again (signature secrets, custom headers, vendors' credentials) is encrypted with AES-256-GCM
under a key derived for its purpose from FLEETGATE_SECRETS_KEY, or from the master key where that is not set, and bound
to the row it belongs to. What only has to be checked again (secrets of service account keys) is derived from the master
key and the row's id.

The key is rotated while everything runs: with the new one as FLEETGATE_SECRETS_KEY and the old one as
FLEETGATE_SECRETS_KEY_PREVIOUS all secrets can be read; `fleetgate admin secrets rotate` encrypts them anew, and the old
one is needed no more.
"""

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CONNECTOR_SECRETS = "fg connectors"
"""Purpose of data connectors' headers and signature secrets; the owner is the connector's id."""
VENDOR_CREDENTIALS = "fg vendors"
"""Purpose of vendors' credentials; the owner is the cloud connector's id."""
SIGNING_KEYS = "fg signing keys"
"""Purpose of the private keys of asymmetric signatures; the owner is the key's id."""
SIGN_INS = "fg sign-ins"
"""Purpose of what a browser keeps while its person is at the identity provider; it is in no row."""
LICENSE_KEYS = "fg license keys"
"""Purpose of the private keys by which vendors sign licences; the owner is the key's id."""

_NONCE_BYTES = 12


class SecretError(Exception):
    """A stored secret was not encrypted with this key, or for this row."""


class Vault:
    """Encrypts the secrets of one purpose with `key`, decrypts them with that or an older one.

    Keys are 64 hex digits, empty older ones none; `purpose` has at most 16 bytes.
    """

    def __init__(self, key: str, purpose: str, *older: str) -> None:
        self._ciphers = [_cipher(key, purpose) for key in (key, *older) if key]

    def __repr__(self) -> str:
        return "<Vault>"

    def seal(self, secret: bytes, owner: str) -> bytes:
        """Encrypt a secret of the row `owner`; nothing stays nothing."""
        if not secret:
            return b""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, secret, owner.encode())

    def open(self, sealed: bytes, owner: str) -> bytes:
        """Decrypt it again. Raises SecretError."""
        if not sealed:
            return b""
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.encode())
            except InvalidTag:
                continue
        raise SecretError(f"the secret of {owner} was encrypted with another key")

    def seal_anew(self, sealed: bytes, owner: str) -> bytes:
        """The same secret under the newest key. Raises SecretError."""
        return self.seal(self.open(sealed, owner), owner)


def _cipher(key: str, purpose: str) -> AESGCM:
    derived = hashlib.blake2b(key=bytes.fromhex(key), digest_size=32, person=purpose.encode())
    return AESGCM(derived.digest())


def derived_secret(master_key: str, key_id: str) -> str:
    """The secret of a service account key: 32 hex characters that follow from its id."""
    mac = hashlib.blake2b(key_id.encode(), key=bytes.fromhex(master_key), digest_size=16, person=b"fg account key")
    return mac.hexdigest()
