"""The keys that sign a vendor's licences: their public halves, to put into firmware, and a new one for the last."""

from msgspec import Struct

from gateway.api import paging
from gateway.api.callers.api_keys import PARTNER_KEY
from gateway.api.endpoint import endpoint
from gateway.api.paging import Page, PageQuery
from gateway.api.scopes import VendorScope
from gateway.permissions import Permission
from gateway.services import Services
from gateway.stores.licenses import signing_keys
from gateway.stores.licenses.signing_keys import LicenseSigningKey
from schemas.license_signatures import Algorithm
from schemas.secrets import LICENSE_KEYS


class NewLicenseKey(Struct):
    """What the new key signs with."""

    algorithm: Algorithm = "rsa"


@endpoint("GET", "/core/v1/partner/license_keys", caller=PARTNER_KEY, permission=Permission.READ)
async def list_license_keys(services: Services, partner: VendorScope, query: PageQuery) -> Page[LicenseSigningKey]:
    """List the keys that signed or sign the partner's licences, newest first."""
    rows = await signing_keys.listed(services.postgres, partner.id, *paging.slice_of(query))
    return paging.cut(rows, query.page, query.per_page)


@endpoint(
    "GET",
    "/core/v1/partner/license_keys/{key_id}",
    caller=PARTNER_KEY,
    permission=Permission.READ,
    errors={404: "License key not found."},
)
async def read_license_key(services: Services, partner: VendorScope, key_id: str) -> LicenseSigningKey:
    """Read one key's public half."""
    return await signing_keys.read(services.postgres, partner.id, key_id)


@endpoint(
    "POST",
    "/core/v1/partner/license_keys",
    caller=PARTNER_KEY,
    permission=Permission.ADMINISTER,
    status=201,
)
async def rotate_license_key(services: Services, partner: VendorScope, body: NewLicenseKey) -> LicenseSigningKey:
    """Make a key that signs from now on, in place of the one of its algorithm; what that one signed stays as it is."""
    vault = services.settings.vault(LICENSE_KEYS)
    async with services.postgres.acquire() as connection, connection.transaction():
        return await signing_keys.rotate(connection, vault, partner.id, body.algorithm)


ENDPOINTS = (list_license_keys, read_license_key, rotate_license_key)
