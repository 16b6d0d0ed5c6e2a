"""What receivers need to verify asymmetric signatures: a discovery document, and the public keys it leads to."""

from typing import Any

from gateway.api.endpoint import Endpoint, endpoint
from gateway.services import Services
from schemas import signing_keys
from schemas.signing import issuer

PREFIX = "/data-connector"


@endpoint("GET", f"{PREFIX}/.well-known/openid-configuration")
async def discover(services: Services) -> dict[str, Any]:
    """Read where the public keys are."""
    base = issuer(services.url)
    return {"issuer": base, "jwks_uri": f"{base}/jwks.json", "id_token_signing_alg_values_supported": ["ES256"]}


@endpoint("GET", f"{PREFIX}/jwks.json")
async def public_keys(services: Services) -> dict[str, Any]:
    """Read the public keys, as a JSON Web Key Set."""
    async with services.postgres.acquire() as connection:
        return {"keys": await signing_keys.shown(connection, services.clock())}


ENDPOINTS: tuple[Endpoint, ...] = (discover, public_keys)
