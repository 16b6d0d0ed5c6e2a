"""What events tell of a device's model, looked up beside the log, which holds none of it."""

from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from schemas.postgres import Executor

DEVICES_MAX = 100_000


class ModelNames(NamedTuple):
    """What a model is to clients of the `/v2` API."""

    device_type: str
    product_number: str


class DeviceModels:
    """The models of devices. Which one a device has never changes and is remembered; models are read each time."""

    def __init__(self) -> None:
        self._model_ids: dict[UUID, UUID] = {}

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
        rows = await executor.fetch(
            "SELECT id, device_type, product_number FROM device_models WHERE id = ANY($1::uuid[])",
            list(set(of_devices.values())),
        )
        models = {row["id"]: ModelNames(row["device_type"], row["product_number"]) for row in rows}
        return {device_id: models[model_id] for device_id, model_id in of_devices.items() if model_id in models}
