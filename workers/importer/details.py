"""What a vendor tells of a device only when it is asked for that one: member `$detail` of its item.

One device never stops the rest. One whose details cannot be had is skipped, so that what is known of it stays.
"""

from typing import Any

from schemas.manifests.texts import filled
from workers.importer.devices import Mapper, Skipped, text_of
from workers.importer.expressions import getter
from workers.importer.vendor import Vendor, VendorError


class Details:
    """Asks for them, where the manifest says that there are any."""

    def __init__(self, vendor: Vendor, mapper: Mapper) -> None:
        self._vendor = vendor
        self._mapper = mapper
        self._detail = vendor.manifest.detail
        self.wanted = self._detail is not None
        values = {} if self._detail is None else self._detail.values
        self._values = {name: getter(expression) for name, expression in values.items()}
        self._item = getter("@" if self._detail is None else self._detail.item)

    async def added(self, item: Any) -> Any:
        """The item with its details, or Skipped. Raises VendorError where nobody's can be had."""
        detail, vendor_id = self._detail, self._mapper.vendor_id(item)
        if detail is None or vendor_id is None or not isinstance(item, dict):
            return item
        values = {"id": vendor_id} | {name: text_of(get(item)) or "" for name, get in self._values.items()}
        known = self._vendor.values | values
        try:
            answer = await self._vendor.ask(
                "GET",
                self._vendor.url(detail.path, values),
                query={name: filled(text, known) for name, text in detail.query.items()},
                headers={name: filled(text, known) for name, text in detail.headers.items()},
            )
        except VendorError as error:
            if error.status in (None, 401) or error.retry_after_s is not None:
                raise
            return Skipped(vendor_id, f"its details cannot be had: the vendor answered {error.status}")
        found = self._item(answer.body)
        if not isinstance(found, dict):
            return Skipped(vendor_id, "its details are not where the manifest says")
        return item | {"$detail": found}
