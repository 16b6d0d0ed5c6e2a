"""Talks to one vendor's cloud as its manifest says: asks for JSON, proves who asks, and knows where it leads."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from schemas.cloud import Credentials
from schemas.egress import EgressPolicy
from schemas.manifests.manifest import Manifest
from schemas.manifests.texts import PLACE, filled
from workers.importer import requests
from workers.importer.proofs import Proofs
from workers.importer.requests import Answer, Headers, Raw, Requests, Rest, VendorError

__all__ = ["Answer", "Headers", "Vendor", "VendorError", "joined"]


async def _no_rest(_: float) -> None:
    """For a session that nothing follows."""


class Vendor:
    """One connector's session with its vendor. `keep` is given the credentials whenever a token was got."""

    def __init__(
        self,
        manifest: Manifest,
        settings: Mapping[str, str],
        credentials: Credentials,
        policy: EgressPolicy,
        resolver: AbstractResolver,
        keep: Callable[[Credentials], Awaitable[None]],
        *,
        rest: Rest = _no_rest,
        rested_s: float = 0.0,
    ) -> None:
        self.manifest = manifest
        defaults = {
            name: field.default
            for name, field in (manifest.settings | manifest.credentials).items()
            if field.default is not None
        }
        self.values = {**defaults, **settings, **credentials.entered}
        self._renewed = False
        self._requests = Requests(policy, resolver, per_s=manifest.requests_per_s, rest=rest, rested_s=rested_s)
        self._proofs = Proofs(manifest.authentication, self.values, credentials, self._requests, keep, self.url)

    async def close(self) -> None:
        await self._requests.close()

    async def prepare(self) -> None:
        """See that there is a token, and what is found with it: addresses may need that. Raises VendorError."""
        await self._proofs.prepare()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        body: Any = None,
    ) -> Answer:
        """One authenticated request; the decoded JSON and the headers of the answer. Raises VendorError."""
        sent = {"Accept": "application/json", **headers}
        data = None if body is None else msgspec.json.encode(body)
        if data is not None:
            sent["Content-Type"] = "application/json"

        async def attempt() -> Raw:
            target = self._requests.target(url, query)
            proof = await self._proofs.headers(method, target, data)
            return await self._requests.once(method, target, sent | proof, data)

        try:
            return requests.decoded(await self._requests.patiently(method, url, attempt), method, url)
        except VendorError as error:
            # 403 stands for one device as well: a new token is tried once.
            if error.status != 401 and (error.status != 403 or self._renewed):
                raise
            if not self._proofs.renewable:
                raise
        self._renewed = True
        # A token may end before its time: one more attempt with a new one.
        self._proofs.expire()
        return requests.decoded(await self._requests.patiently(method, url, attempt), method, url)

    def url(self, path: str, values: Mapping[str, str] = {}) -> str:
        """The URL of a path of the manifest. Raises VendorError for a value that no path can hold."""
        known = {**self.values, **values}
        if not path.startswith(("https://", "http://")):
            return filled(self.manifest.base_url, known).rstrip("/") + _path(path, known)
        return _path(path, known)


def _path(text: str, known: Mapping[str, str]) -> str:
    """A path with values filled in, each as one part of it. Raises VendorError for a value that would be another."""

    def put(found: re.Match[str]) -> str:
        value = known.get(found[1], "")
        if value in (".", ".."):
            raise VendorError("A path of the vendor's cannot hold the value . or ..")
        return quote(value, safe="")

    return PLACE.sub(put, text)


def joined(base: str, reference: str) -> str:
    """A URL that a vendor named, from where it named it. Raises VendorError when it leads to another host."""
    try:
        here, there = URL(base), URL(base).join(URL(reference)).with_fragment(None)
        if (here.scheme, there.scheme) == ("https", "http") and there.is_default_port():
            there = there.with_scheme("https")  # as a program names itself that knows nothing of the proxy before it
        elsewhere = (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port)
    except ValueError:
        raise VendorError("The vendor named a next page that is not a URL") from None
    if elsewhere:
        raise VendorError(f"The vendor sends the list on to another host ({there.host}): credentials stay here")
    return str(there)
