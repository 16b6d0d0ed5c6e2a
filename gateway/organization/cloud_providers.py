"""The vendors' clouds that cloud connectors can be made for, and what a connector must be given for one of them."""

import re
from typing import Any
from uuid import UUID

from msgspec import Struct

from gateway.api.callers.api_keys import ORGANIZATION_KEY
from gateway.api.endpoint import endpoint
from gateway.api.scopes import OrganizationScope
from gateway.permissions import Permission
from gateway.refusals import DoesNotFit
from gateway.services import Services
from schemas.egress import EgressError, EgressPolicy, check_target, check_url
from schemas.manifests import catalog
from schemas.manifests.manifest import Field, Manifest

RESOURCE = "connectors"
PATH = "/core/v1/organization/connectors"


class Setting(Struct):
    """Something to enter: a setting when the connector is made, a credential when it is authorised."""

    name: str
    label: str
    help: str
    default: str | None


class Provider(Struct):
    """A vendor's cloud that devices can be imported from. With an `error`, which says why, it cannot."""

    id: str
    title: str
    notes: str
    consent: bool
    telemetry: bool
    settings: list[Setting]
    credentials: list[Setting]
    error: str | None = None


def _settings(fields: dict[str, Field]) -> list[Setting]:
    return [Setting(name, field.label, field.help, field.default) for name, field in fields.items()]


@endpoint("GET", f"{PATH}/providers", caller=ORGANIZATION_KEY, permission=Permission.READ)
async def list_providers(services: Services, organization: OrganizationScope) -> list[Provider]:
    """List the vendors' clouds that there are manifests for, and the manifests that cannot be used, with the reason."""
    found = catalog.load(services.settings.manifests)
    usable = [
        Provider(
            provider,
            manifest.title,
            manifest.notes,
            manifest.consents,
            manifest.telemetry is not None,
            _settings(manifest.settings),
            _settings(manifest.credentials),
        )
        for provider, manifest in found.manifests.items()
    ]
    broken = [Provider(provider, provider, "", False, False, [], [], error) for provider, error in found.broken.items()]
    return usable + broken


def manifest_of(services: Services, provider: str) -> Manifest:
    """The manifest of a provider. Raises DoesNotFit."""
    known = catalog.load(services.settings.manifests)
    found = known.manifests.get(provider)
    if provider in known.broken:
        raise DoesNotFit(f"Provider: its manifest cannot be used: {known.broken[provider]}")
    if found is None:
        raise DoesNotFit("Provider: there is none of this name; GET /core/v1/organization/connectors/providers")
    return found


def checked(manifest: Manifest, given: dict[str, Any]) -> dict[str, str]:
    """The settings, which must be those of the manifest. Raises DoesNotFit."""
    for name in given:
        if name not in manifest.settings:
            raise DoesNotFit(f"Settings: the provider has no {name}")
    for name, field in manifest.settings.items():
        value = given.get(name, field.default)
        if value is None:
            raise DoesNotFit(f"Settings: {name} ({field.label}) can't be blank")
        if not re.fullmatch(field.pattern, value):
            raise DoesNotFit(f"Settings: {name} ({field.label}) does not have the form {field.pattern}")
    return given


async def check_targets(
    services: Services, organization_id: UUID, manifest: Manifest, settings: dict[str, str]
) -> None:
    """Raises DoesNotFit when the settings lead inward. Waits for name servers: no lock is held yet."""
    policy = EgressPolicy(services.settings.egress_allow, http=services.settings.egress_http)
    for url in manifest.urls(settings):
        try:
            await check_target(check_url(url, policy), services.resolver, organization_id)
        except EgressError as error:
            raise DoesNotFit(f"Settings: {error}") from None


ENDPOINTS = (list_providers,)
