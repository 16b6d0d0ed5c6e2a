"""What edges and importers agree on about cloud connectors."""

from msgspec import Struct


class Credentials(Struct, omit_defaults=True):
    """What is kept, sealed, of a connector: what a person entered, a code yet to be exchanged, and tokens.

    `found` is what the steps behind a token found, None until all were made.
    """

    entered: dict[str, str] = {}
    code: str = ""
    """An authorization code, `verifier` the proof that we asked for it (RFC 7636), `redirect_uri` where it came."""
    verifier: str = ""
    redirect_uri: str = ""
    access_token: str = ""
    refresh_token: str = ""
    found: dict[str, str] | None = None
    expires_at: float = 0.0
    """Seconds since 1970."""
