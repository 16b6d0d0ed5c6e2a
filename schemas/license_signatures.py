"""How a licence proves that its vendor made it: a signature over the bytes of its data, in base64.

RSA-2048 with PKCS #1 v1.5 and SHA-256 is what devices in the field check; Ed25519 is for models that are new.
"""

import base64
import binascii
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key

Algorithm = Literal["rsa", "ed25519"]

RSA_BITS = 2048
_RSA_EXPONENT = 65537


class LicenseKey:
    """A key that signs licences."""

    def __init__(self, private: RSAPrivateKey | Ed25519PrivateKey) -> None:
        self._private = private

    def __repr__(self) -> str:
        return f"<LicenseKey {type(self._private).__name__}>"

    @classmethod
    def generate(cls, algorithm: Algorithm) -> "LicenseKey":
        """A new key; one of RSA takes some tenths of a second."""
        if algorithm == "ed25519":
            return cls(Ed25519PrivateKey.generate())
        return cls(generate_private_key(_RSA_EXPONENT, RSA_BITS))

    @classmethod
    def read(cls, private: bytes) -> "LicenseKey":
        """The key that `private_bytes` wrote."""
        key = serialization.load_der_private_key(private, None)
        assert isinstance(key, RSAPrivateKey | Ed25519PrivateKey)
        return cls(key)

    def private_bytes(self) -> bytes:
        """PKCS #8, not encrypted."""
        return self._private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_pem(self) -> str:
        """The public half, as programs of every language read it."""
        return (
            self._private.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )

    def sign(self, data: str) -> str:
        """The signature of data."""
        if isinstance(self._private, Ed25519PrivateKey):
            signature = self._private.sign(data.encode())
        else:
            signature = self._private.sign(data.encode(), padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode()


def is_good(public_pem: str, data: str, signature: str) -> bool:
    """Whether the owner of a public key signed this data. Raises ValueError for no public key of the two kinds."""
    public = serialization.load_pem_public_key(public_pem.encode())
    try:
        signed = base64.b64decode(signature, validate=True)
        if isinstance(public, Ed25519PublicKey):
            public.verify(signed, data.encode())
        elif isinstance(public, RSAPublicKey):
            public.verify(signed, data.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            raise ValueError(f"{type(public).__name__} signs no licences")
    except (InvalidSignature, binascii.Error):
        return False
    return True
