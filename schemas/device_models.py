"""What events tell of a device's model, looked up beside the log, which holds none of it."""

import time
from collections.abc import Callable, Collection
from typing import NamedTuple
from uuid import UUID

from schemas.postgres import Executor

DEVICES_MAX = 100_000
NAMES_KEPT_S = 1.0


class ModelNames(NamedTuple):
    """What a model is to clients of the `/v2` API."""

    device_type: str
    product_number: str


class DeviceModels:
    """The models of devices. Which one a device has never changes and is remembered; what a model is called is kept
    for a second (measured: reading it with each page of events cost a thirtieth of a delivery).
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._model_ids: dict[UUID, UUID] = {}
        self._names: dict[UUID, ModelNames] = {}
        self._names_until = 0.0
        self._monotonic = monotonic

    def __repr__(self) -> str:
        return f"<DeviceModels devices={len(self._model_ids)}>"

    async def of(self, executor: Executor, device_ids: Collection[UUID]) -> dict[UUID, ModelNames]:
        """For each device that there is, or was."""
        unknown = [device_id for device_id in device_ids if device_id not in self._model_ids]
        if len(self._model_ids) + len(unknown) > DEVICES_MAX:
            self._model_ids.clear()
            unknown = list(device_ids)
        if unknown:
            rows = await executor.fetch("SELECT id, model_id FROM devices WHERE id = ANY($1::uuid[])", unknown)
            self._model_ids.update((row["id"], row["model_id"]) for row in rows)
        of_devices = {i: self._model_ids[i] for i in device_ids if i in self._model_ids}
        names = await self._named(executor, set(of_devices.values()))
        return {device_id: names[model_id] for device_id, model_id in of_devices.items() if model_id in names}

    async def _named(self, executor: Executor, model_ids: set[UUID]) -> dict[UUID, ModelNames]:
        """What these models are called, and maybe others."""
        now = self._monotonic()
        if now >= self._names_until:
            self._names, self._names_until = {}, now + NAMES_KEPT_S
        names = self._names
        if unknown := model_ids.difference(names):
            rows = await executor.fetch(
                "SELECT id, device_type, product_number FROM device_models WHERE id = ANY($1::uuid[])", list(unknown)
            )
            names.update((row["id"], ModelNames(row["device_type"], row["product_number"])) for row in rows)
        return names
